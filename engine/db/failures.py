"""What a driver's error means: the database's own words, and whether the connection or the statement is at fault."""

from __future__ import annotations

import re

from engine.errors import DatabaseError

_CLOSED = "closed (connection|database)|connection (has been|is) closed"
_REFUSED = ("22", "23", "42")
"""SQLSTATE classes of statements that fail again however often they are tried: data, constraints, names and rights."""


def database_error(failure: Exception, lost: str | None = None) -> DatabaseError:
    """A driver's error with the database's own words and its SQLSTATE, where it has one.

    `lost` is the dialect's pattern for what its drivers say of a connection that is gone.
    """
    arguments = failure.args
    words: str = str(failure) or type(failure).__name__
    sqlstate: str | None = getattr(failure, "sqlstate", None)
    if len(arguments) >= 2 and isinstance(arguments[1], str):
        words, sqlstate = arguments[1], str(arguments[0])
    return DatabaseError(words, sqlstate, lost=is_lost(words, sqlstate, lost), refused=_is_refused(sqlstate))


def is_lost(words: str, sqlstate: str | None, pattern: str | None) -> bool:
    """SQLSTATE class 08, a connection that is closed, or what the dialect's drivers say of one."""
    if sqlstate and sqlstate.startswith("08"):
        return True
    text = f"{sqlstate or ''} {words}"
    return re.search(f"{_CLOSED}|{pattern}" if pattern else _CLOSED, text, re.IGNORECASE) is not None


def _is_refused(sqlstate: str | None) -> bool:
    """42000 alone says nothing: SQL Server's drivers give it to deadlocks and full disks too."""
    return bool(sqlstate) and str(sqlstate)[:2] in _REFUSED and sqlstate != "42000"
