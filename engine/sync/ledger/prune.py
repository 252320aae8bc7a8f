"""Deletes what is old and not needed any more, in small transactions.

Tracking rows, accepted contents, open batches and records that are rejected now never go: no run sends anything
again for what is deleted here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from engine.store.base import moment
from engine.sync.ledger.history import History
from engine.sync.ledger.states import BatchState, RunStatus
from engine.sync.ledger.store import Store

KINDS = ("calls", "batches", "verdicts", "runs", "contents")
_ROWS = 1000
_BATCHES = 100
"""Rows of one transaction; a batch's row holds the IDs of all its records."""
_TICK = timedelta(milliseconds=1)
"""Databases may count finer than the times that are read from them."""


@dataclass(frozen=True, slots=True)
class Cut:
    """From when on things stay. `before` is naive UTC on the database's clock; calls may have to stay for longer."""

    before: datetime
    calls_before: datetime

    @property
    def held_back(self) -> bool:
        """True when calls stay because a batch that is older is open."""
        return self.calls_before < self.before


@dataclass(frozen=True, slots=True)
class _Step:
    """What one series of statements deletes."""

    counted: str
    kind: str
    values: dict[str, Any]
    rows: int = _ROWS
    of_time: bool = True
    """True where the parts are cut by time."""


def cut(store: Store, days: int) -> Cut:
    """Everything older than so many days, but for the calls since the oldest batch that is still open."""
    with store.guard("cannot be read"):
        before = moment(store.now()) - timedelta(days=days)
        oldest = store.statement("oldest_open").scalar() if store.there(store.tables.batch) else None
    return Cut(before, min(before, moment(oldest) - timedelta(seconds=1)) if oldest else before)


def count(store: Store, entities: Sequence[str], when: Cut) -> dict[str, int]:
    """How many rows `remove` would delete."""
    found = dict.fromkeys(KINDS, 0)
    with store.guard("cannot be read"):
        for step in _steps(store, entities, when):
            found[step.counted] += int(store.statement("prune_count", **step.values, upto=None).scalar())
    return found


def remove(store: Store, entities: Sequence[str], when: Cut) -> dict[str, int]:
    """Delete; gives how many rows went."""
    found = dict.fromkeys(KINDS, 0)
    with store.guard("cannot be written"):
        for step in _steps(store, entities, when):
            found[step.counted] += sum(_parts(store, step))
    return found


def _steps(store: Store, entities: Sequence[str], when: Cut) -> Iterator[_Step]:
    """All that there is to delete, for the tables that are there."""
    there = {table: store.there(table) for table in store.tables.all()}
    tables = store.tables
    old = {"before": when.before, "after": None, "pipeline": store.pipeline}
    if there[tables.log]:
        yield from _calls(store, {**old, "before": when.calls_before})
    if there[tables.batch]:
        for (entity,) in store.statement("entities_known", pipeline=store.pipeline).rows:
            for state in (state for state in BatchState if not state.is_open):
                values = {**old, "kind": "batches", "entity": entity, "state": state.value}
                yield _Step("batches", "batches", values, _BATCHES)
    if there[tables.verdict]:
        yield _Step("verdicts", "verdicts", {**old, "kind": "verdicts"}, of_time=False)
    if there[tables.run] and there[tables.part] and there[tables.lease]:
        yield _Step("runs", "runs", {**old, "kind": "runs", **_needed_runs(store)})
    if there[tables.content] and there[tables.reject] and there[tables.batch]:
        for entity in entities:
            for kind in ("rejected contents", "sent contents"):
                yield _Step("contents", kind, {**old, "kind": kind, "entity": entity}, of_time=False)


def _calls(store: Store, old: dict[str, Any]) -> Iterator[_Step]:
    """Rows of the log table that the engine wrote; others may write to it too."""
    for (activity,) in store.statement("activities", before=old["before"]).rows:
        if activity is not None:
            values = {**old, "kind": "calls", "activity": activity, "application": store.spec.application}
            yield _Step("calls", "calls", values)


def _needed_runs(store: Store) -> dict[str, str]:
    """The run that goes on, the newest, and the newest that delivered all: templates ask for its time."""
    history = History(store)
    holder, newest, delivered = history.holder(), history.runs(1), history.runs(1, RunStatus.DELIVERED)
    return {
        "held": (holder.run if holder else None) or "",
        "newest": newest[0].id if newest else "",
        "delivered": delivered[0].id if delivered else "",
    }


def _parts(store: Store, step: _Step) -> Iterator[int]:
    """Delete a part in one transaction, then the next, until nothing is left; gives the rows of each."""
    values = dict(step.values)
    while True:
        mark = store.statement("prune_upto", **values, upto=None, limit=step.rows).scalar()
        if mark is None:
            return
        upto = min(moment(mark) + _TICK, values["before"]) if step.of_time else mark
        with store.db.transaction():
            if step.kind == "runs":
                store.statement("prune_parts", **values, upto=upto)
            deleted = int(store.statement("prune", **values, upto=upto).rowcount)
        yield deleted
        if deleted < 1:
            return
        if step.counted == "contents":
            values["after"] = mark
