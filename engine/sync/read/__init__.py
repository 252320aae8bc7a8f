"""Reads the source: pages by key, exclusion of delivered records, incremental reading."""
