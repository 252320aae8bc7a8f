"""The stages of a run. Each is a petl table or a plain function, and usable alone on any petl table."""
