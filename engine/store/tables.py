"""Tables that the engine needs: found and checked, or created."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from engine.db.connection import Connection
from engine.errors import DatabaseError, LedgerError
from engine.store.places import Place, find


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its name, its required columns, and the statements that create it.

    `key` is the key of the spec that names it, or the table it belongs to. A table that is only `added_to` needs no right but INSERT.
    """

    name: str
    columns: frozenset[str]
    statements: tuple[str, ...]
    key: str
    added_to: bool = False


@dataclass(frozen=True, slots=True)
class Ensured:
    """Tables that are there now: in words, and those that were created."""

    told: str
    made: tuple[Table, ...]


def ensure(db: Connection, asked: Sequence[Table], names: Mapping[str, str]) -> Ensured:
    """Create missing tables and check the columns of existing ones; returns which were created, and in words where all of them are.

    `names` are the template variables of the statements.

    Raises `LedgerError`, also if a missing table exists in another schema: a new one would forget what was delivered.
    """
    standing = dict(zip(asked, find(db, [table.name for table in asked]), strict=True))
    absent = [table for table, place in standing.items() if not place.here]
    for table in absent:
        _refuse_astray(db, table, standing[table])
    for table in asked:
        if table not in absent:
            _check_shape(db, table)
    # SQLite creates all of them in one transaction. On others, one table that another run creates first would roll all back.
    with db.transaction() if absent and db.dialect.name == "sqlite" else nullcontext():
        for table in absent:
            _create(db, table, names)
    made = dict(zip(absent, find(db, [table.name for table in absent]), strict=True)) if absent else {}
    return Ensured(_told({table: place for table, place in standing.items() if place.here}, made), tuple(absent))


def _told(found: dict[Table, Place], made: dict[Table, Place]) -> str:
    """`found public.tb_r_sync_tracking, public.schedulerlog and 9 more; made public.tb_r_sync_part`."""
    there = [place.qualified(table.name) for table, place in found.items()]
    more = f" and {len(there) - 2} more" if len(there) > 2 else ""
    new = [place.qualified(table.name) for table, place in made.items()]
    said = [f"found {', '.join(there[:2])}{more}"] if there else []
    return "; ".join([*said, *([f"made {', '.join(new)}"] if new else [])])


def present(db: Connection, table: Table) -> bool:
    """True if the table exists. Raises `LedgerError` if it lacks columns that the ledger writes."""
    try:
        columns = _columns(db, table)
    except DatabaseError as failure:
        try:
            (place,) = find(db, [table.name])
        except DatabaseError:
            raise _unreadable(db, table, failure) from failure
        if place.here:
            raise _unreadable(db, table, failure) from failure
        _refuse_astray(db, table, place)
        return False
    _check_columns(db, table, columns)
    return True


def _refuse_astray(db: Connection, table: Table, place: Place) -> None:
    if place.elsewhere:
        raise LedgerError(
            f"the table {table.name} is not in the schema that {db.description} now leads to, but in {', '.join(place.elsewhere)}: "
            "has the user's default schema, or search_path, changed? A new table would forget what was delivered. Say which "
            f"one is meant: `{table.key}: SCHEMA.NAME`"
        )


def _check_shape(db: Connection, table: Table) -> None:
    try:
        columns = _columns(db, table)
    except DatabaseError as failure:
        raise _unreadable(db, table, failure) from failure
    _check_columns(db, table, columns)


def _columns(db: Connection, table: Table) -> set[str]:
    return {name.casefold() for name in db.run("ledger/probe.sql.j2", name=table.name).columns}


def _unreadable(db: Connection, table: Table, failure: DatabaseError) -> LedgerError:
    return LedgerError(f"the table {table.name} in {db.description} cannot be read: {failure}")


def _check_columns(db: Connection, table: Table, columns: set[str]) -> None:
    missing = sorted(table.columns - columns)
    if missing:
        raise LedgerError(
            f"the table {table.name} in {db.description} has another shape: it lacks {', '.join(missing)}; "
            "name another table under `ledger:`, or add the columns (docs/ledger.md has them)"
        )


def _create(db: Connection, table: Table, names: Mapping[str, str]) -> None:
    for statement in table.statements:
        try:
            db.run(f"{statement}.sql.j2", **names)
        except DatabaseError as failure:
            # Another run may have created it between our check and our CREATE.
            if not present(db, table):
                raise LedgerError(
                    f"the table {table.name} is absent from {db.description} and cannot be created: {failure}"
                ) from failure
