"""SQLite files: opened by a path that is seen from the project's folder."""

from __future__ import annotations

import os
import shlex
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path

from engine.db import dsn
from engine.db.connection import Connection
from engine.db.dialect import by_reported_name
from engine.db.templates import Templates
from engine.errors import ConnectionFailed

BUSY_SECONDS = 10
_APPLICATION = int.from_bytes(b"SyLe")
"""Marks a file as a ledger. https://www.sqlite.org/pragma.html#pragma_application_id"""


def file_of(text: str, root: Path) -> Path:
    """The file of a `sqlite:///` string; relative ones are seen from the project root."""
    return root / text.removeprefix(dsn.SQLITE)


def opened(text: str, root: Path, *, create: bool, read_only: bool) -> Connection:
    """Open a file; one that is absent is made where `create` says so, its folder never. Raises `ConnectionFailed`."""
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
    return Connection(
        raw, dialect, Templates(root, dialect), (sqlite3.Error,), keeps_journal=keeps_journal, description=str(file)
    )


def _check_absent(file: Path, root: Path, *, create: bool) -> None:
    """Raises `ConnectionFailed` where an absent file is not to be made, or cannot be."""
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
    """Make a database that only its owner can read: a ledger holds what was sent. SQLite gives its journal the same mode.

    It gets its name when it has its first page: a file without content is never one that a killed run was about to fill.
    """
    handle, made = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(handle)
    try:
        connection = sqlite3.connect(made)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.close()
        with suppress(FileExistsError):  # another run was quicker
            os.link(made, file)
    finally:
        os.unlink(made)


def readable_by_others(file: Path) -> bool:
    """True when more users than its owner may read what the file holds."""
    if os.name != "posix" or not file.is_file():
        return False
    found = file.stat()
    return found.st_size > 0 and bool(found.st_mode & 0o044)


def _keep_journal(raw: sqlite3.Connection) -> bool:
    """True when commits overwrite the head of SQLite's rollback journal instead of deleting the file: as safe, and quicker.

    A file in another mode (WAL is one) stays in it. https://www.sqlite.org/pragma.html#pragma_journal_mode
    """
    with suppress(sqlite3.Error):  # a file that is busy or no database: the first statement says so
        if raw.execute("PRAGMA journal_mode").fetchone() == ("delete",):
            return bool(raw.execute("PRAGMA journal_mode = PERSIST").fetchone() == ("persist",))
    return False


def _uri(file: Path) -> str:
    """The file as a URI for SQLite, which takes no host: a UNC path keeps its slashes behind an empty one."""
    uri = file.absolute().as_uri()
    return uri if uri.startswith("file:///") else uri.replace("file://", "file:////", 1)
