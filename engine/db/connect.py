"""Opens a connection alias, with the driver for its kind of connection string."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from engine.db import dsn
from engine.db.connection import Connection
from engine.db.dialect import Dialect, by_driver_name, dialects
from engine.db.drivers import mssql, odbc, sqlite
from engine.db.timeouts import Timeouts
from engine.errors import ConnectionFailed

sqlite_file = sqlite.file_of


def open_source(alias: str, text: str, root: Path, timeouts: Timeouts) -> Connection:
    """Open a connection for reading; a SQLite file must exist. Raises `ConnectionFailed`."""
    return _open(alias, text, root, timeouts, create=False, read_only=True)


def open_ledger(alias: str, text: str, root: Path, timeouts: Timeouts, *, create: bool) -> Connection:
    """Open the ledger's connection; a missing SQLite file is created if `create`. Raises `ConnectionFailed`."""
    return _open(alias, text, root, timeouts, create=create, read_only=not create)


def open_target(alias: str, text: str, root: Path, timeouts: Timeouts) -> Connection:
    """Open a connection that a job writes to; a SQLite file must exist. Raises `ConnectionFailed`."""
    return _open(alias, text, root, timeouts, create=False, read_only=False)


def guess_dialect(text: str, root: Path) -> Dialect:
    """Guess the dialect from a connection string, without connecting; SQLite's if it suggests none."""
    known = dialects(root)
    try:
        kind = dsn.kind(text)
    except ConnectionFailed:
        return known["sqlite"]
    if kind == "adonet":
        return known["mssql"]
    if kind == "odbc":
        driver = dsn.split(text).get("driver") or ""
        return by_driver_name(driver, known.values()) or known["sqlite"]
    return known["sqlite"]


def _open(alias: str, text: str, root: Path, timeouts: Timeouts, *, create: bool, read_only: bool) -> Connection:
    try:
        opened = _open_kind(text, root, timeouts, create=create, read_only=read_only)
    except ConnectionFailed as failure:
        raise ConnectionFailed(f"connection {alias!r}: {failure}") from failure.__cause__
    # A file that vanishes during a run is not recreated: its delivered records would be sent again.
    opened.again = partial(_open, alias, text, root, timeouts, create=False, read_only=read_only)
    return opened


def _open_kind(text: str, root: Path, timeouts: Timeouts, *, create: bool, read_only: bool) -> Connection:
    kind = dsn.kind(text)
    if kind == "sqlite":
        return sqlite.opened(text, root, create=create, read_only=read_only)
    return odbc.opened(text, root, timeouts) if kind == "odbc" else mssql.opened(text, root, timeouts)
