"""Pipelines: records from a database to an API."""
