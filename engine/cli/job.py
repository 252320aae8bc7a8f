"""Runs a job: the second half of `run`, and `resume`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from engine.cli import common
from engine.cli.say import safe, say, say_json
from engine.context import Cancel
from engine.errors import Exit, SpecError
from engine.jobs.report import RunReport
from engine.jobs.spec import project
from engine.jobs.spec.load import LoadedJob, load
from engine.jobs.states import ItemState, RunState
from engine.jobs.store import JobStore, StoredRun
from engine.observe.words import count, state
from engine.runtime import job_runner, signals
from engine.runtime.job_runner import Choice
from engine.spec.load import project_root

RESUME_EPILOG = """\b
Examples:
  syncledger resume 81           go on with run #81 where it failed or was cut off
  syncledger resume 81 --redo    the step that was cut off was not done: do it again
  syncledger resume 81 --skip    it was done: go on behind it
"""


def run_job(
    spec: Path,
    settings: Sequence[str],
    file: Path | None,
    choice: Choice,
    format_: str,
    log_format: str,
    *,
    quiet: bool,
) -> int:
    """Run a job here and now, with progress; returns the exit code."""
    common.log_setup(log_format, quiet=quiet)
    loaded = load_job(spec, format_)
    with signals.cancel_on_signals(lambda: os._exit(Exit.CANCELLED)) as cancelled:
        told = job_runner.run(loaded, settings, file, choice, cancelled, Progress(quiet=quiet).hear)
    return shown(told, format_)


@click.command(epilog=RESUME_EPILOG)
@click.argument("run_")
@click.option("--redo", is_flag=True, help="The step that was cut off was not done: do it again.")
@click.option("--skip", is_flag=True, help="The step that was cut off was done: go on behind it.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A secret parameter, which is not kept.")
@common.format_option
@common.log_options
def resume(
    run_: str, redo: bool, skip: bool, settings: tuple[str, ...], format_: str, log_format: str, quiet: bool
) -> int:
    """Go on with RUN (its number or id) where it failed, was cut off, or left items undone.

    What was done is not done again. A run that was cancelled, or has succeeded, is refused (exit 3).
    """
    if redo and skip:
        raise click.UsageError("give --redo or --skip, not both")
    common.log_setup(log_format, quiet=quiet)
    with job_runner.reading(here()) as kept:
        found = known_run(kept, run_)
    loaded = load_job(here().root / found.spec, format_)
    with signals.cancel_on_signals(lambda: os._exit(Exit.CANCELLED)) as cancelled:
        told = _resumed(loaded, found, settings, cancelled, redo=redo, skip=skip, quiet=quiet)
    return shown(told, format_)


def _resumed(
    loaded: LoadedJob,
    found: StoredRun,
    settings: Sequence[str],
    cancelled: Cancel,
    *,
    redo: bool,
    skip: bool,
    quiet: bool,
) -> RunReport:
    hear = Progress(quiet=quiet).hear
    return job_runner.resume(loaded, found, settings, cancelled, hear, redo=redo, skip=skip)


def here() -> project.Project:
    """The project of the current folder."""
    return project.load(project_root(Path.cwd() / "-"))


def known_run(kept: JobStore | None, wanted: str) -> StoredRun:
    """A run by its number or id. Raises a usage error where there is none."""
    found = kept.find(wanted) if kept else None
    if found is None:
        raise click.UsageError(f"there is no run {safe(wanted)!r} here; `syncledger runs` lists them")
    return found


def load_job(spec: Path, format_: str) -> LoadedJob:
    """Load a job; the process exits with 2 and all problems of one that is wrong."""
    try:
        return load(spec)
    except SpecError as failure:
        common.leave_with_problems(failure, format_)


def shown(told: RunReport, format_: str) -> int:
    """Print a report; returns the exit code."""
    if format_ == "json":
        say_json(told.as_json())
    else:
        for line in summary(told):
            say(line)
    return told.exit_code


def summary(told: RunReport) -> list[str]:
    """A report in a few lines: what went wrong first, then the sums."""
    lines = []
    for item in told.items:
        if item.state is not ItemState.SUCCEEDED:
            name = f"{item.label}: " if item.label else ""
            step = f" at {item.step}" if item.step else ""
            lines.append(f"{name}{state(item.state)}{step}{': ' + item.reason if item.reason else ''}")
    counts = told.counts
    parts = [f"{number:,} {state(name)}" for name, number in counts.items() if number and name != "total"]
    seconds = told.as_json()["seconds"]
    took = f" in {seconds:g} s" if seconds is not None else ""
    lines.append(
        f"{told.run.job} #{told.run.number} {told.state}{took}: {count(counts['total'], 'item')}, {', '.join(parts)}"
    )
    if told.state in (RunState.FAILED, RunState.INCOMPLETE, RunState.LOST) and told.run.cancelled is None:
        lines.append(f"Go on with: syncledger resume {told.run.number}")
    return lines


class Progress:
    """Shows the events of a run as lines on stderr: each item, and each step of it."""

    def __init__(self, *, quiet: bool, write: Callable[[str], None] | None = None) -> None:
        self._quiet = quiet
        self._write = write or (lambda text: say(text, err=True))
        self._item = ""

    def hear(self, event: str, /, **fields: Any) -> None:
        """One event; one that it does not know is left out. A reader that has left ends the lines, not the run."""
        if self._quiet:
            return
        line = self._line(event, fields)
        if line:
            try:
                self._write(line)
            except BrokenPipeError:
                self._quiet = True

    def _line(self, event: str, fields: dict[str, Any]) -> str | None:
        if event == "run_started":
            return f"{fields['job']} #{fields['number']}"
        if event == "item_started":
            numbered = f"{fields['noun']} {fields['number']:,}/{fields['of']:,}" if fields["noun"] else ""
            self._item = f"{numbered} '{fields['label']}': " if numbered else ""
            return None
        if event == "step_started":
            return f"{self._item}{fields['step']}"
        if event == "item_locked":
            return f"{fields['reason']}; it is skipped"
        if event == "step_retried":
            return f"{self._item}{fields['step']} failed: {fields['reason']}; trying again in {fields['seconds']:g} s"
        if event == "step_failed":
            return f"{self._item}{fields['step']} failed: {fields['reason']} ({state(fields['then'])})"
        return None
