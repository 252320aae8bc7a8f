"""One pipeline's ledger: every durable change of a run goes through here, on one connection, by one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from engine.db.connect import Connection
from engine.errors import DatabaseError, LedgerError
from engine.ledger import log, tracking
from engine.ledger.tables import Tables, ensure, present
from engine.model import Attempt, Batch, LedgerSpec, Outcome, Rejection


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
    """What the ledger holds of one entity."""

    tracked: int = 0
    last_tracked: Any = None
    rejected: int = 0
    last_rejected: Any = None


@dataclass(slots=True)
class Ledger:
    """The durable state of one pipeline. Every method raises `LedgerError` when it cannot be read or written."""

    db: Connection
    spec: LedgerSpec
    pipeline: str
    run: str
    mask: Callable[[str], str] = field(default=lambda text: text)
    _tables: Tables = field(init=False)
    _began: Any = field(default=None, init=False)
    _refused_before: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._tables = Tables.of(self.spec)

    # Opening

    def prepare(self) -> None:
        """Create absent tables, check the others, and take the database's time as the start of the run."""
        with self._guard("cannot be prepared"):
            ensure(self.db, self._tables)
            self._began = self.db.run("ledger/now.sql.j2").rows[0][0]
            self._refused_before = {row[0] for row in self._statement("reject_counts").rows}

    # The life of a batch

    def tracked(self, entity: str, ids: Sequence[str]) -> set[str]:
        """Those of the canonical IDs that were delivered before."""
        with self._guard("cannot be read"):
            return tracking.tracked(self.db, self._names, entity, ids)

    def intend(self, batch: Batch) -> Batch:
        """The batch is about to be sent. The place of the crash journal: nothing is written yet."""
        return batch

    def attempt(self, made: Attempt) -> None:
        """One row of the log table, committed by itself."""
        with self._guard("cannot be written"):
            log.attempt(self.db, self._names, self.spec.application, self.run, made, self.mask)

    def settle(self, outcome: Outcome) -> None:
        """Accepted IDs to tracking and rejected ones to the reject table, all or nothing."""
        batch = outcome.batch
        with self._guard("cannot be written"), self.db.transaction():
            tracking.track(self.db, self._names, batch.entity, outcome.accepted)
            if outcome.accepted and batch.entity in self._refused_before:
                self._statement(
                    "accept_rejected", entity=batch.entity, before=self._began, ids=tracking.as_json(outcome.accepted)
                )
            for rejection in outcome.rejected:
                self._reject(batch.entity, rejection, batch.id)

    def reject(self, entity: str, rejections: Sequence[Rejection]) -> None:
        """Records that were refused before they were sent."""
        with self._guard("cannot be written"), self.db.transaction():
            for rejection in rejections:
                self._reject(entity, rejection, None)

    # Runs

    def started(self) -> None:
        """The run begins."""
        with self._guard("cannot be written"):
            self._statement("run_started", run=self.run, pipeline=self.pipeline)

    def ended(self, status: str, summary: dict[str, Any]) -> None:
        """The run is over, with its summary."""
        with self._guard("cannot be written"):
            self._statement("run_ended", run=self.run, status=status, summary=log.as_json(summary, self.mask))

    def runs(self, limit: int, status: str | None = None) -> list[Run]:
        """The latest runs of the pipeline, the newest first."""
        with self._guard("cannot be read"):
            if not present(self.db, self._tables.run):
                return []
            rows = self._statement("runs", pipeline=self.pipeline, limit=limit, status=status).rows
            return [Run(row[0], row[1], row[2], row[3], orjson.loads(row[4]) if row[4] else None) for row in rows]

    def last_success(self) -> datetime | None:
        """When the last fully delivered run began, in UTC."""
        runs = self.runs(1, "delivered")
        return _utc(runs[0].started) if runs else None

    # What people ask and do

    def standings(self) -> dict[str, Standing]:
        """What is tracked and rejected, by entity."""
        with self._guard("cannot be read"):
            counts = {
                name: table
                for name, table in (("tracked", self._tables.tracking), ("reject", self._tables.reject))
                if present(self.db, table)
            }
            tracked = {row[0]: row[1:] for row in self._statement("tracked_counts").rows} if "tracked" in counts else {}
            rejected = {row[0]: row[1:] for row in self._statement("reject_counts").rows} if "reject" in counts else {}
        return {
            name: Standing(*tracked.get(name, (0, None)), *rejected.get(name, (0, None)))
            for name in {*tracked, *rejected}
        }

    def has_tracking(self) -> bool:
        """True when there is a tracking table to ask."""
        with self._guard("cannot be read"):
            return present(self.db, self._tables.tracking)

    def baseline(self, entity: str, ids: Sequence[str]) -> None:
        """Track IDs without sending their records."""
        with self._guard("cannot be written"), self.db.transaction():
            tracking.track(self.db, self._names, entity, ids)

    def forget(self, entity: str, ids: Sequence[str]) -> list[str]:
        """Un-track IDs; gives those that were tracked. The act and the change are one transaction."""
        with self._guard("cannot be written"), self.db.transaction():
            found = tracking.tracked(self.db, self._names, entity, ids)
            tracking.forget(self.db, self._names, entity, ids)
            known = [id_ for id_ in ids if id_ in found]
            log.act(
                self.db,
                self._names,
                self.spec.application,
                self.run,
                "Forget",
                entity,
                {"RunId": self.run, "EntityIds": known},
                self.mask,
            )
        return known

    def act(self, verb: str, entity: str, information: dict[str, Any]) -> None:
        """An audit row of what a person did."""
        with self._guard("cannot be written"):
            log.act(
                self.db,
                self._names,
                self.spec.application,
                self.run,
                verb,
                entity,
                {"RunId": self.run, **information},
                self.mask,
            )

    # The schedule

    def last_due(self) -> datetime | None:
        """The last due time that was served or skipped."""
        with self._guard("cannot be read"):
            if not present(self.db, self._tables.schedule):
                return None
            rows = self._statement("last_due", pipeline=self.pipeline).rows
        return datetime.fromisoformat(rows[0][0]) if rows else None

    def set_last_due(self, due: datetime) -> None:
        """Remember a due time as served."""
        with self._guard("cannot be written"), self.db.transaction():
            known = self._statement("last_due", pipeline=self.pipeline).rows
            self._statement("set_last_due" if known else "first_due", pipeline=self.pipeline, due=due.isoformat())

    def prepare_schedule(self) -> None:
        """Create the schedule's table if it is absent."""
        with self._guard("cannot be prepared"):
            ensure(self.db, self._tables, (self._tables.schedule,))

    @property
    def _names(self) -> dict[str, str]:
        return self._tables.names()

    def _statement(self, name: str, **values: Any) -> Any:
        return self.db.run(f"ledger/{name}.sql.j2", **self._names, **values)

    def _reject(self, entity: str, rejection: Rejection, batch: str | None) -> None:
        reason = log.storable(self.mask(rejection.reason))
        values = {
            "entity": entity,
            "record": rejection.id,
            "reason": reason,
            "status": rejection.status,
            "batch": batch,
        }
        if self._statement("reject_again", **values).rowcount < 1:
            self._statement("reject", **values)

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        try:
            yield
        except DatabaseError as failure:
            raise LedgerError(f"the ledger {self.db.description} {what}: {failure}") from failure


def _utc(moment: Any) -> datetime:
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
