"""SyncLedger: move records from databases to third-party APIs, with a ledger of what was delivered."""

__version__ = "0.1.0"
