"""What every kind of run shares: its lease and its due times."""
