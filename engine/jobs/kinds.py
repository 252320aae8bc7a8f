"""What a step does. Each kind says how it is cancelled, what it leaves behind when it dies half-way, and what it outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engine.context import RunContext
from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.errors import SyncLedgerError
from engine.jobs.values import Values

MOST_ROWS = 1000
"""Rows of a query that are kept as its output."""


class Cancelled(SyncLedgerError):
    """The run was cancelled while the step ran; what it had not committed is rolled back."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a step leaves for those after it; `rows` counts what it changed or read."""

    rows: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def run_sql(connection: Connection, statements: Sequence[Statement], run: RunContext) -> Output:
    """Statements in one transaction.

    Cancelled by the driver; then, and when the process dies, the transaction is rolled back. A crash after the commit and before the store has it
    leaves the step in doubt. Output: `rowcount`, the rows changed by all statements together. Raises `DatabaseError`, `Cancelled`.
    """
    changed = 0
    with connection.transaction():
        for statement in statements:
            changed += max(0, connection.execute(statement).rowcount)
            # The request decides, not the exception: what was cancelled may return as if nothing had happened.
            _unless_cancelled(run)
    return Output(changed, MappingProxyType({"rowcount": changed}))


def run_query(connection: Connection, statements: Sequence[Statement], run: RunContext) -> Output:
    """One query; it changes nothing. Cancelled by the driver.

    Output: `rows`, the first thousand as mappings, and `first`, the first of them or null. Raises `DatabaseError`, `Cancelled`.
    """
    rows: list[Mapping[str, Any]] = []
    read = 0
    for statement in statements:
        with connection.stream(statement) as (columns, blocks):
            for block in blocks:
                read += len(block)
                rows += [Values(columns, row) for row in block[: MOST_ROWS - len(rows)]]
                _unless_cancelled(run)
    return Output(read, MappingProxyType({"rows": rows, "first": rows[0] if rows else None}))


def _unless_cancelled(run: RunContext) -> None:
    if run.cancelled.is_set():
        raise Cancelled("cancelled")


KINDS: dict[str, Callable[[Connection, Sequence[Statement], RunContext], Output]] = {"sql": run_sql, "query": run_query}
