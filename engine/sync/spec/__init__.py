"""The pipeline spec: what it means, and the objects made from it."""
