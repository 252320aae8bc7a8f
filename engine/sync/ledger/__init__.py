"""The ledger: what was delivered, and what happened to every record."""
