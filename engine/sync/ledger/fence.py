"""Proves that the lock of the lease keeps others out: not every server that takes the words honours them."""

from __future__ import annotations

from contextlib import suppress

from engine.db.connection import Connection
from engine.errors import DatabaseError
from engine.runs.lease import Lease


class _Seen(Exception):
    """Ends a transaction that has changed nothing."""


def holds(db: Connection, another: Connection, names: dict[str, str], lease: Lease) -> bool | None:
    """True when nobody can take the lease while a transaction of ours has checked it; None where that cannot be told.

    Waits for nothing. SQLite has one writer at a time, so that there is nothing to prove.
    """
    if db.dialect.name == "sqlite":
        return True
    values = {"pipeline": lease.pipeline, "run": lease.run, "token": lease.token}
    if not _taken(another, names, lease):
        return None  # not even a free row can be locked so
    kept: bool | None = None
    with suppress(_Seen), db.transaction():
        if db.run("ledger/lease_check.sql.j2", **names, **values).rows:
            kept = not _taken(another, names, lease)
        raise _Seen
    return kept


def _taken(db: Connection, names: dict[str, str], lease: Lease) -> bool:
    """True when the row of the lease could be locked by this connection, at once."""
    try:
        with db.transaction():
            db.run("ledger/lease_try.sql.j2", **names, pipeline=lease.pipeline)
            raise _Seen
    except _Seen:
        return True
    except DatabaseError:
        return False
