"""One run from the outside: the lease, the entities, the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine import app
from engine.context import Cancel, RunContext
from engine.errors import (
    ConnectionFailed,
    Exit,
    LeaseHeld,
    LedgerError,
    NotConfirmed,
    Problem,
    SourceError,
    SpecError,
    SyncLedgerError,
)
from engine.observe import logs
from engine.observe.observer import Careful, Observer
from engine.observe.secrets import Secrets
from engine.spec.suggest import did_you_mean
from engine.sync import preflight
from engine.sync.ledger.ledger import Ledger
from engine.sync.ledger.states import RunStatus
from engine.sync.model import Entity, Pipeline
from engine.sync.partition import Crew
from engine.sync.path import sync
from engine.sync.preflight import Allowed
from engine.sync.report import EntityReport
from engine.sync.spec.load import Loaded
from engine.sync.tools import Tools


@dataclass(slots=True)
class RunReport:
    """The outcome of a run, as `--format json` prints it."""

    run_id: str
    pipeline: str
    status: RunStatus
    error: str | None = None
    holder: dict[str, Any] | None = None
    seconds: float = 0.0
    entities: list[EntityReport] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """The gravest of: 130 cancelled, 3 refused, 4 a database failed, 1 something was not delivered, 0."""
        if self.status is RunStatus.CANCELLED:
            return Exit.CANCELLED
        if self.status is RunStatus.REFUSED:
            return Exit.REFUSED
        if any(entity.gravity == "database" for entity in self.entities) or self.status is RunStatus.ERROR:
            return Exit.DATABASE
        return Exit.OK if self.status is RunStatus.DELIVERED else Exit.INCOMPLETE

    def as_json(self) -> dict[str, Any]:
        """The document that `run --format json` prints."""
        entities = [
            {
                "name": entity.name,
                "read": entity.counts.read,
                **asdict(entity.counts),
                "seconds": round(entity.seconds, 3),
                "error": entity.error,
            }
            for entity in self.entities
        ]
        return {
            "run_id": self.run_id, "pipeline": self.pipeline, "status": self.status, "error": self.error,
            "holder": self.holder, "seconds": round(self.seconds, 3), "entities": entities,
        }  # fmt: skip


def chosen(pipeline: Pipeline, names: Sequence[str]) -> tuple[Entity, ...]:
    """The entities to run, in the spec's order. Raises `SpecError` for a name that is not one."""
    known = {entity.name for entity in pipeline.entities}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SpecError(
            [
                Problem(pipeline.shown, *pipeline.entities_at, f"unknown entity {name!r}{did_you_mean(name, known)}")
                for name in unknown
            ]
        )
    return tuple(entity for entity in pipeline.entities if not names or entity.name in names)


@dataclass(frozen=True, slots=True)
class Choice:
    """What one run does of its pipeline, as a person, or nobody, has chosen.

    With a `crew` entities are cut into parts for other processes. With `strict` records that were rejected by earlier runs count
    against the run too. `allowed` is what a person said beforehand.
    """

    names: Sequence[str] = ()
    limit: int | None = None
    crew: Crew | None = None
    strict: bool = False
    allowed: Allowed = field(default_factory=Allowed)


EVERYTHING = Choice()


def run_pipeline(
    loaded: Loaded, observer: Observer, choice: Choice = EVERYTHING, cancelled: Cancel | None = None
) -> RunReport:
    """Run a pipeline once. Raises `SpecError` only; everything else is in the report, without secrets."""
    entities = chosen(loaded.pipeline, choice.names)
    run = RunContext.start(cancelled, Careful(observer).hear)
    logs.RUN.set(run.id)
    report = RunReport(run.id, loaded.pipeline.name, RunStatus.ERROR)
    began = time.monotonic()
    with _failures_reported(report, loaded.secrets.mask):
        _run(loaded, choice, entities, run, report, counts_rows=observer.wants_rows)
    report.seconds = time.monotonic() - began
    return report


