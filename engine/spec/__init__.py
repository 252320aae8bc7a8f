"""From the text of a spec to a frozen pipeline: read, interpolate, check, lint, build."""
