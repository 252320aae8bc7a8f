"""Cuts an entity into ranges of keys and has other processes deliver them; the run itself keeps the lease and the count."""

from __future__ import annotations

import json
import logging
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from engine.errors import LedgerError
from engine.sync.counts import Counts
from engine.sync.delivery import Delivery
from engine.sync.model import Rejection
from engine.sync.read import source
from engine.sync.read.source import Reader, Span
from engine.sync.report import EntityReport
from engine.sync.tools import Tools

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5
_TRIES = 3
"""Times that a part is given out whose worker dies."""


@dataclass(frozen=True, slots=True)
class Part:
    """One range of one entity, as it travels to another process. It carries no secret: those are in the worker's environment.

    `digest` is the spec's SHA-256, so that all work by the same text; `token` the fencing token that they share.
    """

    spec: str
    digest: str
    run: str
    started: datetime
    last_success: datetime | None
    token: int
    entity: str
    number: int
    of: int
    span: Span


@dataclass(slots=True)
class PartResult:
    """What became of a part."""

    counts: Counts = field(default_factory=Counts)
    error: str | None = None
    gravity: str | None = None
    samples: list[Rejection] = field(default_factory=list)
    met: set[str] = field(default_factory=set)
    """Records of open batches that it found waiting."""


class Crew(Protocol):
    """Processes that take parts: on this machine, or a cluster's."""

    spec: str
    digest: str

    @property
    def size(self) -> int:
        """How many parts are worked on at once."""

    def submit(self, part: Part) -> Future[PartResult]:
        """Give out a part. Its future raises where the worker died."""

    def renew(self) -> None:
        """Replace what a dead worker may have broken."""


def parts(reader: Reader, tools: Tools, crew: Crew) -> list[Part]:
    """The parts of what is to be read of an entity; one where it cannot be cut. Raises `SourceError`."""
    entity = reader.entity
    wanted = entity.partitions or crew.size
    cuts = [] if wanted == 1 or reader.own_paging else source.cuts(reader, wanted)
    bounds = [None, *cuts, None]
    run, lease = tools.run, tools.ledger.lease.mine
    return [
        Part(
            crew.spec, crew.digest, run.id, run.started, run.last_success, lease.token, entity.name, number,
            len(cuts) + 1, Span(bounds[number], bounds[number + 1], reader.span.since),
        )
        for number in range(len(cuts) + 1)
    ]  # fmt: skip


def spread(given: list[Part], delivery: Delivery, crew: Crew) -> None:
    """Have the parts delivered and add up what became of them.

    Where a worker dies, what it had on the wire is settled when all others have ended, and its part is
    given out again: the ledger knows how far it came.
    """
    tools, report = delivery.tools, delivery.report
    for _ in range(_TRIES):
        dead = _round(given, tools, report, crew)
        if dead:
            _LOG.warning("%s: %d workers died; their parts are given out again", report.name, len(dead))
            crew.renew()
        delivery.settle_leftovers(in_flight=True)
        if not dead:
            return
        given = dead
    raise LedgerError(
        f"entity {report.name!r}: the workers of {len(given)} parts died {_TRIES} times; look at their logs"
    )


def _round(given: list[Part], tools: Tools, report: EntityReport, crew: Crew) -> list[Part]:
    """Give out every part once; gives those whose worker died."""
    futures = {crew.submit(part): part for part in given}
    finished: list[PartResult] = []
    dead: list[Part] = []
    stopping = False
    while futures:
        done, _ = wait(futures, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            part = futures.pop(future)
            if future.cancelled() or future.exception() is not None:
                _LOG.warning("%s, part %d of %d: %r", part.entity, part.number + 1, part.of, _why(future))
                dead.append(part)
            else:
                finished.append(future.result())
        if tools.run.cancelled.is_set() and not stopping:
            stopping = True
            tools.ledger.row.stop()
        tools.run.tell("progress", entity=report.name, counts=_moving(tools, report))
    _add_up(finished, report)
    return [] if tools.run.cancelled.is_set() else dead


def _why(future: Future[PartResult]) -> object:
    return "cancelled" if future.cancelled() else future.exception()


def _moving(tools: Tools, report: EntityReport) -> Counts:
    """The counts so far, from what the workers write into the ledger now and then."""
    so_far = replace(report.counts)
    for text in tools.ledger.row.part_counts(report.name):
        so_far.add(Counts(**json.loads(text)))
    return so_far


def _add_up(finished: list[PartResult], report: EntityReport) -> None:
    for result in finished:
        report.counts.add(result.counts)
        report.met |= result.met
        report.samples += result.samples[: 3 - len(report.samples)]
        if result.error and (report.error is None or result.gravity == "database"):
            report.error, report.gravity = result.error, result.gravity or report.gravity