def _run(
    loaded: Loaded,
    choice: Choice,
    entities: tuple[Entity, ...],
    run: RunContext,
    report: RunReport,
    *,
    counts_rows: bool,
) -> None:
    """Under the lease: what is due is sent, and the run's row says how it ended."""
    began = time.monotonic()
    emptied = app.ledger_is_an_empty_file(loaded.pipeline)
    with app.connections(loaded.pipeline) as opened, _held_ledger(opened, run, loaded.secrets) as ledger:
        run = replace(run, last_success=ledger.history.last_success())
        ledger.row.started()
        with (
            _bugs_recorded(ledger, report),
            app.tools(loaded, opened, ledger, run, counts_rows=counts_rows) as tools,
        ):
            if _may_begin(entities, tools, choice, report, emptied=emptied):
                run.tell("run_started", run=run.id)
                report.entities = sync(entities, tools, choice.limit, choice.crew)
                report.status = _status(report.entities, run, strict=choice.strict)
        report.seconds = time.monotonic() - began
        for entity in report.entities:
            entity.error = loaded.secrets.mask(entity.error) if entity.error else None
        # A run that left something out on purpose is no reference for templates that ask for the last success.
        partial = report.status is RunStatus.DELIVERED and bool(choice.names or choice.limit)
        ledger.row.ended(RunStatus.PARTIAL if partial else report.status, report.as_json())


@contextmanager
def _failures_reported(report: RunReport, mask: Callable[[str], str]) -> Iterator[None]:
    """A lease that another run holds, and a ledger that fails, end the run and stand in its report."""
    try:
        yield
    except LeaseHeld as held:
        report.status, report.error, report.holder = RunStatus.REFUSED, mask(str(held)), held.holder.as_json()
    except LedgerError as failure:
        report.status, report.error = RunStatus.ERROR, mask(str(failure))
        for entity in report.entities:
            entity.gravity = "database"


def _may_begin(entities: tuple[Entity, ...], tools: Tools, choice: Choice, report: RunReport, *, emptied: bool) -> bool:
    """True when what is due may be sent. What speaks against it, or cannot be read, is in the report."""
    try:
        preflight.check(entities, tools.ledger.store.spec, tools, choice.allowed, choice.limit, emptied=emptied)
    except NotConfirmed as failure:
        report.status, report.error = RunStatus.INCOMPLETE, tools.mask(str(failure))
        return False
    except (SourceError, ConnectionFailed):
        return True  # the entity itself says so when its turn comes
    return True


@contextmanager
def _held_ledger(opened: app.Connections, run: RunContext, secrets: Secrets) -> Iterator[Ledger]:
    """The ledger with the pipeline's lease, kept by a heartbeat, given back at the end. Raises `LeaseHeld`."""
    ledger = app.open_ledger(opened, run, secrets)
    ledger.lease.acquire(opened.pipeline.lease_expires)
    try:
        ledger.lease.prove(opened.another_ledger)
        with ledger.lease.heartbeat(opened.another_ledger):
            yield ledger
    finally:
        try:
            ledger.lease.release()
        finally:
            ledger.store.db.close()


@contextmanager
def _bugs_recorded(ledger: Ledger, report: RunReport) -> Iterator[None]:
    """After a bug the run's row says so, and what it had on the wire is in doubt, as after a crash. The bug goes on."""
    try:
        yield
    except SyncLedgerError:
        raise
    except Exception as bug:
        report.error = f"a bug: {type(bug).__name__}"
        with suppress(SyncLedgerError):
            ledger.batches.abandon(f"may have been processed; the run ended by a bug ({type(bug).__name__})")
            ledger.row.ended(RunStatus.ERROR, report.as_json())
        raise


def _status(entities: list[EntityReport], run: RunContext, *, strict: bool) -> RunStatus:
    if run.cancelled.is_set():
        return RunStatus.CANCELLED
    if any(entity.gravity == "database" for entity in entities):
        return RunStatus.ERROR
    undelivered = sum(
        count.rejected
        + count.failed
        + count.in_doubt
        + count.waiting
        # What earlier runs have refused was said then.
        - (0 if strict else count.rejected_before + count.resting)
        for count in (entity.counts for entity in entities)
    )
    left = undelivered or any(entity.gravity for entity in entities)
    return RunStatus.INCOMPLETE if left else RunStatus.DELIVERED
