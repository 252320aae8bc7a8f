"""What a step does. Each kind says how it is cancelled, what it leaves behind when it dies half-way, and what it outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engine.context import RunContext
from engine.db.connection import Connection
from engine.errors import SyncLedgerError
from engine.jobs import procedure, script
from engine.jobs.model import Step
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


@dataclass(frozen=True, slots=True)
class Work:
    """One step at work: its connection, what its statements see, and the run that may be cancelled."""

    connection: Connection
    step: Step
    context: Mapping[str, Any]
    run: RunContext

    def go_on(self) -> None:
        """Raises `Cancelled`. The request decides, not the exception: what was cancelled may return as if nothing had happened."""
        if self.run.cancelled.is_set():
            raise Cancelled("cancelled")


def run_sql(work: Work) -> Output:
    """Statements in one transaction.

    Cancelled by the driver; then, and when the process dies, the transaction is rolled back. A crash after the commit and before the store has it
    leaves the step in doubt. Output: `rowcount`, the rows changed by all statements together. Raises `DatabaseError`, `Cancelled`.
    """
    changed = 0
    statements = script.statements(work.connection, work.step.text, work.context)
    with work.connection.transaction():
        for statement in statements:
            changed += max(0, work.connection.execute(statement).rowcount)
            work.go_on()
    return Output(changed, MappingProxyType({"rowcount": changed}))


def run_query(work: Work) -> Output:
    """One query; it changes nothing. Cancelled by the driver.

    Output: `rows`, the first thousand as mappings, and `first`, the first of them or null. Raises `DatabaseError`, `Cancelled`.
    """
    rows: list[Mapping[str, Any]] = []
    read = 0
    for statement in script.statements(work.connection, work.step.text, work.context):
        with work.connection.stream(statement) as (columns, blocks):
            for block in blocks:
                read += len(block)
                rows += [Values(columns, row) for row in block[: MOST_ROWS - len(rows)]]
                work.go_on()
    return Output(read, MappingProxyType({"rows": rows, "first": rows[0] if rows else None}))


def run_procedure(work: Work) -> Output:
    """A stored procedure in one transaction, with its arguments checked against the database's catalogue.

    Cancelled by the driver, and where the procedure swallows that by the end of its session. What it has not committed itself is rolled back when it is
    cancelled, fails, or reports errors. A crash in the middle leaves the step in doubt. Outputs: what it gives back by name, and `rows`, its
    first result set. SQLite has no procedures: there a template `procedures/NAME.sql.j2` stands for one. Raises `DatabaseError`, `Cancelled`.
    """
    connection, step = work.connection, work.step
    given = {name: script.value(argument, work.context) for name, argument in step.arguments.items()}
    if connection.dialect.name == "sqlite":
        made = script.statements(connection, f"procedures/{step.text}.sql.j2", {**work.context, "arguments": given})
    else:
        made = procedure.statements(connection, step.text, given, step.errors)
    outputs: dict[str, Any] = {}
    with connection.transaction():
        for statement in made:
            found = connection.execute(statement)
            work.go_on()
            if found.columns:
                rows = [Values(found.columns, row) for row in found.rows[:MOST_ROWS]]
                outputs.setdefault("rows", rows)
                outputs |= dict(rows[0]) if len(rows) == 1 else {}
        if step.errors:
            procedure.check(Values(tuple(outputs), tuple(outputs.values())), step.errors)
    return Output(len(outputs.get("rows", ())), MappingProxyType(outputs))


KINDS: dict[str, Callable[[Work], Output]] = {"sql": run_sql, "query": run_query, "procedure": run_procedure}
