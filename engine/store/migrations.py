"""Numbered migrations of the engine's own tables: forward only, by one process at a time, each recorded when it is done.

Version 1 is the tables as created; `ledger/migrations/N_name.sql.j2` migrates from version N - 1 to N. It holds statements
separated by a line `;`, and can be run again after an interruption: not every database can roll back a change to a table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine import assets, failpoint
from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.errors import LedgerError
from engine.store.tables import Table

_FOLDER = "ledger/migrations"
_FIRST = "tables"


@dataclass(frozen=True, slots=True, order=True)
class Migration:
    """One migration: its target version, name and template (None for the first, which creates the tables)."""

    version: int
    name: str
    template: str | None

    def __str__(self) -> str:
        return f"{self.version} ({self.name.replace('_', ' ')})"


def known() -> list[Migration]:
    """Return all migrations of this version of SyncLedger, in order."""
    files = (assets.folder("templates") / "sql" / _FOLDER).glob("*.sql.j2")
    numbered = [re.fullmatch(r"([0-9]+)_(\w+)\.sql\.j2", file.name) for file in files]
    found = sorted(Migration(int(one[1]), one[2], f"{_FOLDER}/{one[0]}") for one in numbered if one)
    return [Migration(1, _FIRST, None), *found]


def version(db: Connection, names: Mapping[str, str]) -> int:
    """Return the version of existing tables; 1 if none is recorded. Raises `DatabaseError`."""
    return _recorded(db, names) or 1


def _recorded(db: Connection, names: Mapping[str, str]) -> int:
    """Return the recorded version; 0 if there is none, as in tables older than the migrations."""
    return int(db.run("ledger/version.sql.j2", **names).rows[0][0] or 0)


def pending(db: Connection, names: Mapping[str, str]) -> list[Migration]:
    """Return the pending migrations. Raises `LedgerError` for tables of a newer SyncLedger."""
    here, all_ = version(db, names), known()
    _refuse_newer(db, here, all_)
    return [migration for migration in all_ if migration.version > here]


def _refuse_newer(db: Connection, here: int, all_: Sequence[Migration]) -> None:
    if here > all_[-1].version:
        raise LedgerError(
            f"the ledger {db.description} has version {here}: a newer SyncLedger has used it. This one knows versions up to "
            f"{all_[-1].version}, and could spoil what it does not know: update SyncLedger"
        )


def migrate(
    db: Connection, names: Mapping[str, str], tables: Sequence[Table], *, again: bool = False
) -> list[Migration]:
    """Run the pending migrations; returns those with a template. Waits while another process migrates, and then does nothing.

    With `again` all of them: a table that was dropped and made anew has the columns of version 1. Raises `LedgerError` for tables of a newer
    SyncLedger, and `DatabaseError`.
    """
    recorded, all_ = _recorded(db, names), known()
    _refuse_newer(db, recorded, all_)
    if recorded == all_[-1].version and not again:
        return []
    with db.transaction():
        db.run("ledger/migration_lock.sql.j2", **names)
        before = _recorded(db, names)
        recorded = 0 if again else before
        done = [migration for migration in all_ if migration.version > recorded]
        for migration in done:
            _run(db, names, tables, migration, record=migration.version > before)
    db.run("ledger/migration_unlock.sql.j2", **names)
    return [migration for migration in done if migration.template]


def _run(
    db: Connection, names: Mapping[str, str], tables: Sequence[Table], migration: Migration, *, record: bool
) -> None:
    if migration.template:
        columns = {table.name: _columns(db, table) for table in tables}
        whole = db.templates.statement(migration.template, **names, columns=columns)
        if whole.parameters:
            raise LedgerError(f"the migration {migration} has parameters; its statements take none")
        for text in re.split(r"(?m)^;$", whole.text):
            if text.strip():
                db.execute(Statement(text.strip(), ()))
                failpoint.reached("migrating")
    if record:
        db.run("ledger/migrated.sql.j2", **names, version=migration.version, name=migration.name)
    failpoint.reached("migrated")


def _columns(db: Connection, table: Table) -> frozenset[str]:
    return frozenset(name.casefold() for name in db.run("ledger/probe.sql.j2", name=table.name).columns)
