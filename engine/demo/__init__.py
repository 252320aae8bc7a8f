"""Generated HR data and a local API, to try the engine without real systems."""
