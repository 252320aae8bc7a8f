"""What every kind of run has: its lease and its due times."""
