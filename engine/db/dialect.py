"""A dialect is a folder of templates with a `dialect.yaml`: supporting another database means adding one, not code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from engine import assets
from engine.db.sessions import Session, Sessions
from engine.errors import ConnectionFailed, DatabaseError


@dataclass(frozen=True, slots=True)
class Dialect:
    """The differences between databases that are not statements."""

    name: str
    reported: tuple[str, ...]
    """What drivers report as SQL_DBMS_NAME."""
    drivers: str
    """A pattern for ODBC driver names, used before a connection is open."""
    quotes: tuple[str, str]
    now: str
    """The expression for the current time in UTC on the database's clock."""
    odbc: tuple[tuple[str, str], ...]
    """Keys added to an ODBC string of these drivers unless the user sets them."""
    session: tuple[str, ...]
    """Statements at the start of every session; `{seconds}` and `{milliseconds}` are the time limit of a query."""
    place: str | None
    """A query for the current database and schema of a session: one row."""
    explain: tuple[str, str] | None
    """The prefix of a statement that returns its plan, and a pattern that finds a sort in the plan."""
    types: tuple[tuple[str, str], ...]
    """Column types of the ledger's tables, by the name its CREATE statements use."""
    parts: int = 2
    """Maximum number of parts in a table name: schema.table has two."""
    lower: bool = False
    """Unquoted names are folded to lower case."""
    lost: str | None = None
    """A pattern for driver messages that mean a lost connection, in addition to SQLSTATE class 08."""
    rollback: str | None = None
    """A statement that rolls back even if the server has ended the transaction itself; None if the driver's ROLLBACK does."""
    driver_timeout: bool = False
    """True if the drivers themselves enforce the time limit of a query; otherwise `session` has the server do it."""
    sessions: Sessions | None = None
    """How sessions are identified, found and ended; None for a database without sessions."""

    def told_of(self, session: Session) -> Sessions:
        """Return the queries on sessions. Raises `DatabaseError` for a database without sessions."""
        if self.sessions is None:
            raise DatabaseError(f"{self.reported[0]} has no sessions, and so not session {session}")
        return self.sessions

    def quote(self, identifier: str) -> str:
        """Quote an identifier, exactly as it is, in the dialect's quotes."""
        opening, closing = self.quotes
        return opening + identifier.replace(closing, closing * 2) + closing

    def name_parts(self, table: str) -> tuple[str, ...]:
        """Split a table name into parts, case-folded as the database would fold it without quotes."""
        return tuple((table.lower() if self.lower else table).split("."))

    def table(self, name: str) -> str:
        """Quote each part of a table name, so that it may be an SQL keyword."""
        return ".".join(map(self.quote, self.name_parts(name)))


def template_folders(root: Path) -> list[Path]:
    """Return the folders to search for SQL templates: the user's project first, then the one that ships with the engine."""
    shipped = assets.folder("templates") / "sql"
    own = root / "templates" / "sql"
    return [own, shipped] if own.resolve() != shipped.resolve() else [shipped]


@cache
def dialects(root: Path) -> dict[str, Dialect]:
    """Return every dialect that has a folder, by name; a folder of the project takes precedence."""
    found: dict[str, Dialect] = {}
    for folder in template_folders(root):
        for file in sorted(folder.glob("*/dialect.yaml")):
            found.setdefault(file.parent.name, _load(file))
    return found


def by_reported_name(reported: str, root: Path) -> Dialect:
    """Return the dialect of a database that reports this name. Raises `ConnectionFailed`."""
    for dialect in dialects(root).values():
        if reported.casefold() in (name.casefold() for name in dialect.reported):
            return dialect
    known = ", ".join(sorted(dialects(root)))
    raise ConnectionFailed(
        f"the database calls itself {reported!r}, for which there is no dialect folder (there are: {known}); "
        "add templates/sql/<name>/ with a dialect.yaml that lists this name, see docs/dialects.md"
    )


def by_driver_name(driver: str, known: Iterable[Dialect]) -> Dialect | None:
    """Return the dialect that an ODBC driver's name suggests, if any."""
    return next((dialect for dialect in known if re.search(dialect.drivers, driver, re.IGNORECASE)), None)


def _load(file: Path) -> Dialect:
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    opening, closing = data["quotes"]
    return Dialect(
        file.parent.name,
        tuple(data["reported"]),
        data["drivers"],
        (opening, closing),
        data["now"],
        tuple(data["odbc"].items()),
        tuple(data["session"]),
        data.get("place"),
        (data["explain"]["with"], data["explain"]["sorts"]) if "explain" in data else None,
        tuple(data["types"].items()),
        parts=data.get("parts", 2),
        lower=data.get("lower", False),
        lost=data.get("lost"),
        rollback=data.get("rollback"),
        driver_timeout=data.get("driver_timeout", False),
        sessions=Sessions(**data["sessions"]) if "sessions" in data else None,
    )
