"""HTTP calls: session, credentials, deadlines."""
