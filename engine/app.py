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
from engine.ledger.ledger import Ledger
from engine.model import Entity, Pipeline
from engine.observe.observer import Careful, Observer
from engine.spec.check import did_you_mean
from engine.spec.load import Loaded
from engine.spec.secrets import Secrets
from engine.sync import EntityReport, Tools, sync


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
        """One more connection to the ledger, for another thread, which closes it. Raises `ConnectionFailed`."""
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


def open_ledger(opened: Connections, run: RunContext, secrets: Secrets, *, create: bool) -> Ledger:
    """The pipeline's ledger; with `create` its tables are made where they are absent."""
    pipeline = opened.pipeline
    ledger = Ledger(opened.ledger(create=create), pipeline.ledger, pipeline.name, run.id, secrets.mask)
    if create:
        ledger.prepare()
    return ledger


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
    ledger = open_ledger(opened, run, secrets, create=True)
    ledger.acquire(opened.pipeline.lease_expires)
    try:
        with ledger.heartbeat(opened.another_ledger):
            yield ledger
    finally:
        ledger.release()


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


def schedule_ledger(opened: Connections, secrets: Secrets) -> Ledger:
    """The ledger with the table of due times alone made sure of. Raises `LedgerError`."""
    pipeline = opened.pipeline
    run = RunContext.start()
    ledger = Ledger(opened.ledger(create=True), pipeline.ledger, pipeline.name, run.id, secrets.mask)
    ledger.prepare_schedule()
    return ledger


def read_only_lookups(
    opened: Connections, secrets: Secrets
) -> tuple[Callable[[str, Sequence[str]], set[str]], Callable[[str], frozenset[str]]]:
    """What is tracked and what waits in open batches, from a ledger that is never written.

    A ledger that does not exist yet has neither. Raises `LedgerError`.
    """
    ledger = read_only_ledger(opened, secrets)
    tracked = ledger.tracked if ledger and ledger.has_tracking() else lambda _entity, _ids: set()
    left = ledger.open_batches() if ledger else []

    def waiting(entity: str) -> frozenset[str]:
        return frozenset(id_ for batch in left if batch.entity == entity for id_ in batch.ids)

    return tracked, waiting


def read_only_ledger(opened: Connections, secrets: Secrets) -> Ledger | None:
    """The ledger for reading; None where it is a SQLite file that does not exist yet. Raises `LedgerError`."""
    pipeline = opened.pipeline
    text = pipeline.connections[pipeline.ledger.connection]
    if text.startswith(strings.SQLITE) and not connect.sqlite_file(text, pipeline.root).exists():
        return None
    return open_ledger(opened, RunContext.start(), secrets, create=False)
