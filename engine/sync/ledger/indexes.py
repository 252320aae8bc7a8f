"""The indexes that keep looking and pruning quick in a large ledger: created where they are absent, and where the user may."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass

from engine.db.connection import Connection
from engine.errors import DatabaseError
from engine.store.tables import present
from engine.sync.ledger.tables import Tables


@dataclass(frozen=True, slots=True)
class Index:
    """An index that is wanted: the columns that it begins with, and the name of the statement that creates it."""

    table: str
    columns: tuple[str, ...]
    statement: str

    def __str__(self) -> str:
        return f"{self.table} ({', '.join(self.columns)})"


def wanted(tables: Tables) -> tuple[Index, ...]:
    """All of them, but for those that are made with their tables since the first version."""
    return (
        Index(tables.log.name, ("Activity", "CreatedOn"), "create_log_index"),
        Index(tables.batch.name, ("Pipeline", "EntityType", "State", "SettledOn"), "create_batch_time_index"),
        Index(tables.run.name, ("Pipeline", "StartedOn"), "create_run_index"),
    )


def ensure(db: Connection, tables: Tables) -> None:
    """Create the absent ones. A run does without what cannot be created: `missing` tells."""
    absent = []
    with suppress(DatabaseError):
        absent = [index for index in wanted(tables) if not _there(db, index)]
    with db.transaction() if absent and db.dialect.name == "sqlite" else nullcontext():
        for index in absent:
            with suppress(DatabaseError):
                db.run(f"ledger/{index.statement}.sql.j2", **tables.names())


def missing(db: Connection, tables: Tables) -> list[tuple[Index, str]]:
    """Those that are absent from tables that are there, each with the SQL that creates it. Raises `DatabaseError`."""
    there = {table.name for table in (tables.log, tables.batch, tables.run) if present(db, table)}
    absent = [index for index in wanted(tables) if index.table in there and not _there(db, index)]
    return [
        (index, db.templates.statement(f"ledger/{index.statement}.sql.j2", **tables.names()).text) for index in absent
    ]


def _there(db: Connection, index: Index) -> bool:
    """True where any index of the table, whatever its name, begins with the columns."""
    found: dict[str, list[str]] = {}
    for name, column in db.run("ledger/indexes.sql.j2", name=index.table).rows:
        found.setdefault(str(name), []).append(str(column).casefold())
    asked = [column.casefold() for column in index.columns]
    return any(columns[: len(asked)] == asked for columns in found.values())
