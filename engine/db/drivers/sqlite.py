"""SQLite files: opened by a path relative to the project's folder."""

from __future__ import annotations

import os
import shlex
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.db import dsn
from engine.db.connection import Connection
from engine.db.dialect import by_reported_name
from engine.db.drivers.results import Results
from engine.db.failures import is_lost
from engine.db.templates import Templates
from engine.errors import ConnectionFailed, DatabaseError

BUSY_SECONDS = 10
_PASSING = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
)
"""Transient errors: another process locks the file, or its disk does not respond."""
_APPLICATION = int.from_bytes(b"SyLe")
"""Marks a file as a ledger. https://www.sqlite.org/pragma.html#pragma_application_id"""


class SQLite:
    """Python's sqlite3. It has no sessions that another connection could see."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, raw: sqlite3.Connection, keeps_journal: bool = False) -> None:
        self.raw, self._keeps_journal = raw, keeps_journal

    def execute(self, text: str, parameters: Sequence[Any]) -> Results:
        """Run a statement."""
        cursor = self.raw.cursor()
        cursor.execute(text, parameters)
        return Results(cursor)

    def begin(self) -> None:
        """Take the write lock at once: a transaction that began by reading may fail to become a writing one."""
        self.raw.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit the transaction."""
        self.raw.commit()

    def rollback(self) -> None:
        """Roll the transaction back."""
        self.raw.rollback()

    def autocommit(self) -> None:
        """Do nothing: a connection without isolation level always autocommits."""

    def limit(self, seconds: int) -> None:
        """Do nothing: statements end by themselves or by `cancel`."""

    def bind(self, value: Any) -> Any:
        """Convert times to text, in the form that SQLite's own functions return; types that SQLite lacks become text too."""
        if isinstance(value, datetime):
            return value.isoformat(" ", "microseconds")
        return value if isinstance(value, (int, float, bytes, type(None))) else str(value)

    def cancel(self) -> bool:
        """Interrupt whatever is running. https://www.sqlite.org/c3ref/interrupt.html"""
        self.raw.interrupt()
        return True

    def lenient(self, on: bool) -> None:
        """Decode bytes that are not UTF-8 to surrogates."""
        self.raw.text_factory = (lambda data: data.decode("utf-8", "surrogateescape")) if on else str

    def error(self, failure: Exception, lost: str | None) -> DatabaseError:
        """Convert an error; SQLite has result codes instead of SQLSTATEs. https://www.sqlite.org/rescode.html"""
        code = getattr(failure, "sqlite_errorcode", None)
        return DatabaseError(
            str(failure) or type(failure).__name__,
            lost=is_lost(str(failure), None, lost),
            refused=code is not None and code & 0xFF not in _PASSING,
            undecodable="decode to UTF-8" in str(failure),  # sqlite3 raises this one itself, without a code
        )

    def close(self) -> None:
        """Close the connection, and delete the rollback journal that was kept unless another connection is writing."""
        with suppress(*self.errors):
            if self._keeps_journal:
                self.raw.execute("PRAGMA journal_mode = DELETE")
        self.raw.close()


def file_of(text: str, root: Path) -> Path:
    """Return the file of a `sqlite:///` string; relative paths start at the project root."""
    return root / text.removeprefix(dsn.SQLITE)


def opened(text: str, root: Path, *, create: bool, read_only: bool) -> Connection:
    """Open a file. A missing file is created if `create`, its folder never. Raises `ConnectionFailed`."""
    file = file_of(text, root)
    if not file.is_file():
        _check_absent(file, root, create=create)
    try:
        if create and not file.exists():
            _create(file)
        mode = "ro" if read_only else "rw"
        raw = sqlite3.connect(f"{_uri(file)}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_SECONDS)
        keeps_journal = not read_only and _keep_journal(raw)
    except (sqlite3.Error, OSError) as failure:
        raise ConnectionFailed(f"cannot open the SQLite file {file}: {failure}") from failure
    dialect = by_reported_name("SQLite", root)
    return Connection(SQLite(raw, keeps_journal), dialect, Templates(root, dialect), str(file))


def _check_absent(file: Path, root: Path, *, create: bool) -> None:
    """Raise `ConnectionFailed` if a missing file must not be created, or cannot be."""
    if not create:
        raise ConnectionFailed(
            f"there is no SQLite file {file}; a source is never created (check the path, seen from {root})"
        )
    if not file.parent.is_dir():
        raise ConnectionFailed(
            f"there is no folder {file.parent} for the SQLite file {file.name}, and a folder is never created: check the path "
            f"(seen from {root}), or make it: mkdir -p {shlex.quote(str(file.parent))}"
        )


def _create(file: Path) -> None:
    """Create a database that only its owner can read: a ledger holds what was sent. SQLite gives its journal the same mode.

    The file gets its name only once it has its first page, so that a killed run never leaves an empty file behind.
    """
    handle, made = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(handle)
    try:
        connection = sqlite3.connect(made)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.close()
        with suppress(FileExistsError):  # another run created it first
            os.link(made, file)
    finally:
        os.unlink(made)


def readable_by_others(file: Path) -> bool:
    """True if the file is not empty and users other than its owner may read it."""
    if os.name != "posix" or not file.is_file():
        return False
    found = file.stat()
    return found.st_size > 0 and bool(found.st_mode & 0o044)


def _keep_journal(raw: sqlite3.Connection) -> bool:
    """Have commits overwrite the header of the rollback journal instead of deleting the file: as safe, and faster.

    False for a file in another mode, such as WAL, which keeps it. https://www.sqlite.org/pragma.html#pragma_journal_mode
    """
    with suppress(sqlite3.Error):  # the file is busy or not a database: the first statement reports it
        if raw.execute("PRAGMA journal_mode").fetchone() == ("delete",):
            return bool(raw.execute("PRAGMA journal_mode = PERSIST").fetchone() == ("persist",))
    return False


def _uri(file: Path) -> str:
    """Return the file as a URI. SQLite accepts no host, so that a UNC path keeps its slashes after an empty one."""
    uri = file.absolute().as_uri()
    return uri if uri.startswith("file:///") else uri.replace("file://", "file:////", 1)
