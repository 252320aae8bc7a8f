"""Delivers one part of an entity in a process of its own, on this machine or another; what it needs it builds itself."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import orjson

from engine import app
from engine.context import RunContext, utc_now
from engine.db.connection import Connection
from engine.errors import LedgerError, SpecError, SyncLedgerError
from engine.runs import whoami
from engine.store.base import Kept
from engine.sync.delivery import Delivery
from engine.sync.ledger.ledger import Ledger
from engine.sync.ledger.run_row import RunRow
from engine.sync.partition import Part, PartResult
from engine.sync.path import deliver
from engine.sync.report import EntityReport
from engine.sync.spec.load import Loaded, load

_LOOK_SECONDS = 0.5


def digest(spec: Path) -> str:
    """What tells one text of a spec from another."""
    return hashlib.sha256(spec.read_bytes()).hexdigest()


def work(part: Part) -> PartResult:
    """Deliver a part under the run's lease. What goes wrong is in the result."""
    report = EntityReport(part.entity)
    mask: Callable[[str], str] = str
    try:
        loaded = _same_spec(part)
        mask = loaded.secrets.mask
        _work(part, loaded, report)
    except (SyncLedgerError, OSError) as failure:
        report.error, report.gravity = f"worker {_name()}: {failure}", "database"
    # Here, since a token that this process has fetched is known to no other.
    error = mask(report.error) if report.error else None
    samples = [replace(sample, reason=mask(sample.reason)) for sample in report.samples]
    return PartResult(report.counts, error, report.gravity, samples, report.met)


def _same_spec(part: Part) -> Loaded:
    spec = Path(part.spec)
    if not spec.is_file():
        raise LedgerError(f"there is no spec {spec} here; the project must stand under the same path on every worker")
    if digest(spec) != part.digest:
        raise LedgerError(f"the spec {spec} here has another text than where the run was started")
    try:
        return load(spec)
    except SpecError as failure:
        raise LedgerError(f"the spec cannot be used here: {failure}") from failure


def _work(part: Part, loaded: Loaded, report: EntityReport) -> None:
    pipeline = loaded.pipeline
    run = RunContext(part.run, part.started, utc_now, last_success=part.last_success)
    with app.connections(pipeline) as opened:
        ledger = app.open_ledger(opened, run, loaded.secrets)
        ledger.lease.share(part.token, pipeline.lease_expires)
        ledger.check()
        watch = _Watch(part, ledger, opened.another_ledger, run, report)
        try:
            with (
                ledger.lease.heartbeat(opened.another_ledger),
                watch,
                app.tools(loaded, opened, ledger, run, share=part.of) as tools,
            ):
                entity = next(entity for entity in pipeline.entities if entity.name == part.entity)
                with Delivery(entity, tools, report) as delivery:
                    deliver(delivery, part.span)
        finally:
            ledger.store.db.close()


class _Watch:
    """Tells the run how far the part is, and hears from it when to stop, through the ledger, from a thread of its own."""

    def __init__(
        self, part: Part, ledger: Ledger, connect: Callable[[], Connection], run: RunContext, report: EntityReport
    ) -> None:
        self._part, self._kept, self._run, self._report = part, Kept(connect), run, report
        self._store = replace(ledger.store, patience=None)
        self._row = RunRow(self._store)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def _watch(self) -> None:
        while True:
            ended = self._stop.wait(_LOOK_SECONDS)
            # A look that fails is tried again: the part itself says when the ledger is gone.
            with suppress(SyncLedgerError):
                self._look()
            if ended:
                self._kept.close()
                return

    def _look(self) -> None:
        with self._kept.connection() as connection:
            self._store.db = connection
            counts = orjson.dumps(asdict(self._report.counts)).decode()
            self._row.part(self._part.entity, self._part.number, _name(), counts)
            if self._row.stopping():
                self._run.cancelled.set()


def _name() -> str:
    return f"{whoami.host()}:{os.getpid()}"
