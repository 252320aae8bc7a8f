"""Generated HR data and a local API, to see the engine at work without a company around it."""
