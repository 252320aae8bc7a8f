"""One run of a job from the outside: its row, its connections, a watch for the request to cancel, its end."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from engine.context import Cancel, RunContext, Tell
from engine.db import connect, dsn
from engine.db.connection import Connection
from engine.db.timeouts import Timeouts
from engine.errors import (
    ConnectionFailed,
    DatabaseError,
    EntityError,
    Exit,
    ParametersWrong,
    RunRefused,
    SourceError,
    StoreError,
    SyncLedgerError,
)
from engine.jobs import items, parameters, report, script
from engine.jobs.executor import Executor
from engine.jobs.items import Item
from engine.jobs.model import Job, Step
from engine.jobs.report import RunReport
from engine.jobs.spec.load import LoadedJob
from engine.jobs.spec.project import Project
from engine.jobs.states import ItemState, RunState, StepState
from engine.jobs.store import JobStore, StoredRun
from engine.spec.suggest import did_you_mean
from engine.store.base import Kept
from engine.store.retries import Patience

_LOOK_SECONDS = 0.3
"""How often a run looks whether it was cancelled."""
_BEAT_EVERY = 40
"""Every so many looks the run gives a sign of life."""
_CONNECT = 15.0
_KEY = 255
_LONGEST = 24 * 3600.0
"""Seconds: the limit of a statement whose step has no timeout of its own."""


class InDoubt(SyncLedgerError):
    """A step was cut off and may have been done; a person has to say whether (exit 5)."""

    exit_code = Exit.WAITING


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person has chosen of a job: some of its steps, some of its items, a note for the history."""

    steps: Sequence[str] = ()
    items: Sequence[str] = ()
    note: str | None = None


@contextmanager
def store(project: Project, *, create: bool = False) -> Iterator[JobStore]:
    """The store of a project, closed at the end. Raises `StoreError`."""
    opened = _open_store(project, create=create)
    try:
        made = JobStore(opened, Patience(30.0) if create else None)
        if create:
            made.prepare()
        yield made
    finally:
        opened.close()


@contextmanager
def reading(project: Project) -> Iterator[JobStore | None]:
    """The store of a project for reading; None where no run has made it yet. Raises `StoreError`."""
    if project.store.startswith(dsn.SQLITE) and not connect.sqlite_file(project.store, project.root).exists():
        yield None
        return
    with store(project) as kept:
        yield kept if kept.in_use() else None


def _open_store(project: Project, *, create: bool) -> Connection:
    if create and project.store.startswith(dsn.SQLITE):
        folder = connect.sqlite_file(project.store, project.root).parent
        if folder == project.root / "var":
            folder.mkdir(exist_ok=True)
    try:
        return connect.open_ledger("store", project.store, project.root, Timeouts(_CONNECT, 60.0), create=create)
    except ConnectionFailed as failure:
        raise StoreError(f"the store of the project cannot be opened: {failure}") from failure


@dataclass(slots=True)
class Connections:
    """The connections of a job, opened when they are first asked for."""

    job: Job
    stack: ExitStack
    read_only: bool = False
    opened: dict[str, Connection] = field(default_factory=dict)

    def of(self, alias: str | None) -> Connection:
        """The connection of an alias; None is the only one there is. Raises `ConnectionFailed`."""
        name = self._name(alias)
        if name not in self.opened:
            self.opened[name] = self.another(name)
            self.stack.callback(self.opened[name].close)
        return self.opened[name]

    def another(self, alias: str | None) -> Connection:
        """One more connection of an alias; who asks for it closes it. Raises `ConnectionFailed`."""
        name = self._name(alias)
        longest = max((step.timeout or _LONGEST for step in self.job.steps), default=_LONGEST)
        opening = connect.open_source if self.read_only else connect.open_target
        return opening(name, self.job.connections[name], self.job.root, Timeouts(_CONNECT, longest + 60))

    def _name(self, alias: str | None) -> str:
        return alias if alias is not None else next(iter(self.job.connections))


def run(
    loaded: LoadedJob, settings: Sequence[str], file: Path | None, choice: Choice, cancelled: Cancel, tell: Tell
) -> RunReport:
    """Run a job once. Raises `ParametersWrong`, `StoreError`, and what the items cannot be read for; the rest is in the report."""
    job = loaded.job
    values = parameters.given(job, settings, file)
    loaded.secrets.add(*parameters.secrets(job, values))
    steps = chosen_steps(job, choice)
    names = [step.name for step in steps]
    with store(loaded.project, create=True) as kept:
        stored = kept.begin(
            {
                "job": job.name, "concurrency": _key(job, values), "spec": _place(job, loaded.project), "digest": job.digest, "parameters": parameters.stored(job, values),
                "choice": orjson.dumps({"steps": names, "items": list(choice.items)}).decode(),
                "note": choice.note[:400] if choice.note else None,
            }
        )  # fmt: skip
        _refuse_rival(kept, stored, earlier=True)
        kept.act("run", stored.id, choice.note)
        kept.say(stored, "run.started", user=stored.user)
        return _go(loaded, kept, stored, steps, values, choice.items, cancelled, tell, skip=False)


