"""The engine's tables in a user's database: found or created, checked and migrated."""
