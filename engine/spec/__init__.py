"""Turns the text of a spec into a frozen pipeline: read, interpolate, check, lint, build."""
