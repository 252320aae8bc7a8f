"""What expressions and SQL templates may call, and how much they may make."""