def resume(
    loaded: LoadedJob,
    wanted: StoredRun,
    settings: Sequence[str],
    cancelled: Cancel,
    tell: Tell,
    *,
    redo: bool,
    skip: bool,
) -> RunReport:
    """Go on with a run where it has failed, was lost, or left items undone.

    Raises `RunRefused` for a run that is over or goes on, and for a spec that was changed meanwhile, and `InDoubt` where a step was cut off
    and nobody has said what it counts for.
    """
    job = loaded.job
    with store(loaded.project, create=True) as kept:
        state = _settled(kept, wanted)
        if wanted.digest != job.digest:
            raise RunRefused(
                f"{job.shown} was changed after run #{wanted.number} began; run it anew, or put the file back"
            )
        choice = orjson.loads(wanted.choice)
        steps = [step for step in job.steps if step.name in choice["steps"]]
        before = {(one.item, one.step): one for one in kept.steps(wanted)}
        repeatable = {step.name for step in steps if step.repeatable}
        doubt = [one for one in before.values() if one.state is StepState.RUNNING and one.step not in repeatable]
        if doubt and not (redo or skip):
            one = doubt[0]
            raise InDoubt(
                f"run #{wanted.number}: the step {one.step!r} of {one.label or 'the job'} was cut off and may have been done"
                + (f" (session {one.session})" if one.session else "")
                + "; look at its effect, then resume with --redo (it was not done) or --skip (it was)"
            )
        values = parameters.restored(job, wanted.parameters, settings)
        loaded.secrets.add(*parameters.secrets(job, values))
        stored = kept.resume(kept.find(wanted.id) or wanted) if state.resumable else wanted
        _refuse_rival(kept, stored, earlier=False)
        kept.act("resume", stored.id, "redo" if redo else "skip" if skip else None)
        kept.say(stored, "run.resumed", user=stored.user, attempt=stored.attempt)
        for one in doubt if skip else ():
            kept.say(stored, "step.skipped_by_person", level="warning", label=one.label, name=one.step)
        return _go(loaded, kept, stored, steps, values, choice["items"], cancelled, tell, skip=skip, before=before)


def _key(job: Job, values: dict[str, Any]) -> str:
    """What only one run at a time may have. Raises `ParametersWrong` where its expression fails."""
    try:
        found = script.value(job.concurrency or "", {"params": MappingProxyType(values)})
    except DatabaseError as failure:
        raise ParametersWrong(f"`concurrency.key`: {failure}") from failure
    text = "" if found is None else str(found)
    # The column holds so many characters; a longer key is told from another one by its hash.
    return text if len(text) <= _KEY else hashlib.sha256(text.encode()).hexdigest()


def _refuse_rival(kept: JobStore, stored: StoredRun, *, earlier: bool) -> None:
    """Raises `RunRefused` where another run goes on under the same key; this one has then failed before it began."""
    rival = kept.rival(stored, earlier=earlier)
    if rival is None:
        return
    said = f"run #{rival.number} of job {rival.job} goes on: {rival.user} on {rival.host}, process {rival.pid}, since {str(rival.started)[:19]} UTC"
    kept.move(stored, RunState.RUNNING, RunState.FAILED, f"refused: {said}")
    raise RunRefused(f"{said}; nothing was begun")


def _place(job: Job, project: Project) -> str:
    """Where the job's file is, from the project's folder: so that another machine, or another folder, finds it."""
    inside = job.file.is_relative_to(project.root)
    return (job.file.relative_to(project.root) if inside else job.file).as_posix()


def _settled(kept: JobStore, wanted: StoredRun) -> RunState:
    """The state of a run that may be resumed; one whose process is gone is marked as lost. Raises `RunRefused`."""
    if wanted.cancelled is not None:
        raise RunRefused(
            f"run #{wanted.number} was cancelled by {wanted.cancelled_by}; a cancelled run is never taken up again"
        )
    if wanted.state is RunState.RUNNING:
        if not wanted.process_gone:
            raise RunRefused(
                f"run #{wanted.number} goes on: {wanted.user} on {wanted.host}, process {wanted.pid}, since {wanted.started} UTC"
            )
        kept.move(wanted, RunState.RUNNING, RunState.LOST, "its process is gone")
        return RunState.LOST
    if not wanted.state.resumable:
        raise RunRefused(f"run #{wanted.number} has {wanted.state}; there is nothing to resume")
    return wanted.state


