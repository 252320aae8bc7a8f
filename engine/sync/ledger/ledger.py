"""One run's ledger: every durable change of a run goes through its parts, on one connection, by one thread."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import LedgerError
from engine.sync.ledger import lookup, parks, watermarks
from engine.sync.ledger.batches import Batches
from engine.sync.ledger.history import History
from engine.sync.ledger.lookup import Lookup
from engine.sync.ledger.marks import Marks
from engine.sync.ledger.parks import Park
from engine.sync.ledger.records import Records
from engine.sync.ledger.rejects import Policy
from engine.sync.ledger.run_lease import RunLease
from engine.sync.ledger.run_row import RunRow
from engine.sync.ledger.store import Store
from engine.sync.ledger.watermarks import Watermark

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The durable state that a run changes, by parts. All of them share one store, and write behind one lease."""

    store: Store
    history: History
    lease: RunLease
    marks: Marks
    batches: Batches
    records: Records
    row: RunRow

    @classmethod
    def on(cls, store: Store, policies: Mapping[str, Policy]) -> Ledger:
        """The parts on a store. `policies` are what the spec says of each entity's refusals."""
        lease, marks = RunLease(store), Marks(store)
        return cls(
            store,
            History(store),
            lease,
            marks,
            Batches(store, lease, marks, policies),
            Records(store, lease, marks, policies),
            RunRow(store),
        )

    def prepare(self) -> str:
        """Create absent tables, check the others and the rights on them, take the database's time as the start of the run."""
        found = self.store.prepare()
        _LOG.info("ledger %s: %s", self.store.db.description, found)
        self.store.check_rights()
        with self.store.guard("cannot be prepared"):
            self.store.began = self.store.now()
        return found

    def check(self) -> None:
        """Raises `LedgerError` when a table is gone, or the lease is: nothing that is sent could be settled."""
        store = self.store

        def look(_again: bool) -> None:
            gone = [table.name for table in store.tables.all() if not store.there(table)]
            if gone:
                raise LedgerError(f"the ledger {store.db.description} has lost the table {', '.join(gone)}")
            self.lease.fence()

        store.write(look)

    def lookup(self, entity: str, *, changed: bool) -> Lookup:
        """What decides which records of a page are due. Ask after what earlier runs left open is settled."""
        rejects = self.store.read(lambda: self.marks.rejects(entity))
        waiting = self.history.waiting(entity)
        return lookup.lookup(self.store, entity, changed=changed, rejects=rejects, waiting=waiting)

    def begin_watermark(self, entity: str) -> Watermark:
        """How far the source of an entity was read with nothing left behind; this run may move it."""
        return self.lease.write(lambda _again: watermarks.begin(self.store, entity))

    def move_watermark(self, entity: str, before: Watermark, value: Any, source: str, *, full: bool) -> None:
        """Everything of an entity was delivered: keep how far its source was read."""
        self.lease.write(lambda _again: watermarks.move(self.store, entity, before, value, source, full=full))

    def park(self, url: str, seconds: float, reason: str) -> Park | None:
        """Leave an endpoint alone, across runs."""
        self.lease.write(lambda _again: parks.park(self.store, url, seconds, reason))
        return self.history.parked(url)
