"""The composition root: the only place that builds connections, sessions and ledgers, and closes them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

from engine.context import RunContext
from engine.db import connect, strings
from engine.db.connect import Connection
from engine.endpoint.session import Caller
from engine.errors import ConnectionFailed, LeaseHeld, LedgerError, Problem, SpecError
from engine.ledger.acts import Acts
from engine.ledger.due import Due
from engine.ledger.history import History
from engine.ledger.ledger import Ledger
from engine.ledger.rejects import Policy
from engine.model import Entity, Pipeline
from engine.observe.observer import Careful, Observer
from engine.settlement import EntityReport, Tools
from engine.spec.check import did_you_mean
from engine.spec.load import Loaded
from engine.spec.secrets import Secrets
from engine.stages.pace import Pace
from engine.sync import sync


@dataclass(slots=True)
class RunReport:
    """The outcome of a run, as `--format json` prints it."""

    run_id: str
    pipeline: str
    status: str
    error: str | None = None
    holder: dict[str, Any] | None = None
    seconds: float = 0.0
    entities: list[EntityReport] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """The gravest of: 130 cancelled, 3 refused, 4 a database failed, 1 something was not delivered, 0."""
        if self.status == "cancelled":
            return 130
        if self.status == "refused":
            return 3
        if any(entity.gravity == "database" for entity in self.entities) or (self.error and not self.entities):
            return 4
        return 0 if self.status == "delivered" else 1

    def as_json(self) -> dict[str, Any]:
        """The document that `run --format json` prints."""
        entities = [
            {"name": entity.name, **asdict(entity.counts), "seconds": round(entity.seconds, 3), "error": entity.error}
            for entity in self.entities
        ]
        return {
            "run_id": self.run_id, "pipeline": self.pipeline, "status": self.status, "error": self.error,
            "holder": self.holder, "seconds": round(self.seconds, 3), "entities": entities,
        }  # fmt: skip


@dataclass(slots=True)
class Connections:
    """Opens each alias when it is first asked for and closes them all."""

    pipeline: Pipeline
    _stack: ExitStack
    _opened: dict[str, Connection] = field(default_factory=dict)

    def source(self, alias: str) -> Connection:
        """The source connection of an alias. Raises `ConnectionFailed`."""
        if alias not in self._opened:
            opened = connect.open_source(alias, self.pipeline.connections[alias], self.pipeline.root)
            self._stack.callback(opened.close)
            self._opened[alias] = opened
        return self._opened[alias]

    def another_ledger(self) -> Connection:
        """One more connection to the ledger; who asks for it closes it. Raises `ConnectionFailed`."""
        pipeline = self.pipeline
        alias = pipeline.ledger.connection
        return connect.open_ledger(alias, pipeline.connections[alias], pipeline.root, create=True)

    def ledger(self, *, create: bool) -> Connection:
        """The ledger's connection. Raises `LedgerError`."""
        alias = self.pipeline.ledger.connection
        try:
            opened = connect.open_ledger(alias, self.pipeline.connections[alias], self.pipeline.root, create=create)
        except ConnectionFailed as failure:
            raise LedgerError(f"the ledger cannot be opened: {failure}") from failure.__cause__
        self._stack.callback(opened.close)
        return opened


@contextmanager
def connections(pipeline: Pipeline) -> Iterator[Connections]:
    """The connections of a pipeline, closed at the end."""
    with ExitStack() as stack:
        yield Connections(pipeline, stack)


def chosen(pipeline: Pipeline, names: Sequence[str]) -> tuple[Entity, ...]:
    """The entities to run, in the spec's order. Raises `SpecError` for a name that is not one."""
    known = {entity.name for entity in pipeline.entities}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SpecError(
            [
                Problem(str(pipeline.file), 1, 1, f"unknown entity {name!r}{did_you_mean(name, known)}")
                for name in unknown
            ]
        )
    return tuple(entity for entity in pipeline.entities if not names or entity.name in names)


def open_ledger(opened: Connections, run: RunContext, secrets: Secrets) -> Ledger:
    """The ledger of one run, its tables made where they are absent."""
    pipeline = opened.pipeline
    ledger = Ledger(
        opened.ledger(create=True),
        pipeline.ledger,
        pipeline.name,
        run.id,
        secrets.mask,
        policies={
            entity.name: Policy(entity.reject_delay, entity.reject_after, entity.resend == "changed")
            for entity in pipeline.entities
        },
        reopen=opened.another_ledger,
    )
    ledger.prepare()
    return ledger


def open_acts(opened: Connections, secrets: Secrets) -> Acts:
    """The ledger for what a person does, its tables made where they are absent."""
    pipeline = opened.pipeline
    acts = Acts(opened.ledger(create=True), pipeline.ledger, pipeline.name, RunContext.start().id, secrets.mask)
    acts.prepare()
    return acts


def open_due(opened: Connections, secrets: Secrets) -> Due:
    """The ledger's due times, their table made where it is absent."""
    pipeline = opened.pipeline
    due = Due(opened.ledger(create=True), pipeline.ledger, pipeline.name, RunContext.start().id, secrets.mask)
    due.prepare()
    return due


