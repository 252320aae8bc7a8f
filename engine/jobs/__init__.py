"""The second wing: background jobs. Each is a file with typed parameters, perhaps items, and ordered steps."""
