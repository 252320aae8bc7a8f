"""Reads from a source whose sessions may be ended at any moment: the same statement again, on a new one."""

from __future__ import annotations

import logging

from engine.context import RunContext
from engine.db.connection import Connection, Rows
from engine.db.statement import Statement
from engine.errors import ConnectionFailed, DatabaseError
from engine.observe.printable import printable

_LOG = logging.getLogger(__name__)
_WAITS = (0.0, 2.0, 8.0)
"""Seconds before each new connection of one statement: a session that was ended, a server that restarts."""


def execute(connection: Connection, statement: Statement, entity: str, run: RunContext) -> Rows:
    """Run a statement; where the connection is lost, a few times more on new ones.

    Raises `DatabaseError` with the first failure's words, and the last one's where they differ.
    """
    try:
        return connection.execute(statement)
    except DatabaseError as failure:
        first = last = failure
    for wait in _WAITS:
        if not last.lost or run.cancelled.is_set():
            break
        why = printable(str(last))
        _LOG.warning("%s: the connection to the source is lost (%s); a new one is opened", entity, why)
        run.sleep(wait)
        try:
            connection.reconnect()
            return connection.execute(statement)
        except ConnectionFailed as failure:
            last = DatabaseError(str(failure), lost=True)
        except DatabaseError as failure:
            last = failure
    if last is first:
        raise first
    raise DatabaseError(f"{first}, then: {last}") from first
