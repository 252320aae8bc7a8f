"""`plan` of a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from engine.cli import common
from engine.cli.job import load_job
from engine.cli.say import say, say_json
from engine.errors import Exit
from engine.observe.words import count
from engine.runtime import job_plan
from engine.runtime.job_plan import JobPlan, PlannedStep
from engine.runtime.job_runner import Choice

_SHOWN = 20


def plan_job(
    spec: Path, settings: Sequence[str], file: Path | None, choice: Choice, preview: int | None, format_: str
) -> int:
    """Show what a run of a job would do; exit code 1 where locked items would keep it from beginning, or a step would fail."""
    loaded = load_job(spec, format_)
    made = job_plan.plan(loaded, settings, file, choice, 1 if preview is None else preview)
    each = loaded.job.for_each
    stops = any(item.locked for item in made.items) and not (each and each.locked and each.locked.skip)
    wrong = any(one.remark and not one.remark.startswith(("skipped", "depends")) for one in made.planned)
    if format_ == "json":
        say_json(_json(loaded.job.name, made))
    else:
        _show(loaded.job.title, made)
    return Exit.INCOMPLETE if stops or wrong else Exit.OK


def _json(name: str, made: JobPlan) -> dict[str, Any]:
    return {
        "job": name, "parameters": orjson.loads(made.parameters), "steps": [step.name for step in made.steps],
        "items": [{"key": item.key, "label": item.label, "locked": item.locked} for item in made.items],
        "statements": [
            {
                "item": one.item, "step": one.step, "remark": one.remark,
                "statements": [{"sql": each.text, "values": [str(value) if value is not None else None for value in each.parameters]} for each in one.statements],
            }
            for one in made.planned
        ],
    }  # fmt: skip


def _show(title: str, made: JobPlan) -> None:
    say(
        f"{title}: {count(len(made.items), 'item')}, {count(len(made.steps), 'step')} each: {', '.join(step.title for step in made.steps)}"
    )
    rows = [[item.key, item.label, item.locked or ""] for item in made.items[:_SHOWN] if item.label]
    if rows:
        common.print_table([("Key", "left"), ("Item", "left"), ("Locked", "left")], rows)
    if len(made.items) > _SHOWN:
        say(f"The first {_SHOWN} of {count(len(made.items), 'item')}; `--format json` has all of them.")
    for one in made.planned:
        _show_step(one)


def _show_step(one: PlannedStep) -> None:
    say()
    say(f"{one.item} {one.step}{': ' + one.remark if one.remark else ''}".strip())
    for statement in one.statements:
        for line in statement.text.splitlines():
            say(f"  {line}")
        if statement.parameters:
            say(f"  -- values: {', '.join(map(repr, statement.parameters))}")
