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
from engine.sync.ledger import carried, indexes, journal, lookup, parks, record_history, rejects, verdicts, watermarks
from engine.sync.ledger.indexes import Index
from engine.sync.ledger.journal import OpenBatch
from engine.sync.ledger.lookup import Lookup
from engine.sync.ledger.parks import Park
from engine.sync.ledger.record_history import Life
from engine.sync.ledger.rejects import Reject
from engine.sync.ledger.states import ContentKind, RejectState, RunStatus, VerdictKind
from engine.sync.ledger.store import Store
from engine.sync.ledger.verdicts import Verdict
from engine.sync.ledger.watermarks import Watermark

_RUNS = 100
"""Runs that are looked through for delivered records."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the ledger remembers it. Times are naive UTC, as the database returns them; `summary` is its JSON."""

    id: str
    started: Any
    ended: Any
    status: RunStatus
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


@dataclass(frozen=True, slots=True)
class History:
    """A ledger for reading. A table that does not exist yet is an empty one."""

    store: Store

    def in_use(self) -> bool:
        """True when a run has made the tables."""
        with self.store.guard("cannot be read"):
            return self.store.there(self.store.tables.log)

    def knows(self, entities: Sequence[str]) -> bool:
        """True when a record of one of the entities was delivered."""

        def look() -> bool:
            return self.store.there(self.store.tables.tracking) and any(
                self.store.statement("any_tracked", entity=entity).rows for entity in entities
            )

        return self.store.read(look)

    def forgotten(self, entities: Sequence[str]) -> bool:
        """True when a person has un-tracked records of one of the entities: that it knows none is then no accident."""
        with self.store.guard("cannot be read"):
            return self.store.there(self.store.tables.log) and any(
                activity.startswith("Forget:")
                for entity in entities
                for activity in self.store.statement("acts_on", entity=entity).column()
            )

    def emptied(self, entities: Sequence[str]) -> bool:
        """True when earlier runs have delivered records of the entities and the tracking table does not know one of them."""
        if self.knows(entities):
            return False
        told = [entity for run in self.runs(_RUNS) for entity in (run.summary or {}).get("entities", ())]
        return any(entity.get("accepted") and entity.get("name") in entities for entity in told)

    def runs(self, limit: int, status: RunStatus | None = None) -> list[Run]:
        """The latest runs of the pipeline, the newest first."""
        with self.store.guard("cannot be read"):
            if not self.store.there(self.store.tables.run):
                return []
            rows = self.store.statement(
                "runs", pipeline=self.store.pipeline, limit=limit, status=status and status.value
            ).rows
            runs = [
                Run(id_, started, ended, RunStatus(how), orjson.loads(summary) if summary else None)
                for id_, started, ended, how, summary in rows
            ]
            holder = None if all(run.status.is_over for run in runs) else self.holder()
        return [replace(run, status=RunStatus.KILLED) if _is_gone(run, holder) else run for run in runs]

    def last_success(self) -> datetime | None:
        """When the last fully delivered run began, in UTC."""
        runs = self.runs(1, RunStatus.DELIVERED)
        return moment(runs[0].started).replace(tzinfo=UTC) if runs else None

    def standings(self, entities: Iterable[str] = ()) -> dict[str, Standing]:
        """What is tracked and rejected, by entity: of these, and of all that have batches or rejected records."""
        rejected = self._reject_counts()
        with self.store.guard("cannot be read"):
            with_batches = (
                self.store.statement("entities_known", pipeline=self.store.pipeline).column()
                if self.store.there(self.store.tables.batch)
                else []
            )
            names = dict.fromkeys([*entities, *with_batches, *rejected])
            tracked = (
                {name: self._tracked(name, name in with_batches) for name in names}
                if self.store.there(self.store.tables.tracking)
                else {}
            )
        standings = {name: (rejected.get(name, Standing()), *tracked.get(name, (0, None))) for name in names}
        return {name: replace(of, tracked=count, last_tracked=last) for name, (of, count, last) in standings.items()}

    def _tracked(self, entity: str, with_batches: bool) -> tuple[int, Any]:
        """How many records are tracked, and when the last of them was: by the last batch that tracked any."""
        count = int(self.store.statement("tracked_count", entity=entity).scalar())
        last = carried.last_delivery(self.store, entity) if count and with_batches else None
        if last is None and 0 < count <= _FEW:
            last = self.store.statement("tracked_last", entity=entity).scalar()
        return count, last

    def missing_indexes(self) -> list[tuple[Index, str]]:
        """The indexes that a large ledger should have and has not, each with the SQL that creates it."""
        with self.store.guard("cannot be read"):
            return indexes.missing(self.store.db, self.store.tables)

    def open_batches(self, batch: str | None = None, entity: str | None = None) -> list[OpenBatch]:
        """The open batches of the pipeline, or of one entity, or the one with this id."""

        def look() -> list[OpenBatch]:
            if not self.store.there(self.store.tables.batch):
                return []
            return journal.open_batches(self.store, entity=entity, batch=batch)

        return self.store.read(look)

    def waiting(self, entity: str) -> frozenset[str]:
        """The records of batches that are still open: they stay out of new ones."""
        return frozenset(id_ for left in self.open_batches(entity=entity) for id_ in left.ids)

    def holder(self) -> Holder | None:
        """Who holds the lease now; None where its process is known to be gone."""
        with self.store.guard("cannot be read"):
            found = (
                leases.holder(self.store.db, self.store.names, self.store.pipeline)
                if self.store.there(self.store.tables.lease)
                else None
            )
        return None if found is None or leases.gone(found) else found

    def parks(self) -> list[Park]:
        """The endpoints that are left alone now."""
        with self.store.guard("cannot be read"):
            return parks.all_of(self.store) if self.store.there(self.store.tables.park) else []

    def parked(self, url: str) -> Park | None:
        """Why and until when an endpoint is left alone; None when it is not."""
        name = parks.named(self.store, url)
        return next((found for found in self.parks() if found.endpoint == name), None)

    def rejects(self, entity: str | None = None, record: str | None = None) -> list[Reject]:
        """The rejected records."""
        with self.store.guard("cannot be read"):
            return rejects.all_of(self.store, entity, record) if self.store.there(self.store.tables.reject) else []

    def each_reject(self, entity: str, state: RejectState | None = None) -> Iterator[Reject]:
        """The rejected records of an entity, or those in a state, one after the other."""
        with self.store.guard("cannot be read"):
            if self.store.there(self.store.tables.reject):
                yield from rejects.each(self.store, entity, state)

    def _reject_counts(self) -> dict[str, Standing]:
        """By entity: how many records are refused, when the last was, how many are parked, the next try."""
        with self.store.guard("cannot be read"):
            rows = self.store.statement("reject_counts").rows if self.store.there(self.store.tables.reject) else []
        return {
            entity: Standing(rejected=int(count), last_rejected=last, parked=int(parked), next_try=next_try)
            for entity, count, last, parked, next_try in rows
        }

    def lookup(self, entity: str, *, changed: bool) -> Lookup:
        """What decides which records of a page are due, as the ledger stands now."""
        waiting = self.waiting(entity)
        with self.store.guard("cannot be read"):
            if not self.store.there(self.store.tables.tracking):
                return Lookup(None, entity)
            refused = self.store.there(self.store.tables.reject) and self.store.there(self.store.tables.content)
            changed = changed and self.store.there(self.store.tables.content)
        return lookup.lookup(self.store, entity, changed=changed, rejects=refused, waiting=waiting)

    def watermark(self, entity: str) -> Watermark | None:
        """How far the source of an entity was read with nothing left behind."""
        return self.store.read(
            lambda: watermarks.find(self.store, entity) if self.store.there(self.store.tables.watermark) else None
        )

    def watermarks(self) -> dict[str, tuple[str | None, Any]]:
        """The watermark of each entity as text, and when everything of it was read last."""
        return self.store.read(
            lambda: watermarks.all_of(self.store) if self.store.there(self.store.tables.watermark) else {}
        )

    def life(self, entity: str, record: str) -> Life:
        """All that the ledger holds of one record."""
        reject = next(iter(self.rejects(entity, record)), None)
        with self.store.guard("cannot be read"):
            tracked = (
                record_history.tracked(self.store, entity, record)
                if self.store.there(self.store.tables.tracking)
                else None
            )
            said = verdicts.of(self.store, entity, record) if self.store.there(self.store.tables.verdict) else []
            found = (
                self._batches(entity, record, tracked, said, reject)
                if self.store.there(self.store.tables.batch)
                else None
            )
            contents = self.store.there(self.store.tables.content)
            return Life(
                tracked=tracked,
                accepted=record_history.content(self.store, entity, ContentKind.ACCEPTED, record) if contents else None,
                refused=record_history.content(self.store, entity, ContentKind.REJECTED, record) if contents else None,
                batches=found.batches if found else [],
                acts=record_history.acts(self.store, entity, record, tracked, reject)
                if self.store.there(self.store.tables.log)
                else [],
                reject=reject,
                verdicts=said,
                unsearched=found.unsearched if found else None,
                now=self.store.now(),
            )

    def _batches(
        self, entity: str, record: str, tracked: Any, said: list[Verdict], reject: Reject | None
    ) -> carried.Found:
        # `forget` leaves a verdict without a batch, with the time of the delivery.
        times = [verdict.time for verdict in said if verdict.verdict is VerdictKind.ACCEPTED and not verdict.batch]
        times += [tracked] if tracked else []
        known = [reject.batch] if reject and reject.batch else []
        return carried.batches(self.store, entity, record, times=times, said=said, known=known)


def _is_gone(run: Run, holder: Holder | None) -> bool:
    """True for a run that has not said how it ended and does not hold the lease any more: its process was killed."""
    return not run.status.is_over and (holder is None or holder.run != run.id)
