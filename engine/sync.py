"""THE PATH: what a run does with each entity, every stage by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from engine.context import RunContext
from engine.db.connect import Connection
from engine.endpoint.session import Caller
from engine.errors import ConnectionFailed, EntityError, LedgerError, SourceError
from engine.ledger.ledger import Ledger
from engine.model import Api, Attempt, Entity, Outcome, Rejection
from engine.observe.observer import Observer
from engine.stages import chunk, exclude, shape, source
from engine.stages.counts import Counts
from engine.stages.post import Delivery
from engine.stages.window import Window

_REJECTIONS_AT_ONCE = 500
_SAMPLES = 3


@dataclass(slots=True)
class EntityReport:
    """What became of one entity in one run. `gravity` sorts its error: None, `entity` (exit 1) or `database` (exit 4)."""

    name: str
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    error: str | None = None
    gravity: str | None = None
    pending: set[str] = field(default_factory=set, repr=False)
    """IDs that were read and are not settled: a second record of one is refused."""
    samples: list[Rejection] = field(default_factory=list, repr=False)
    """The first rejections, for people."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run works with; built in `engine.app`, closed there."""

    run: RunContext
    ledger: Ledger
    caller: Caller
    api: Api
    connect: Callable[[str], Connection]
    pool: ThreadPoolExecutor
    observer: Observer
    mask: Callable[[str], str]
    may_send: Callable[[], bool]
    closed: dict[str, threading.Event] = field(default_factory=dict)
    """Endpoints that are left for this run, by URL."""


def sync(entities: tuple[Entity, ...], tools: Tools, limit: int | None = None) -> list[EntityReport]:
    """Deliver every due record of the entities, in order. One failing entity never stops the rest; a failing ledger does.

    Nothing is sent that could not be tracked: after a `LedgerError` the remaining entities are reported as not run.
    """
    reports: list[EntityReport] = []
    ledger_failure: str | None = None
    for entity in entities:
        report = EntityReport(entity.name)
        reports.append(report)
        if ledger_failure or tools.run.cancelled.is_set():
            report.error, report.gravity = (
                (f"not run: {ledger_failure}", "database") if ledger_failure else ("not run: cancelled", None)
            )
            continue
        tools.observer.entity_started(entity.name)
        began = time.monotonic()
        try:
            _sync_entity(entity, tools, report, limit)
        except (SourceError, ConnectionFailed) as failure:
            report.error, report.gravity = str(failure), "database"
        except EntityError as failure:
            report.error, report.gravity = str(failure), "entity"
        except LedgerError as failure:
            report.error, report.gravity = str(failure), "database"
            ledger_failure = str(failure)
        report.seconds = time.monotonic() - began
        tools.observer.entity_done(report.name, report.counts, report.error)
    return reports


def _sync_entity(entity: Entity, tools: Tools, report: EntityReport, limit: int | None) -> None:
    run, ledger, counts = tools.run, tools.ledger, report.counts
    closed = tools.closed.setdefault(tools.caller.url(entity.endpoint), threading.Event())
    refused = _Refused(report, ledger)
    delivery = Delivery(entity, tools.api, tools.caller, run, closed, tools.mask, tools.may_send)
    window = Window(tools.pool, tools.api.in_flight, delivery.deliver, lambda made: _log(made, ledger, counts))

    _settle_open(entity, tools, report, window)
    rows = source.pages(tools.connect(entity.connection), entity, run)
    due = exclude.tracked(
        rows,
        entity.id,
        lambda ids: ledger.tracked(entity.name, ids),
        reject=refused,
        counts=counts,
        page_size=entity.page_size,
        limit=limit,
        waiting=ledger.waiting(entity.name),
        pending=report.pending,
    )
    shaped = shape.records(due, entity, reject=refused, counts=counts)
    try:
        for batch in chunk.batches(shaped, entity, reject=refused, counts=counts):
            try:
                for outcome in window.make_room():
                    _settle(outcome, tools, report)
            except LedgerError:
                counts.failed += len(batch.ids)
                raise
            if closed.is_set() or run.cancelled.is_set():
                counts.failed += len(batch.ids)
                break
            counts.batches += 1
            window.submit(ledger.intend(batch))
            tools.observer.progress(entity.name, counts)
    finally:
        _finish(window, tools, report)
        refused.flush()


def _settle_open(entity: Entity, tools: Tools, report: EntityReport, window: Window) -> None:
    """First of all: batches that an earlier run left in doubt are sent again, the same bytes under the same key."""
    for batch in tools.ledger.unsettled(entity.name, tools.api):
        if tools.run.cancelled.is_set():
            return
        window.submit(batch)
        while window.busy:
            for outcome in window.drain():
                tools.ledger.settle(outcome, hold=tools.api.in_doubt == "hold")
                report.counts.settled += len(outcome.accepted)
                report.error = report.error or outcome.reason


def _finish(window: Window, tools: Tools, report: EntityReport) -> None:
    """Wait for what is on the wire and settle it, whatever stopped the reading; one failing write spares the others."""
    failure: LedgerError | None = None
    while window.busy:
        try:
            for outcome in window.drain():
                _settle(outcome, tools, report)
        except LedgerError as failed:
            failure = failure or failed
    if failure:
        raise failure


def _settle(outcome: Outcome, tools: Tools, report: EntityReport) -> None:
    counts = report.counts
    try:
        tools.ledger.settle(outcome, hold=tools.api.in_doubt == "hold")
    except LedgerError:
        counts.in_doubt += len(outcome.batch.ids)
        raise
    report.pending.difference_update(outcome.accepted, outcome.failed)
    report.samples += outcome.rejected[: _SAMPLES - len(report.samples)]
    counts.accepted += len(outcome.accepted)
    counts.rejected += len(outcome.rejected)
    counts.failed += len(outcome.failed)
    counts.in_doubt += len(outcome.in_doubt)
    if outcome.closes_endpoint:
        report.error = f"{outcome.reason}; the endpoint is left for this run"
    elif outcome.reason:
        report.error = report.error or outcome.reason
    tools.observer.progress(report.name, counts)


def _log(made: Attempt, ledger: Ledger, counts: Counts) -> None:
    ledger.attempt(made)
    counts.calls += 1


class _Refused:
    """Collects rejections of an entity, counts them as due, and writes them some hundreds at a time."""

    def __init__(self, report: EntityReport, ledger: Ledger) -> None:
        self._report, self._ledger = report, ledger
        self._waiting: list[Rejection] = []

    def __call__(self, rejection: Rejection) -> None:
        self._report.counts.due += 1
        self._report.counts.rejected += 1
        if len(self._report.samples) < _SAMPLES:
            self._report.samples.append(rejection)
        self._waiting.append(rejection)
        if len(self._waiting) >= _REJECTIONS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected."""
        if self._waiting:
            self._ledger.reject(self._report.name, self._waiting)
            self._waiting.clear()
