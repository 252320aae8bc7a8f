"""Tables of the engine in somebody's database: found or made, written with retries, never lost in silence."""
