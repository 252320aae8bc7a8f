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
    """What differs between databases and is not a statement."""

    name: str
    reported: tuple[str, ...]
    """What drivers report as SQL_DBMS_NAME."""
    drivers: str
    """A pattern for ODBC driver names, used where nothing is connected yet."""
    quotes: tuple[str, str]
    now: str
    """The expression for the current time in UTC on the database's clock."""
    odbc: tuple[tuple[str, str], ...]
    """Keys added to an ODBC string of these drivers where the user gives none."""
    session: tuple[str, ...]
    """Statements that begin every session; `{seconds}` and `{milliseconds}` are the time limit of a query."""
    place: str | None
    """A query for where a session is (database, schema): one row."""
    explain: tuple[str, str] | None
    """What is put before a statement to see its plan, and a pattern by which the plan shows that rows are sorted."""
    types: tuple[tuple[str, str], ...]
    """Column types of the ledger's tables, by the name its CREATE statements use."""
    parts: int = 2
    """How many parts the name of a table has at most: schema.table is two."""
    lower: bool = False
    """Unquoted names are folded to lower case."""
    lost: str | None = None
    """A pattern for what drivers say, beside SQLSTATE class 08, when the connection is gone."""
    rollback: str | None = None
    """What ends a transaction that the server may have ended itself; None where the driver's own ROLLBACK does."""
    driver_timeout: bool = False
    """The drivers themselves stop a query after a time; where they do not, `session` has the server do it."""
    sessions: Sessions | None = None
    """How sessions are named, found and ended; None for a database without any."""

    def told_of(self, session: Session) -> Sessions:
        """The queries on sessions. Raises `DatabaseError` for a database that has none."""
        if self.sessions is None:
            raise DatabaseError(f"{self.reported[0]} has no sessions, and so not session {session}")
        return self.sessions

    def quote(self, identifier: str) -> str:
        """The identifier, exactly as it is, between the dialect's quotes."""
        opening, closing = self.quotes
        return opening + identifier.replace(closing, closing * 2) + closing

    def name_parts(self, table: str) -> tuple[str, ...]:
        """The parts of a table's name, as the database would hold it had it been written without quotes."""
        return tuple((table.lower() if self.lower else table).split("."))

    def table(self, name: str) -> str:
        """A table's name, each part between quotes, so that it may be a word of SQL."""
        return ".".join(map(self.quote, self.name_parts(name)))


def template_folders(root: Path) -> list[Path]:
    """Where SQL templates are searched: the user's project first, then what ships with the engine."""
    shipped = assets.folder("templates") / "sql"
    own = root / "templates" / "sql"
    return [own, shipped] if own.resolve() != shipped.resolve() else [shipped]


@cache
def dialects(root: Path) -> dict[str, Dialect]:
    """Every dialect that has a folder, by name; a folder of the project wins."""
    found: dict[str, Dialect] = {}
    for folder in template_folders(root):
        for file in sorted(folder.glob("*/dialect.yaml")):
            found.setdefault(file.parent.name, _load(file))
    return found


def by_reported_name(reported: str, root: Path) -> Dialect:
    """The dialect of a database that calls itself `reported`. Raises `ConnectionFailed`."""
    for dialect in dialects(root).values():
        if reported.casefold() in (name.casefold() for name in dialect.reported):
            return dialect
    known = ", ".join(sorted(dialects(root)))
    raise ConnectionFailed(
        f"the database calls itself {reported!r}, for which there is no dialect folder (there are: {known}); "
        "add templates/sql/<name>/ with a dialect.yaml that lists this name, see docs/dialects.md"
    )


def by_driver_name(driver: str, known: Iterable[Dialect]) -> Dialect | None:
    """The dialect that an ODBC driver's name suggests, if any."""
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
