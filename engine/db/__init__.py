"""Connections, dialects and SQL statements."""