def open_history(opened: Connections, secrets: Secrets) -> History | None:
    """The ledger for reading, never written; None where it is a SQLite file that does not exist yet."""
    pipeline = opened.pipeline
    if not ledger_exists(pipeline):
        return None
    ledger = opened.ledger(create=False)
    return History(ledger, pipeline.ledger, pipeline.name, RunContext.start().id, secrets.mask)


def visible(pipeline: Pipeline, entity: Entity) -> str | None:
    """The tracking table as the source of an entity names it; None where the source does not see it."""
    ledger = pipeline.ledger
    if ledger.visible_as:
        return f"{ledger.visible_as}.{ledger.tracking_table.rpartition('.')[2]}"
    connections = pipeline.connections
    return ledger.tracking_table if connections[entity.connection] == connections[ledger.connection] else None


def audit(opened: Connections, secrets: Secrets, verb: str) -> None:
    """An audit row of somebody's look at the ledger, where there is one. Raises `LedgerError`."""
    pipeline = opened.pipeline
    if ledger_exists(pipeline):
        ledger = opened.ledger(create=True)
        acts = Acts(ledger, pipeline.ledger, pipeline.name, RunContext.start().id, secrets.mask)
        if acts.in_use():
            acts.act(verb, pipeline.name, {})


def ledger_exists(pipeline: Pipeline) -> bool:
    """False where the ledger is a SQLite file that no run has made yet."""
    text = pipeline.connections[pipeline.ledger.connection]
    return not text.startswith(strings.SQLITE) or connect.sqlite_file(text, pipeline.root).exists()


def run_pipeline(
    loaded: Loaded,
    observer: Observer,
    *,
    names: Sequence[str] = (),
    limit: int | None = None,
    cancelled: threading.Event | None = None,
) -> RunReport:
    """Run a pipeline once. Raises `SpecError` only; everything else is in the report, without secrets."""
    pipeline = loaded.pipeline
    assert pipeline is not None, "load() gives a pipeline or raises"  # noqa: S101
    entities = chosen(pipeline, names)
    run = RunContext.start(cancelled)
    report = RunReport(run.id, pipeline.name, "error")
    began = time.monotonic()
    mask = loaded.secrets.mask
    try:
        with connections(pipeline) as opened, _held_ledger(opened, run, loaded.secrets) as ledger:
            run.last_success = ledger.last_success()
            ledger.started()
            report.entities = _run_entities(loaded, entities, opened, ledger, run, observer, limit)
            report.status = _status(report.entities, run)
            report.seconds = time.monotonic() - began
            for entity in report.entities:
                entity.error = mask(entity.error) if entity.error else None
            # A run that left something out on purpose is no reference for templates that ask for the last success.
            partial = report.status == "delivered" and bool(names or limit)
            ledger.ended("partial" if partial else report.status, report.as_json())
    except LeaseHeld as held:
        report.status, report.error, report.holder = "refused", mask(str(held)), held.holder.as_json()
    except LedgerError as failure:
        report.error = mask(str(failure))
        report.status = "error"
        for entity in report.entities:
            entity.gravity = "database"
    report.seconds = time.monotonic() - began
    return report


@contextmanager
def _held_ledger(opened: Connections, run: RunContext, secrets: Secrets) -> Iterator[Ledger]:
    """The ledger with the pipeline's lease, kept by a heartbeat, given back at the end. Raises `LeaseHeld`."""
    ledger = open_ledger(opened, run, secrets)
    ledger.acquire(opened.pipeline.lease_expires)
    try:
        with ledger.heartbeat(opened.another_ledger):
            yield ledger
    finally:
        try:
            ledger.release()
        finally:
            ledger.db.close()


def _run_entities(
    loaded: Loaded,
    entities: tuple[Entity, ...],
    opened: Connections,
    ledger: Ledger,
    run: RunContext,
    observer: Observer,
    limit: int | None,
) -> list[EntityReport]:
    api = opened.pipeline.api
    assert ledger.lease is not None, "the run holds it"  # noqa: S101
    caller = Caller(api, loaded.secrets.add)
    try:
        with ThreadPoolExecutor(api.in_flight, thread_name_prefix="post") as pool:
            tools = Tools(
                run,
                ledger,
                caller,
                api,
                opened.source,
                pool,
                Careful(observer),
                loaded.secrets.mask,
                ledger.lease.valid,
                Pace(api.pause, run.sleep),
                lambda entity: visible(opened.pipeline, entity),
            )
            return sync(entities, tools, limit)
    finally:
        caller.close()


def _status(entities: list[EntityReport], run: RunContext) -> str:
    if run.cancelled.is_set():
        return "cancelled"
    if any(entity.gravity == "database" for entity in entities):
        return "error"
    counts = [entity.counts for entity in entities]
    undelivered = sum(count.rejected + count.failed + count.in_doubt + count.waiting for count in counts)
    return "incomplete" if undelivered or any(entity.gravity for entity in entities) else "delivered"


@contextmanager
def cancel_on_signals(second: Callable[[], None]) -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second signal calls `second`."""
    cancelled = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if cancelled.is_set():
            second()
        cancelled.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handle) for number in numbers]
    try:
        yield cancelled
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
