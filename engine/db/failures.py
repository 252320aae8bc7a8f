"""What a driver's error means: the database's own words, and whether the connection or the statement is at fault."""

from __future__ import annotations

import re
import sqlite3

from engine.db.dialect import Dialect
from engine.errors import DatabaseError

_CLOSED = "closed (connection|database)|connection (has been|is) closed"
_REFUSED = ("22", "23", "42")
"""SQLSTATE classes of statements that fail again however often they are tried: data, constraints, names and rights."""


def database_error(failure: Exception, dialect: Dialect | None = None) -> DatabaseError:
    """A driver's error with the database's own words and its SQLSTATE, where it has one."""
    arguments = failure.args
    words: str = str(failure) or type(failure).__name__
    sqlstate: str | None = getattr(failure, "sqlstate", None)
    if len(arguments) >= 2 and isinstance(arguments[1], str):
        words, sqlstate = arguments[1], str(arguments[0])
    return DatabaseError(
        words, sqlstate, lost=_is_lost(words, sqlstate, dialect), refused=_is_refused(failure, sqlstate)
    )


def _is_lost(words: str, sqlstate: str | None, dialect: Dialect | None) -> bool:
    """SQLSTATE class 08, a connection that is closed, or what the dialect's drivers say of one."""
    if sqlstate and sqlstate.startswith("08"):
        return True
    text = f"{sqlstate or ''} {words}"
    pattern = f"{_CLOSED}|{dialect.lost}" if dialect and dialect.lost else _CLOSED
    return re.search(pattern, text, re.IGNORECASE) is not None


def _is_refused(failure: Exception, sqlstate: str | None) -> bool:
    """42000 alone says nothing: SQL Server's drivers give it to deadlocks and full disks too."""
    if isinstance(failure, sqlite3.Error):
        code = getattr(failure, "sqlite_errorcode", None)
        return code is not None and code & 0xFF not in _SQLITE_PASSING
    return bool(sqlstate) and str(sqlstate)[:2] in _REFUSED and sqlstate != "42000"


_SQLITE_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
                   sqlite3.SQLITE_PROTOCOL)  # fmt: skip
"""https://www.sqlite.org/rescode.html: somebody else has the file, or its disk does not answer."""
