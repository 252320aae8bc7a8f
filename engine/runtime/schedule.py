"""The schedule loop: runs pipelines when they are due, in this process, until it is told to stop.

The `schedule` package is the tick. Due times are computed by cronsim in the pipeline's own zone, since naive times are
wrong on the nights when clocks change, and the last one served is kept in the ledger, so that a restart knows what it missed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import schedule

from engine import app
from engine.context import Cancel
from engine.errors import Problem, SpecError, SyncLedgerError
from engine.observe.logs import Log
from engine.observe.progress import Lines
from engine.runs.times import Schedule, as_text, at_start, due_times, latest_missed, next_due
from engine.runtime import runner
from engine.sync.ledger.states import RunStatus
from engine.sync.model import Pipeline
from engine.sync.spec.load import Loaded, load

_LOG = Log(logging.getLogger(__name__))
_TICK_SECONDS = 0.5
_RETRY_SECONDS = 60.0

RunOnce = Callable[[Path, Cancel], RunStatus]


@dataclass(slots=True)
class Entry:
    """One pipeline of the loop."""

    spec: Path
    plan: Schedule
    name: str
    due: datetime | None = None
    running: threading.Thread | None = None
    ask_again: datetime | None = None

    @property
    def log(self) -> Log:
        """Every line names the pipeline."""
        return _LOG.bind(pipeline=self.name)


@dataclass(slots=True)
class Loop:
    """Pipelines and their due times. `tick` is one step; `run` repeats it until `cancelled` is set."""

    entries: list[Entry]
    cancelled: Cancel
    now: Callable[[], datetime]
    run_once: RunOnce
    memory: Memory
    cut_short: bool = False
    """True when a run was cancelled before it was through."""
    _scheduler: schedule.Scheduler = field(default_factory=schedule.Scheduler)

    def run(self) -> None:
        """Tick until cancelled, then wait for the runs that are on their way to finish what is on the wire."""
        self.tick()
        self._scheduler.every(1).seconds.do(self.tick)
        while not self.cancelled.is_set():
            self._scheduler.run_pending()
            self.cancelled.wait(_TICK_SECONDS)
        for entry in self.entries:
            while entry.running and entry.running.is_alive():
                entry.running.join(0.2)  # a join without an end would keep a second signal waiting on Windows

    def tick(self) -> None:
        """Start what is due. An entry that fails is logged and tried again; it never stops the others."""
        for entry in self.entries:
            try:
                self._tick_entry(entry, self.now())
            except SyncLedgerError as failure:
                self._later(entry, str(failure))
            except Exception as bug:
                entry.log.exception("%s: a bug", entry.name)
                self._later(entry, type(bug).__name__)

    def _later(self, entry: Entry, why: str) -> None:
        entry.ask_again = self.now() + timedelta(seconds=_RETRY_SECONDS)
        entry.log.error("%s: %s; trying again in %.0f s", entry.name, why, _RETRY_SECONDS)

    def _tick_entry(self, entry: Entry, now: datetime) -> None:
        if entry.running and entry.running.is_alive():
            return
        if entry.ask_again and now < entry.ask_again:
            return
        entry.ask_again = None
        if entry.due is None:
            entry.due = self._first_due(entry, now)
        if now < entry.due:
            return
        # Times that passed during a long run are served by one run.
        due = latest_missed(entry.plan, entry.due, now) or entry.due
        entry.due = next_due(entry.plan, due)
        entry.running = threading.Thread(target=self._serve, args=(entry, due), name=f"run-{entry.name}")
        entry.running.start()

    def _first_due(self, entry: Entry, now: datetime) -> datetime:
        """When an entry is due after a start, by what the ledger remembers and the misfire rule."""
        start = at_start(entry.plan, self.memory.last_due(entry), now)
        entry.log.info(
            "%s: next run %s: %s",
            entry.name,
            as_text(start.due),
            start.why,
            fields={"due": as_text(start.due)},
        )
        if start.skipped is not None:
            self.memory.served(entry, start.skipped)
        return start.due

    def _serve(self, entry: Entry, due: datetime) -> None:
        """One run. Its due time counts as served when it is over, unless it was cancelled: then a restart goes on."""
        try:
            status = self.run_once(entry.spec, self.cancelled)
            level = logging.INFO if status is RunStatus.DELIVERED else logging.ERROR
            entry.log.log(
                level,
                "%s: run of %s: %s",
                entry.name,
                as_text(due),
                status,
                fields={"status": status},
            )
            if status is RunStatus.CANCELLED:
                self.cut_short = True
            else:
                self.memory.served(entry, due)
        except SyncLedgerError as failure:
            entry.log.error("%s: %s", entry.name, failure)
        except Exception:
            entry.log.exception("%s: the run failed by a bug; the loop goes on", entry.name)


class Memory:
    """Due times in the ledgers of the pipelines."""

    def __init__(self, loaded: dict[Path, Loaded]) -> None:
        self._loaded = loaded

    def last_due(self, entry: Entry) -> datetime | None:
        """The last due time that was served or skipped. Raises `LedgerError`."""
        return self._due(entry, lambda due: due.last_due())  # type: ignore[no-any-return]

    def look(self, entry: Entry) -> datetime | None:
        """The same, without creating anything. Raises `LedgerError`."""
        loaded = self._loaded[entry.spec]
        with app.connections(loaded.pipeline) as opened:
            due = app.read_due(opened, loaded.secrets)
            return due.last_due() if due else None

    def served(self, entry: Entry, due: datetime) -> None:
        """Remember a due time as served. Raises `LedgerError`."""
        self._due(entry, lambda memory: memory.set_last_due(due))

    def _due(self, entry: Entry, work: Callable[[Any], Any]) -> Any:
        loaded = self._loaded[entry.spec]
        with app.connections(loaded.pipeline) as opened:
            return work(app.open_due(opened, loaded.secrets))


@dataclass(frozen=True, slots=True)
class Coming:
    """One due time as a start now would have it. `why` is said of the first of each pipeline, `at_once` of one that would run now."""

    due: datetime
    pipeline: str
    at_once: bool = False
    why: str | None = None


def coming(entry: Entry, last: datetime | None, now: datetime) -> Iterator[Coming]:
    """The due times of a pipeline if the loop were started now, by the computation that the loop itself uses."""
    start = at_start(entry.plan, last, now)
    at_once = start.due <= now
    yield Coming(now.astimezone(entry.plan.timezone) if at_once else start.due, entry.name, at_once, start.why)
    for due in due_times(entry.plan, start.due):
        if due > now:
            yield Coming(due, entry.name)


def entries(specs: list[Path]) -> tuple[list[Entry], dict[Path, Loaded]]:
    """The entries of specs. Raises `SpecError` for what is wrong in any of them, a missing schedule included."""
    problems: list[Problem] = []
    made: list[Entry] = []
    read: dict[Path, Loaded] = {}
    for spec in specs:
        try:
            read[spec] = load(spec)
        except SpecError as failure:
            problems += failure.problems
            continue
        pipeline: Pipeline = read[spec].pipeline
        if pipeline.schedule is None:
            problems.append(
                read[spec].document.problem(
                    (), "the key 'schedule' is missing; add for example `schedule: { daily_at: \"02:00\" }`"
                )
            )
        elif pipeline.name in (entry.name for entry in made):
            problems.append(
                read[spec].document.problem(("name",), f"another spec here is also called {pipeline.name!r}")
            )
        else:
            made.append(Entry(spec, pipeline.schedule, pipeline.name))
    if problems:
        raise SpecError(problems)
    return made, read


def run_spec(spec: Path, cancelled: Cancel) -> RunStatus:
    """Run a spec as it stands now; gives the run's status. Raises `SpecError`."""
    loaded = load(spec)
    with Lines(loaded.pipeline.name if loaded.pipeline else None) as observer:
        report = runner.run_pipeline(loaded, observer, cancelled=cancelled)
    if report.error:
        _LOG.bind(pipeline=report.pipeline).error("%s: %s", report.pipeline, report.error)
    return report.status
