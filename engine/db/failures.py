"""What a driver's error means: the database's own message, and whether the connection or the statement is at fault."""

from __future__ import annotations

import re

from engine.errors import DatabaseError

_CLOSED = "closed (connection|database)|connection (has been|is) closed"
_REFUSED = ("22", "23", "42")
"""SQLSTATE classes of errors that a retry cannot fix: data, constraints, names and rights."""


def database_error(failure: Exception, lost: str | None = None) -> DatabaseError:
    """Convert a driver's error; keeps the database's own message, and its SQLSTATE if there is one.

    `lost` is the dialect's pattern for driver messages that mean a lost connection.
    """
    arguments = failure.args
    words: str = str(failure) or type(failure).__name__
    sqlstate: str | None = getattr(failure, "sqlstate", None)
    if len(arguments) >= 2 and isinstance(arguments[1], str):
        words, sqlstate = arguments[1], str(arguments[0])
    return DatabaseError(words, sqlstate, lost=is_lost(words, sqlstate, lost), refused=_is_refused(sqlstate))


def is_lost(words: str, sqlstate: str | None, pattern: str | None) -> bool:
    """True for SQLSTATE class 08, a closed connection, or a message that matches the dialect's pattern."""
    if sqlstate and sqlstate.startswith("08"):
        return True
    text = f"{sqlstate or ''} {words}"
    return re.search(f"{_CLOSED}|{pattern}" if pattern else _CLOSED, text, re.IGNORECASE) is not None


def _is_refused(sqlstate: str | None) -> bool:
    """42000 alone is ambiguous: SQL Server's drivers use it for deadlocks and full disks too."""
    return bool(sqlstate) and str(sqlstate)[:2] in _REFUSED and sqlstate != "42000"
