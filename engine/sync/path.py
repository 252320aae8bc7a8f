"""THE PATH: what a run does with each entity, every stage by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from engine.errors import ConnectionFailed, EntityError, LedgerError, SourceError
from engine.sync import head, partition
from engine.sync.delivery import Delivery
from engine.sync.head import Reading
from engine.sync.model import Entity
from engine.sync.partition import Crew
from engine.sync.read import duplicates
from engine.sync.read.source import WHOLE, Reader, Span
from engine.sync.report import EntityReport
from engine.sync.tools import Tools


def sync(
    entities: tuple[Entity, ...], tools: Tools, limit: int | None = None, crew: Crew | None = None
) -> list[EntityReport]:
    """Deliver every due record of the entities, in order. One failing entity never stops the rest.

    Nothing is sent that could not be tracked: after a failure of the ledger each entity asks first whether it is sound again.
    """
    reports: list[EntityReport] = []
    for entity in entities:
        report = EntityReport(entity.name)
        if _may_begin(report, reports, tools):
            _deliver_entity(entity, tools, report, limit, crew)
        reports.append(report)
    return reports


def _deliver_entity(entity: Entity, tools: Tools, report: EntityReport, limit: int | None, crew: Crew | None) -> None:
    """One entity, whatever happens to it."""
    with _told(report, tools), _failures(report):
        reading = _settle_and_deliver(Delivery(entity, tools, report), limit, crew)
        if reading:
            _remember(reading, tools, report, limit)


def _settle_and_deliver(delivery: Delivery, limit: int | None, crew: Crew | None) -> Reading | None:
    """What was left open, then what is due; all of it is settled in the end. None where the endpoint is parked."""
    with delivery:
        if delivery.parked():
            return None
        delivery.settle_leftovers()
        reading = _reading(delivery)
        parts = partition.parts(replace(reading.reader, span=reading.span), delivery.tools, crew) if crew else []
        if crew and len(parts) > 1:
            partition.spread(parts, delivery, crew)
        else:
            deliver(delivery, reading.span, limit)
    return reading


def deliver(delivery: Delivery, span: Span = WHOLE, limit: int | None = None) -> None:
    """Read what is due of an entity, or of a range of its keys, and send it, batch by batch."""
    entity, tools, flow = delivery.entity, delivery.tools, delivery.flow
    reader = Reader(tools.connect(entity.connection), entity, tools.run)
    lookup = tools.ledger.lookup(entity.name, changed=entity.resend == "changed")
    due = head.due(reader, lookup, tools.visible(entity), flow, span, limit=limit, adopt=delivery.adopted)
    everything = delivery.send(due.batches) and limit is None and not tools.run.cancelled.is_set()
    if everything and flow.spellings.mixed:
        for rejection in duplicates.of(reader):
            flow.refuse_twin(rejection)


def _reading(delivery: Delivery) -> Reading:
    """How the entity is read; its rows are counted for whoever shows progress."""
    entity, tools, report = delivery.entity, delivery.tools, delivery.report
    reader = Reader(tools.connect(entity.connection), entity, tools.run)
    if tools.counts_rows and not reader.own_paging:
        report.rows = reader.total()
        tools.run.tell("rows_counted", entity=entity.name, rows=report.rows)
    reading = head.reading(reader, tools.ledger.store.tables.tracking.name, tools.ledger.begin_watermark)
    report.since = reading.since
    return reading


def _remember(reading: Reading, tools: Tools, report: EntityReport, limit: int | None) -> None:
    """Move the watermark where everything was delivered; where the run was cancelled, say how many rows there are."""
    reader, look, cancelled = reading.reader, reading.look, tools.run.cancelled.is_set()
    if cancelled and report.rows is None and not reader.own_paging:
        report.rows = reader.total()
    if look and look.before and limit is None and report.complete and not cancelled:
        full = look.since is None
        tools.ledger.move_watermark(reader.entity.name, look.before, look.newest, look.source, full=full)


def _may_begin(report: EntityReport, before: list[EntityReport], tools: Tools) -> bool:
    """False, and the reason in the report, after a cancel, or where the ledger has failed and is not sound again."""
    if tools.run.cancelled.is_set():
        report.error = "not run: cancelled"
    elif any(earlier.gravity == "database" for earlier in before):
        try:
            tools.ledger.check()
        except LedgerError as failure:
            report.error, report.gravity = f"not run: {failure}", "database"
    return report.error is None


@contextmanager
def _failures(report: EntityReport) -> Iterator[None]:
    """What stops one entity stands in its report, and spares the others."""
    try:
        yield
    except (SourceError, ConnectionFailed, LedgerError) as failure:
        report.error, report.gravity = str(failure), "database"
    except EntityError as failure:
        report.error, report.gravity = str(failure), "entity"


@contextmanager
def _told(report: EntityReport, tools: Tools) -> Iterator[None]:
    """Tell of its beginning and its end; the report has its seconds."""
    tools.run.tell("entity_started", entity=report.name)
    began = time.monotonic()
    yield
    report.seconds = time.monotonic() - began
    tools.run.tell("entity_done", entity=report.name, counts=report.counts, error=report.error)
