"""What the ledger says to those who ask: runs, counts, open batches, refusals, parked endpoints. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from engine.runs import lease as leases
from engine.runs.lease import Holder
from engine.store.base import moment
from engine.store.tables import Table, present
from engine.sync.ledger import carried, indexes, journal, lookup, parks, record_history, rejects, verdicts, watermarks
from engine.sync.ledger.indexes import Index
from engine.sync.ledger.journal import OpenBatch
from engine.sync.ledger.lookup import Lookup
from engine.sync.ledger.parks import Park
from engine.sync.ledger.record_history import Life
from engine.sync.ledger.rejects import Reject
from engine.sync.ledger.store import Store
from engine.sync.ledger.verdicts import Verdict
from engine.sync.ledger.watermarks import Watermark

_RUNS = 100
"""Runs that are looked through for delivered records."""
_RUNNING = ("running", "cancelling")


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the ledger remembers it. Times are naive UTC, as the database returns them; `summary` is its JSON."""

    id: str
    started: Any
    ended: Any
    status: str
    summary: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger holds of one entity. `rejected` counts the `parked` too; `next_try` is the earliest of them."""

    tracked: int = 0
    last_tracked: Any = None
    rejected: int = 0
    last_rejected: Any = None
    parked: int = 0
    next_try: Any = None


_FEW = 50_000
"""Of more tracking rows the times are not read: no index has them."""


class History(Store):
    """A ledger for reading. A table that does not exist yet is an empty one."""

    __slots__ = ()

    def in_use(self) -> bool:
        """True when a run has made the tables."""
        with self.guard("cannot be read"):
            return self._there(self.tables.log)

    def knows(self, entities: Sequence[str]) -> bool:
        """True when a record of one of the entities was delivered."""

        def look() -> bool:
            return self._there(self.tables.tracking) and any(
                self.statement("any_tracked", entity=entity).rows for entity in entities
            )

        return self.read(look)

    def forgotten(self, entities: Sequence[str]) -> bool:
        """True when a person has un-tracked records of one of the entities: that it knows none is then no accident."""
        with self.guard("cannot be read"):
            return self._there(self.tables.log) and any(
                row[0].startswith("Forget:")
                for entity in entities
                for row in self.statement("acts_on", entity=entity).rows
            )

    def emptied(self, entities: Sequence[str]) -> bool:
        """True when earlier runs have delivered records of the entities and the tracking table does not know one of them."""
        if self.knows(entities):
            return False
        told = [entity for run in self.runs(_RUNS) for entity in (run.summary or {}).get("entities", ())]
        return any(entity.get("accepted") and entity.get("name") in entities for entity in told)

    def runs(self, limit: int, status: str | None = None) -> list[Run]:
        """The latest runs of the pipeline, the newest first."""
        with self.guard("cannot be read"):
            if not self._there(self.tables.run):
                return []
            rows = self.statement("runs", pipeline=self.pipeline, limit=limit, status=status).rows
            runs = [Run(row[0], row[1], row[2], row[3], orjson.loads(row[4]) if row[4] else None) for row in rows]
            open_ = any(run.status in _RUNNING for run in runs)
            holder = self.holder() if open_ else None
        return [replace(run, status="killed") if _is_gone(run, holder) else run for run in runs]

    def last_success(self) -> datetime | None:
        """When the last fully delivered run began, in UTC."""
        runs = self.runs(1, "delivered")
        return moment(runs[0].started).replace(tzinfo=UTC) if runs else None

    def standings(self, entities: Iterable[str] = ()) -> dict[str, Standing]:
        """What is tracked and rejected, by entity: of these, and of all that have batches or refused records."""
        rejected = self.reject_counts()
        with self.guard("cannot be read"):
            with_batches = (
                [row[0] for row in self.statement("entities_known", pipeline=self.pipeline).rows]
                if self._there(self.tables.batch)
                else []
            )
            names = dict.fromkeys([*entities, *with_batches, *rejected])
            tracked = (
                {name: self._tracked(name, name in with_batches) for name in names}
                if self._there(self.tables.tracking)
                else {}
            )
        return {
            name: Standing(*tracked.get(name, (0, None)), *rejected.get(name, (0, None, 0, None))) for name in names
        }

    def _tracked(self, entity: str, with_batches: bool) -> tuple[int, Any]:
        """How many records are tracked, and when the last of them was: by the last batch that tracked any."""
        count = int(self.statement("tracked_count", entity=entity).rows[0][0])
        last = carried.last_delivery(self, entity) if count and with_batches else None
        if last is None and 0 < count <= _FEW:
            last = self.statement("tracked_last", entity=entity).rows[0][0]
        return count, last

    def missing_indexes(self) -> list[tuple[Index, str]]:
        """The indexes that a large ledger should have and has not, each with the SQL that creates it."""
        with self.guard("cannot be read"):
            return indexes.missing(self.db, self.tables)

    def open_batches(self, batch: str | None = None, entity: str | None = None) -> list[OpenBatch]:
        """The open batches of the pipeline, or of one entity, or the one with this id."""

        def look() -> list[OpenBatch]:
            if not self._there(self.tables.batch):
                return []
            return journal.open_batches(self.db, self.names, self.pipeline, entity=entity, batch=batch)

        return self.read(look)

    def waiting(self, entity: str) -> frozenset[str]:
        """The records of batches that are still open: they stay out of new ones."""
        return frozenset(id_ for left in self.open_batches(entity=entity) for id_ in left.ids)

    def holder(self) -> Holder | None:
        """Who holds the lease now; None where its process is known to be gone."""
        with self.guard("cannot be read"):
            found = leases.holder(self.db, self.names, self.pipeline) if self._there(self.tables.lease) else None
        return None if found is None or leases.gone(found) else found

    def parks(self) -> list[Park]:
        """The endpoints that are left alone now."""
        with self.guard("cannot be read"):
            return parks.all_of(self) if self._there(self.tables.park) else []

    def parked(self, url: str) -> Park | None:
        """Why and until when an endpoint is left alone; None when it is not."""
        name = parks.named(self, url)
        return next((found for found in self.parks() if found.endpoint == name), None)

    def rejects(self, entity: str | None = None, record: str | None = None) -> list[Reject]:
        """The refused records."""
        with self.guard("cannot be read"):
            return rejects.all_of(self, entity, record) if self._there(self.tables.reject) else []

    def each_reject(self, entity: str, state: str | None = None) -> Iterator[Reject]:
        """The refused records of an entity, or those in a state, one after the other."""
        with self.guard("cannot be read"):
            if self._there(self.tables.reject):
                yield from rejects.each(self, entity, state)

    def reject_counts(self) -> dict[str, tuple[int, Any, int, Any]]:
        """By entity: how many records are refused, when the last was, how many are parked, the next try."""
        with self.guard("cannot be read"):
            rows = self.statement("reject_counts").rows if self._there(self.tables.reject) else []
        return {row[0]: (int(row[1]), row[2], int(row[3]), row[4]) for row in rows}

    def lookup(self, entity: str, *, changed: bool) -> Lookup:
        """What decides which records of a page are due, as the ledger stands now."""
        waiting = self.waiting(entity)
        with self.guard("cannot be read"):
            if not self._there(self.tables.tracking):
                return Lookup(None, entity)
            refused = self._there(self.tables.reject) and self._there(self.tables.content)
            changed = changed and self._there(self.tables.content)
        return lookup.lookup(self, entity, changed=changed, rejects=refused, waiting=waiting)

    def watermark(self, entity: str) -> Watermark | None:
        """How far the source of an entity was read with nothing left behind."""
        return self.read(lambda: watermarks.find(self, entity) if self._there(self.tables.watermark) else None)

    def watermarks(self) -> dict[str, tuple[str | None, Any]]:
        """The watermark of each entity as text, and when everything of it was read last."""
        return self.read(lambda: watermarks.all_of(self) if self._there(self.tables.watermark) else {})

    def life(self, entity: str, record: str) -> Life:
        """All that the ledger holds of one record."""
        reject = next(iter(self.rejects(entity, record)), None)
        with self.guard("cannot be read"):
            tracked = record_history.tracked(self, entity, record) if self._there(self.tables.tracking) else None
            said = verdicts.of(self, entity, record) if self._there(self.tables.verdict) else []
            found = self._batches(entity, record, tracked, said, reject) if self._there(self.tables.batch) else None
            contents = self._there(self.tables.content)
            return Life(
                tracked=tracked,
                accepted=record_history.content(self, entity, "accepted", record) if contents else None,
                refused=record_history.content(self, entity, "rejected", record) if contents else None,
                batches=found.batches if found else [],
                acts=record_history.acts(self, entity, record, tracked, reject) if self._there(self.tables.log) else [],
                reject=reject,
                verdicts=said,
                unsearched=found.unsearched if found else None,
                now=self.statement("now").rows[0][0],
            )

    def _batches(
        self, entity: str, record: str, tracked: Any, said: list[Verdict], reject: Reject | None
    ) -> carried.Found:
        # `forget` leaves a verdict without a batch, with the time of the delivery.
        times = [verdict.time for verdict in said if verdict.verdict == "accepted" and not verdict.batch]
        times += [tracked] if tracked else []
        known = [reject.batch] if reject and reject.batch else []
        return carried.batches(self, entity, record, times=times, said=said, known=known)

    def _there(self, table: Table) -> bool:
        return present(self.db, table)


def _is_gone(run: Run, holder: Holder | None) -> bool:
    """True for a run that has not said how it ended and does not hold the lease any more: its process was killed."""
    return run.status in _RUNNING and (holder is None or holder.run != run.id)
