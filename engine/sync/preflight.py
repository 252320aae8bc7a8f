"""What is looked at before the first byte of a run is sent: a ledger that knows nothing, guards, a plan that was saved."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import NotConfirmed, Problem, SpecError
from engine.observe.logs import Log
from engine.sync.model import Entity, LedgerSpec
from engine.sync.plan import EntityPlan, plan_entity
from engine.sync.read.source import Reader
from engine.sync.tools import Tools

_LOG = Log(logging.getLogger(__name__))
MANY = 5000
"""Due records of one entity that a ledger without any delivered record may not be the reason for, unless a person says so."""
_FORMAT = "syncledger plan 1"


@dataclass(frozen=True, slots=True)
class Planned:
    """What a saved plan says of one entity: rows of its source, and due records."""

    rows: int
    due: int


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a person allows a run.

    `first_run` sends all records of a ledger that knows none, `force` more than the guards say, `plan` only what a saved plan
    shows; `ask` puts a question to whoever sits at a terminal.
    """

    first_run: bool = False
    force: bool = False
    plan: Mapping[str, Planned] | None = None
    ask: Callable[[str], bool] = lambda _question: False


def check(
    entities: tuple[Entity, ...], spec: LedgerSpec, tools: Tools, allowed: Allowed, limit: int | None, *, emptied: bool
) -> None:
    """Raises `NotConfirmed` where more is due than the run may send. `emptied` says that the ledger's file was there, without content."""
    names = [entity.name for entity in entities]
    emptied = emptied or tools.ledger.history.emptied(names)
    new = emptied or not tools.ledger.history.knows(names)
    if new and tools.ledger.history.forgotten(names):
        new = False
    if new:
        _first_run(entities, spec, tools, allowed, limit, emptied=emptied)
    elif any(entity.guard for entity in entities) or allowed.plan is not None:
        plans = {entity.name: _count(entity, tools) for entity in entities if entity.guard or allowed.plan is not None}
        _within(entities, plans, allowed, limit)


def _first_run(
    entities: tuple[Entity, ...], spec: LedgerSpec, tools: Tools, allowed: Allowed, limit: int | None, *, emptied: bool
) -> None:
    rows = [_rows(entity, tools) for entity in entities]
    due = [count if limit is None else min(count, limit) for count in rows]
    where = tools.ledger.store.db.description
    kind = (
        f"the ledger {where} was used before and knows no delivered record any more"
        if emptied
        else f"new ledger {where}"
    )
    text = f"{kind}: every record counts as new: {sum(due):,} due"
    _LOG.warning("%s", text, fields={"ledger": where, "due": sum(due), "emptied": emptied})
    if not emptied and (spec.create or max(due, default=0) <= MANY):
        return
    if allowed.first_run or allowed.ask(f"{text}. Send them all?"):
        return
    also = "" if emptied else ", or say `ledger: { create: true }`"
    raise NotConfirmed(
        f"{text}; nothing was sent. Where these records were delivered before, mend the ledger's connection; where they are meant "
        f"to be sent, run once with --first-run{also}"
    )


def _rows(entity: Entity, tools: Tools) -> int:
    """The rows of a source; SQL that pages itself is read to its end."""
    reader = Reader(tools.connect(entity.connection), entity, tools.run)
    return sum(map(len, reader.pages()[1])) if reader.own_paging else reader.total()


def _count(entity: Entity, tools: Tools) -> EntityPlan:
    made = plan_entity(entity, tools.connect, tools.ledger.history, tools.visible(entity), tools.run, tools.caller, 0)
    if made.error is None and made.since is not None:
        made.rows = _rows(entity, tools)
    return made


def _within(entities: tuple[Entity, ...], plans: Mapping[str, EntityPlan], allowed: Allowed, limit: int | None) -> None:
    """Every excess at once. An entity that cannot be read fails when its turn comes."""
    counted = [(entity, plans[entity.name]) for entity in entities if entity.name in plans]
    found: list[str] = []
    for entity, plan in counted:
        if plan.error is None:
            due = plan.due if limit is None else min(plan.due, limit)
            found += [] if allowed.force else _beyond_guard(entity, due, plan.in_source)
            found += _beyond_plan(entity, due, plan.in_source, allowed.plan)
    if found:
        raise NotConfirmed(f"nothing was sent: {'; '.join(found)}")


def _beyond_guard(entity: Entity, due: int, rows: int) -> list[str]:
    guard = entity.guard
    if guard is None:
        return []
    told = f"entity {entity.name!r}: {due:,} of {rows:,} records are due; its guard allows"
    found = []
    if guard.max_records is not None and due > guard.max_records:
        found.append(f"{told} {guard.max_records:,} (--force sends them once)")
    if guard.max_share is not None and due > guard.max_share * rows:
        found.append(
            f"{told} {guard.max_share:.4g} of the source, {int(guard.max_share * rows):,} (--force sends them once)"
        )
    return found


def _beyond_plan(entity: Entity, due: int, rows: int, plan: Mapping[str, Planned] | None) -> list[str]:
    """Where what is due differs from a saved plan by more than the guard allows; without a guard, at all."""
    if plan is None:
        return []
    planned = plan.get(entity.name)
    if planned is None:
        return [f"entity {entity.name!r} is not in the plan"]
    guard = entity.guard
    limits = [] if guard is None else [guard.max_records, None if guard.max_share is None else guard.max_share * rows]
    most = min((limit for limit in limits if limit is not None), default=0)
    if abs(due - planned.due) <= most:
        return []
    return [
        f"entity {entity.name!r}: {due:,} records are due now, {planned.due:,} were when the plan was saved; plan again"
    ]


def save(file: Path, pipeline: str, plans: list[EntityPlan]) -> None:
    """Write what a plan has counted. Raises `SpecError` where the file cannot be written."""
    entities = {made.name: {"rows": made.in_source, "due": made.due} for made in plans}
    document = {"format": _FORMAT, "pipeline": pipeline, "entities": entities}
    try:
        file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as failure:
        raise _unusable(file, f"cannot be written: {failure.strerror}") from failure


def load(file: Path, pipeline: str) -> dict[str, Planned]:
    """Read a saved plan of this pipeline. Raises `SpecError`."""
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise _unusable(file, f"not a saved plan: {getattr(failure, 'strerror', None) or failure}") from failure
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise _unusable(file, "not a saved plan: `plan SPEC --save FILE` writes one")
    if document.get("pipeline") != pipeline:
        raise _unusable(file, f"this is a plan of {document.get('pipeline')!r}, not of {pipeline!r}")
    try:
        return {name: Planned(int(said["rows"]), int(said["due"])) for name, said in document["entities"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as failure:
        raise _unusable(file, "not a whole plan: `plan SPEC --save FILE` writes it anew") from failure


def _unusable(file: Path, why: str) -> SpecError:
    return SpecError([Problem(str(file), 1, 1, why)])
