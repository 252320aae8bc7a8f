"""One module per driver."""
