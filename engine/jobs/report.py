"""What became of a run: its items, told by the attempts that the store has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from engine.errors import Exit
from engine.jobs.states import Consequence, ItemState, RunState, StepState
from engine.jobs.store import StoredRun, StoredStep
from engine.store.base import moment


@dataclass(frozen=True, slots=True)
class ItemReport:
    """One item: what became of it, at which step, why, and how long it took in seconds."""

    key: str
    label: str
    state: ItemState
    step: str | None
    reason: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run as `run`, `resume` and `show` tell it. `state` is `lost` where its process is gone."""

    run: StoredRun
    state: RunState
    items: Sequence[ItemReport]
    steps: Sequence[StoredStep] = field(default_factory=tuple)

    @property
    def counts(self) -> dict[str, int]:
        """How many items there are in each state; raises `ArithmeticError` where they are not all of them."""
        found = Counter(item.state for item in self.items)
        total = self.run.total if self.run.total is not None else len(self.items)
        counts = {state.value: found.get(state, 0) for state in ItemState}
        counts[ItemState.NOT_RUN] += total - len(self.items)
        if counts[ItemState.NOT_RUN] < 0 or sum(counts.values()) != total:
            raise ArithmeticError(f"run #{self.run.number}: {total} items, and {counts} are accounted for")
        return {"total": total, **counts}

    @property
    def exit_code(self) -> Exit:
        """0 succeeded, 1 incomplete, failed or lost, 130 cancelled."""
        if self.state is RunState.SUCCEEDED:
            return Exit.OK
        return Exit.CANCELLED if self.state in (RunState.CANCELLED, RunState.CANCELLING) else Exit.INCOMPLETE

    def as_json(self) -> dict[str, Any]:
        """The document of `--format json`."""
        run = self.run
        return {
            "run_id": run.id, "number": run.number, "job": run.job, "status": self.state, "attempt": run.attempt,
            "parameters": orjson.loads(run.parameters), "started": str(run.started), "ended": str(run.ended) if run.ended else None,
            "seconds": _seconds(run.started, run.ended), "user": run.user, "note": run.note, "items": self.counts,
            "details": [
                {
                    "key": item.key, "label": item.label, "status": item.state, "step": item.step, "reason": item.reason,
                    "seconds": item.seconds,
                }
                for item in self.items
            ],
            "steps": [
                {
                    "item": step.item, "name": step.step, "attempt": step.attempt, "status": step.state,
                    "seconds": _seconds(step.started, step.ended), "rows": step.rows,
                    "session": str(step.session) if step.session else None,
                    "error": {"code": step.code, "message": step.message} if step.message else None,
                }
                for step in self.steps
            ],
            "cancelled": {"by": run.cancelled_by, "why": run.cancelled_why, "on": str(run.cancelled)} if run.cancelled else None,
            "error": run.error, "holder": None,
        }  # fmt: skip


def of(run: StoredRun, steps: Sequence[StoredStep]) -> RunReport:
    """The report of a run from its rows."""
    state = run.state
    if state in (RunState.RUNNING, RunState.CANCELLING) and run.process_gone:
        state = RunState.LOST
    by_item: dict[str, dict[str, StoredStep]] = {}
    for step in steps:
        by_item.setdefault(step.item, {})[step.step] = step  # the last attempt counts
    going_on = state in (RunState.RUNNING, RunState.CANCELLING)
    wanted = set(orjson.loads(run.choice)["steps"])
    items = [_item(key, list(latest.values()), wanted, going_on=going_on) for key, latest in by_item.items()]
    if state is RunState.LOST:
        items = [_lost(item, by_item[item.key].values()) for item in items]
    return RunReport(run, state, items, steps)


def _item(key: str, steps: Sequence[StoredStep], wanted: set[str], *, going_on: bool) -> ItemReport:
    seconds = round(sum(_seconds(step.started, step.ended) or 0.0 for step in steps), 3)
    bad = next((step for step in steps if step.state in (StepState.FAILED, StepState.CANCELLED)), None)
    open_ = next((step for step in steps if step.state is StepState.RUNNING), None)
    label = steps[0].label
    if bad is not None:
        state = ItemState.CANCELLED if bad.state is StepState.CANCELLED else ItemState.FAILED
        state = ItemState.SKIPPED if bad.consequence is Consequence.SKIP_ITEM else state
        return ItemReport(key, label, state, bad.step, _reason(bad), seconds)
    if open_ is not None:
        return ItemReport(key, label, ItemState.NOT_RUN, open_.step, "running" if going_on else "cut off", seconds)
    state = ItemState.SUCCEEDED if wanted <= {step.step for step in steps} else ItemState.NOT_RUN
    return ItemReport(key, label, state, None, None, seconds)


def _lost(item: ItemReport, steps: Any) -> ItemReport:
    open_ = next((step for step in steps if step.state is StepState.RUNNING), None)
    if open_ is None:
        return item
    where = f"; its session {open_.session} may still be at it" if open_.session else ""
    return ItemReport(
        item.key,
        item.label,
        ItemState.NOT_RUN,
        open_.step,
        f"cut off: the process of the run is gone{where}",
        item.seconds,
    )


def _reason(step: StoredStep) -> str | None:
    code = f"{step.code}: " if step.code and step.message and step.code not in step.message else ""
    return f"{code}{step.message}" if step.message else None


def _seconds(started: Any, ended: Any) -> float | None:
    return round((moment(ended) - moment(started)).total_seconds(), 3) if ended else None
