"""What a run of a job would do: its items, its steps, and each statement with its bound values. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.errors import ConnectionFailed, DatabaseError
from engine.jobs import items, parameters, procedure, script
from engine.jobs.items import Item
from engine.jobs.model import Step
from engine.jobs.spec.load import LoadedJob
from engine.runs import whoami
from engine.runtime.job_runner import Choice, Connections, chosen_items, chosen_steps
from engine.spec import expressions


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of one item: its statements, or why they are not known before the run."""

    item: str
    step: str
    statements: Sequence[Statement]
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class JobPlan:
    """All that a run would do with these parameters."""

    parameters: str
    items: Sequence[Item]
    steps: Sequence[Step]
    planned: Sequence[PlannedStep]


def plan(loaded: LoadedJob, settings: Sequence[str], file: Path | None, choice: Choice, preview: int) -> JobPlan:
    """Read the items, and render the statements of the first `preview` of them.

    Raises `ParametersWrong`, and `SourceError`, `EntityError`, `ConnectionFailed` where the items cannot be read.
    """
    job = loaded.job
    values = parameters.given(job, settings, file)
    loaded.secrets.add(*parameters.secrets(job, values))
    steps = chosen_steps(job, choice)
    facts = {"id": "", "number": 0, "user": whoami.user(), "started": "", "attempt": 1}
    known = {"params": MappingProxyType(values), "run": MappingProxyType(facts)}
    with ExitStack() as stack:
        connections = Connections(job, stack, read_only=True)
        found = chosen_items(items.read(job.for_each, connections.of, known), choice.items)
        planned = [
            _planned(
                connections,
                step,
                item,
                {**known, "item": item.values, "index": index, "count": len(found), "steps": {}},
            )
            for index, item in enumerate(found[:preview])
            if not item.locked
            for step in steps
        ]
    return JobPlan(parameters.stored(job, values), found, steps, planned)


def _planned(connections: Connections, step: Step, item: Item, context: Mapping[str, Any]) -> PlannedStep:
    try:
        if step.when is not None and not expressions.compile_condition(step.when)(context):
            return PlannedStep(item.key, step.name, (), "skipped: its `when` does not hold")
        made = _statements(connections.of(step.connection), step, context)
    except (DatabaseError, ConnectionFailed, expressions.ExpressionError) as failure:
        depends = (
            "steps" in (step.when or "")
            or "steps." in step.text
            or any("steps." in str(one) for one in step.arguments.values())
        )
        return PlannedStep(item.key, step.name, (), "depends on what earlier steps output" if depends else str(failure))
    return PlannedStep(item.key, step.name, made)


def _statements(connection: Connection, step: Step, context: Mapping[str, Any]) -> list[Statement]:
    if step.kind != "procedure":
        return script.statements(connection, step.text, context)
    given = {name: script.value(argument, context) for name, argument in step.arguments.items()}
    if connection.dialect.name == "sqlite":
        return script.statements(connection, f"procedures/{step.text}.sql.j2", {**context, "arguments": given})
    return procedure.statements(connection, step.text, given, step.errors)
