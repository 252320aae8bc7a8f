"""Text as the ledger's database can hold it: not every database is Unicode."""

from __future__ import annotations

import codecs
import re


def codec(name: str) -> str | None:
    """Return Python's codec for a database's encoding; None if it holds every text."""
    if re.match(r"utf|sql_ascii|ucs|binary", name, re.IGNORECASE):
        return None
    try:
        return codecs.lookup(re.sub(r"(?i)^win(?=\d)", "windows-", name)).name
    except LookupError:
        return "ascii"


def fits(text: str, codec: str | None) -> bool:
    """True if the database can hold a text."""
    try:
        text.encode(codec or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def storable(text: str, codec: str | None = None) -> str:
    """Escape the characters that the database cannot hold, and NUL."""
    whole = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return whole if codec is None else whole.encode(codec, "backslashreplace").decode(codec)
