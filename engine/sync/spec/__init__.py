"""The pipeline spec: its semantic checks, and the objects built from it."""