def _go(
    loaded: LoadedJob,
    kept: JobStore,
    stored: StoredRun,
    steps: Sequence[Step],
    values: dict[str, Any],
    keys: Sequence[str],
    cancelled: Cancel,
    tell: Tell,
    *,
    skip: bool,
    before: dict[Any, Any] | None = None,
) -> RunReport:
    """The run itself: read the items, do the steps, write how it ended."""
    job, context = loaded.job, RunContext.start(cancelled, tell)
    if job.timeout:
        context = replace(context, deadline=context.started + timedelta(seconds=job.timeout))
    facts = {
        "id": stored.id,
        "number": stored.number,
        "user": stored.user,
        "started": str(stored.started),
        "attempt": stored.attempt,
    }
    known = {"params": MappingProxyType(values), "run": MappingProxyType(facts)}
    mask = loaded.secrets.mask
    with ExitStack() as stack:
        connections = Connections(job, stack)
        tell("run_started", job=job.title, number=stored.number)
        try:
            found = chosen_items(items.read(job.for_each, connections.of, known), keys)
            items.refuse_locked(found, job.for_each)
        except (SourceError, EntityError, ConnectionFailed, RunRefused) as failure:
            kept.move(stored, RunState.RUNNING, RunState.FAILED, mask(str(failure)))
            raise
        kept.total(stored, len(found))
        executor = Executor(
            job, kept, stored, context, connections.of, connections.another, mask, steps, known, before or {}, skip
        )
        with _Watch(loaded.project, stored, cancelled):
            executor.execute(found)
        late = f"the run took longer than its timeout of {job.timeout:g} s" if executor.late else None
        return _ended(kept, stored, cancelled, stopped=executor.stopped, late=late)


def _ended(kept: JobStore, stored: StoredRun, cancelled: Cancel, *, stopped: bool, late: str | None) -> RunReport:
    """Write how the run ended. The request to cancel decides, whatever the steps have returned."""
    now = kept.find(stored.id) or stored
    told = report.of(now, kept.steps(stored))
    if cancelled.is_set() or now.cancelled is not None:
        if now.state is RunState.RUNNING:
            kept.cancel(now, "a signal")
            kept.say(now, "run.cancelled", level="warning", user=now.user, why="")
        kept.move(stored, RunState.CANCELLING, RunState.CANCELLED)
    else:
        undone = [item for item in told.items if item.state is not ItemState.SUCCEEDED]
        counts = told.counts
        left = counts["total"] - counts[ItemState.SUCCEEDED]
        state = RunState.FAILED if stopped else RunState.INCOMPLETE if left else RunState.SUCCEEDED
        kept.move(stored, RunState.RUNNING, state, late or (undone[0].reason if undone else None))
    over = report.of(kept.find(stored.id) or stored, kept.steps(stored))
    kept.say(stored, "run.ended", state=over.state)
    return over


def chosen_steps(job: Job, choice: Choice) -> list[Step]:
    """The steps to run, in the job's order. Raises `ParametersWrong` for a name that is none."""
    known = [step.name for step in job.steps if step.selectable]
    unknown = [name for name in choice.steps if name not in known]
    if unknown:
        raise ParametersWrong("\n".join(f"unknown step {name!r}{did_you_mean(name, known)}" for name in unknown))
    return [step for step in job.steps if not choice.steps or step.name in choice.steps or not step.selectable]


def chosen_items(found: list[Item], keys: Sequence[str]) -> list[Item]:
    """The items that a person has named, or all of them. Raises `EntityError` for a key that is none."""
    if not keys:
        return found
    known = {item.key for item in found}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise EntityError(f"there is no item {unknown[0]!r}{did_you_mean(unknown[0], sorted(known)[:100])}")
    return [item for item in found if item.key in keys]


class _Watch:
    """Looks for the request to cancel and gives signs of life, from a thread and a connection of its own."""

    def __init__(self, project: Project, stored: StoredRun, cancelled: Cancel) -> None:
        self._stored, self._cancelled = stored, cancelled
        self._kept = Kept(lambda: _open_store(project, create=True))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        looks = 0
        while not self._stop.wait(_LOOK_SECONDS):
            # A look that fails is tried again: the run itself says when the store is gone.
            with suppress(SyncLedgerError), self._kept.connection() as connection:
                kept = JobStore(connection)
                found = kept.find(self._stored.id)
                if found is None or found.cancelled is not None or found.token != self._stored.token:
                    self._cancelled.set()
                looks += 1
                if looks % _BEAT_EVERY == 0:
                    kept.beat(self._stored)
        self._kept.close()
