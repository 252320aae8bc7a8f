"""What expressions and SQL templates may call, and how much output they may produce."""
