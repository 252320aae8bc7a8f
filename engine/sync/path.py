"""THE PATH: what a run does with each entity, every stage by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from engine.errors import ConnectionFailed, EntityError, LedgerError, SourceError
from engine.sync import partition
from engine.sync.counts import Flow
from engine.sync.model import Entity, Outcome
from engine.sync.partition import Crew
from engine.sync.read import duplicates, exclude, exclusion, incremental
from engine.sync.read.source import WHOLE, Reader, Span
from engine.sync.send import chunk
from engine.sync.send.isolation import Isolation
from engine.sync.send.post import Delivery
from engine.sync.send.window import Window
from engine.sync.settlement import Adopted, EntityReport, Refused, Settlement, Tools
from engine.sync.shape import shape


def sync(
    entities: tuple[Entity, ...], tools: Tools, limit: int | None = None, crew: Crew | None = None
) -> list[EntityReport]:
    """Deliver every due record of the entities, in order. One failing entity never stops the rest.

    Nothing is sent that could not be tracked: after a failure of the ledger each entity asks first whether it is sound again.
    """
    reports: list[EntityReport] = []
    for entity in entities:
        report = EntityReport(entity.name)
        reports.append(report)
        if tools.run.cancelled.is_set():
            report.error = "not run: cancelled"
            continue
        if any(before.gravity == "database" for before in reports) and not _ledger_is_sound(tools, report):
            continue
        tools.observer.entity_started(entity.name)
        began = time.monotonic()
        try:
            _sync_entity(entity, tools, report, limit, crew)
        except (SourceError, ConnectionFailed, LedgerError) as failure:
            report.error, report.gravity = str(failure), "database"
        except EntityError as failure:
            report.error, report.gravity = str(failure), "entity"
        report.seconds = time.monotonic() - began
        tools.observer.entity_done(report.name, report.counts, report.error)
    return reports


def _ledger_is_sound(tools: Tools, report: EntityReport) -> bool:
    try:
        tools.ledger.check()
    except LedgerError as failure:
        report.error, report.gravity = f"not run: {failure}", "database"
    return report.error is None


def _sync_entity(entity: Entity, tools: Tools, report: EntityReport, limit: int | None, crew: Crew | None) -> None:
    work = _Work(entity, tools, report)
    if work.settlement.parked():
        return
    _settle_open(work)
    reader = Reader(tools.connect(entity.connection), entity, tools.run)
    if tools.observer.wants_rows and not reader.own_paging:
        report.rows = reader.total()
        tools.observer.rows_counted(entity.name, report.rows)
    look = incremental.look(reader, tools.ledger.tables.tracking.name, tools.ledger.begin_watermark)
    span = Span(since=look.since) if look else WHOLE
    report.since = str(span.since) if span.since else None
    parts = partition.parts(replace(reader, span=span), tools, crew) if crew else []
    if crew and len(parts) > 1:
        partition.spread(parts, tools, report, crew, lambda: _settle_open(work, in_flight=True))
    else:
        deliver(entity, tools, report, limit=limit, span=span)
    if tools.run.cancelled.is_set() and report.rows is None and not reader.own_paging:
        report.rows = reader.total()
    if look and look.before and limit is None and report.complete and not tools.run.cancelled.is_set():
        tools.ledger.move_watermark(entity.name, look.before, look.newest, look.source, full=look.since is None)


class _Work:
    """What the batches of one entity go through."""

    def __init__(self, entity: Entity, tools: Tools, report: EntityReport) -> None:
        endpoint = tools.endpoint(entity)
        self.entity, self.tools, self.isolation = entity, tools, Isolation(entity)
        self.settlement = Settlement(tools, report, endpoint, self.isolation)
        delivery = Delivery(
            entity, tools.api, tools.caller, tools.run, endpoint.closed, tools.mask, tools.may_send, tools.pace
        )
        self.window = Window(tools.pool, tools.api.in_flight, delivery.deliver, self.settlement.hear)


def deliver(
    entity: Entity, tools: Tools, report: EntityReport, *, limit: int | None = None, span: Span = WHOLE
) -> None:
    """Read what is due of an entity, or of a range of its keys, and deliver it, batch by batch."""
    run, ledger, counts = tools.run, tools.ledger, report.counts
    work = _Work(entity, tools, report)
    window, isolation, settlement = work.window, work.isolation, work.settlement
    refused, adopted = Refused(report, ledger), Adopted(entity, ledger)
    flow = Flow(refused, counts, report.pending, revive=refused.revive)

    lookup = replace(ledger.lookup(entity.name, changed=entity.resend == "changed"), met=report.met)
    connection = tools.connect(entity.connection)
    source = exclusion.pages(connection, entity, run, lookup, tools.visible(entity), flow, span)
    due = exclude.tracked(source.rows, entity.id, lookup, flow, page_size=entity.page_size, limit=limit)
    shaped = shape.records(due, entity, flow)
    batches = chunk.batches(shaped, entity, flow, adopt=adopted)
    try:
        for batch in isolation.first(batches, lambda: _settle_next(window, settlement)):
            with settlement.responsible(batch):
                for outcome in window.make_room():
                    settlement.settle(outcome)
                if settlement.stopped():
                    isolation.keep(batch)
                    break
                if isolation.cut(batch):  # the API has called for smaller ones meanwhile
                    continue
                window.submit(ledger.intend(batch))
            counts.batches += 1
            tools.observer.progress(entity.name, counts)
        else:
            if limit is None and not run.cancelled.is_set():
                _refuse_twins(Reader(connection, entity, run), flow)
    finally:
        try:
            _finish(window, settlement.settle)
        finally:
            settlement.over()
            refused.flush()
            adopted.flush()


def _refuse_twins(reader: Reader, flow: Flow) -> None:
    """Rows that were taken for delivered ones, since their IDs differ only in how they are spelled, are refused instead."""
    if flow.spellings.mixed:
        for rejection in duplicates.of(reader):
            if rejection.id not in flow.twins and flow.counts.excluded:
                flow.counts.excluded -= 1
                flow.reject(rejection)


def _settle_open(work: _Work, *, in_flight: bool = False) -> None:
    """First of all: batches that an earlier run, or a dead worker, left open are sent again, the same bytes under the same key."""
    tools, window = work.tools, work.window
    for batch in tools.ledger.unsettled(work.entity.name, tools.api, in_flight=in_flight):
        if tools.run.cancelled.is_set():
            return
        window.submit(batch)
        _finish(window, work.settlement.left_open)


def _settle_next(window: Window, settlement: Settlement) -> bool:
    """Settle what comes off the wire next, which may leave pieces to send; False when nothing is on it."""
    if not window.busy:
        return False
    for outcome in window.next():
        settlement.settle(outcome)
    return True


def _finish(window: Window, settle: Callable[[Outcome], None]) -> None:
    """Wait for what is on the wire and settle it, whatever stopped the reading; one that fails, by a bug too, spares the others."""
    failure: Exception | None = None
    while window.busy:
        try:
            for outcome in window.drain():
                settle(outcome)
        except Exception as failed:  # noqa: BLE001 - raised below, when the others are settled
            failure = failure or failed
    if failure:
        raise failure
