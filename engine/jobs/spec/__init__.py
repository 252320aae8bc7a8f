"""Reads job files and project files."""
