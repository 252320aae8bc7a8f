"""The rights of a database's user: proved by statements that change nothing, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from engine.db.connection import Connection
from engine.errors import DatabaseError, LedgerError
from engine.store.tables import Table


def prove(db: Connection, tables: Sequence[Table]) -> None:
    """Raise `LedgerError` naming every missing right and its table, or `DatabaseError` if the connection is lost.

    Tables that do not exist yet are skipped: the user who creates them owns them.
    """
    if db.dialect.name == "sqlite":
        lacking = _of_file(Path(db.description))
    else:
        lacking = [text for table in tables for text in _of_table(db, table)]
    if lacking:
        raise LedgerError(
            f"the ledger's user lacks rights in {db.description}: {'; '.join(lacking)}. Grant them (docs/ledger.md lists "
            "what is needed); nothing is sent before"
        )


def _of_file(file: Path) -> list[str]:
    """A SQLite file and its folder, which holds the rollback journal, must be writable."""
    return [f"{path} is readonly for this user" for path in (file, file.parent) if not os.access(path, os.W_OK)]


def _of_table(db: Connection, table: Table) -> list[str]:
    try:
        found = db.run("ledger/probe.sql.j2", name=table.name).columns
    except DatabaseError as failure:
        if failure.lost:
            raise
        return []
    columns = sorted(name for name in found if name.casefold() in table.columns)
    rights = ("insert",) if table.added_to else ("insert", "update", "delete")
    return [text for right in rights if (text := _lacking(db, table.name, right, columns))]


def _lacking(db: Connection, name: str, right: str, columns: list[str]) -> str | None:
    try:
        db.run(f"ledger/right_{right}.sql.j2", name=name, columns=columns)
    except DatabaseError as failure:
        if failure.lost:
            raise
        return f"{right.upper()} on {name} ({failure})"
    return None
