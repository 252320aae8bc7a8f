"""One pipeline's ledger: every durable change of a run goes through here, on one connection, by one thread."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from engine import failpoint
from engine.db.connect import Connection
from engine.errors import DatabaseError, LedgerError
from engine.ledger import journal, log, tracking
from engine.ledger import lease as leases
from engine.ledger.journal import OpenBatch
from engine.ledger.lease import Holder, Lease
from engine.ledger.tables import Tables, ensure, present
from engine.model import Api, Attempt, Batch, LedgerSpec, Outcome, Rejection


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
    lease: Lease | None = field(default=None, init=False)
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
        """Write the batch into the journal, before a byte of it is sent."""
        with self._guard("cannot be written"), self.db.transaction():
            self._fence()
            journal.intend(self.db, self._names, self.pipeline, self.run, batch)
        return batch

    def attempt(self, made: Attempt) -> None:
        """One row of the log table, committed by itself."""
        with self._guard("cannot be written"):
            failpoint.reached("log")
            self._log.attempt(made)

    def settle(self, outcome: Outcome, *, hold: bool = False) -> None:
        """Accepted IDs to tracking, rejected ones to the reject table, the batch to its next state: all or nothing.

        Raises `LedgerError` also when this run's lease is lost, or somebody else has settled the batch.
        """
        batch = outcome.batch
        with self._guard("cannot be written"), self.db.transaction():
            self._fence()
            failpoint.reached("settle")
            tracking.track(self.db, self._names, batch.entity, outcome.accepted)
            failpoint.reached("tracked")
            if outcome.accepted and batch.entity in self._refused_before:
                self._statement(
                    "accept_rejected",
                    entity=batch.entity,
                    before=self._began,
                    ids=tracking.as_json(outcome.accepted),
                )
            for rejection in outcome.rejected:
                self._reject(batch.entity, rejection, batch.id)
            doubtful = "held" if hold else "in_doubt"
            state = _state(outcome, doubtful)
            if not journal.settle(self.db, self._names, self._masked(outcome), state):
                raise LedgerError(f"the batch {batch.id} is not in flight any more: somebody else has settled it")
            if outcome.answered and outcome.in_doubt:
                apart = Batch(str(uuid.uuid4()), batch.entity, str(uuid.uuid4()), outcome.in_doubt, b"")
                journal.set_apart(self.db, self._names, self.pipeline, self.run, self._masked(outcome), doubtful, apart)

    def unsettled(self, entity: str, api: Api) -> Iterator[Batch]:
        """The batches that an earlier run left open and that may be sent again, each put in flight as it is given.

        Held instead are those that the spec says to hold, and those whose key is too old to be trusted. Unknown records
        of an answered call are freed: they are offered in a new batch. The caller settles each before it asks for more.
        """
        with self._guard("cannot be read"):
            found = journal.open_batches(self.db, self._names, self.pipeline, entity=entity)
        for left in found:
            if left.state == "held":
                continue
            if api.in_doubt == "hold" and not left.ordered_again:
                self._decide(left, "held", "may have been processed; waits for a person (`resolve`)")
            elif left.age > api.idempotency_max_age and not left.ordered_again:
                reason = f"may have been processed; its key is older than {api.idempotency_max_age / 3600:g} h"
                self._decide(left, "held", reason)
            else:
                batch = self._again(left)
                if batch:
                    yield batch

    def _again(self, left: OpenBatch) -> Batch | None:
        with self._guard("cannot be written"):
            whole = journal.open_batches(self.db, self._names, self.pipeline, batch=left.id, payload=True)
        if not whole or whole[0].payload is None:
            self._decide(left, "failed", "offered again in a new batch under a new key")
            return None
        with self._guard("cannot be written"), self.db.transaction():
            self._fence()
            if not journal.resend(self.db, self._names, left.id, self.run):
                return None
        return whole[0].again()

    def _decide(self, left: OpenBatch, state: str, reason: str) -> None:
        with self._guard("cannot be written"), self.db.transaction():
            self._fence()
            journal.decide(self.db, self._names, left.id, left.state, state, reason)

    def waiting(self, entity: str) -> frozenset[str]:
        """The records of batches that are still open: they stay out of new ones."""
        with self._guard("cannot be read"):
            found = journal.open_batches(self.db, self._names, self.pipeline, entity=entity)
        return frozenset(id_ for left in found for id_ in left.ids)

    def open_batches(self, batch: str | None = None) -> list[OpenBatch]:
        """All open batches of the pipeline, or the one with this id."""
        with self._guard("cannot be read"):
            if not present(self.db, self._tables.batch):
                return []
            return journal.open_batches(self.db, self._names, self.pipeline, batch=batch)

    def resolve(self, left: OpenBatch, how: str) -> bool:
        """Settle an open batch by hand: `accepted` tracks its records, `drop` frees them, `resend` sends it again.

        False when it is not open any more. The act has an audit row in the same transaction.
        """
        state = {"accepted": "settled", "drop": "failed", "resend": "in_doubt"}[how]
        with self._guard("cannot be written"), self.db.transaction():
            if how == "accepted":
                tracking.track(self.db, self._names, left.entity, left.ids)
            moved = journal.decide(self.db, self._names, left.id, left.state, state, f"resolved by hand: {how}")
            if not moved:
                raise LedgerError(f"the batch {left.id} is not {left.state} any more; look at `status` again")
            information = {"BatchId": left.id, "How": how, "Records": left.count}
            self._log.act("Resolve", left.entity, information)
        return moved

    # The lease

    def acquire(self, seconds: float) -> Lease:
        """Take the pipeline's lease for this run. Raises `LeaseHeld`."""
        with self._guard("cannot be written"):
            self.lease = leases.acquire(self.db, self._names, self.pipeline, self.run, seconds)
        return self.lease

    def heartbeat(self, connect: Callable[[], Connection]) -> leases.Heartbeat:
        """What keeps the lease while the run goes on."""
        assert self.lease is not None, "acquire first"  # noqa: S101
        return leases.Heartbeat(self.lease, connect, self._names)

    def release(self) -> None:
        """Give the lease back."""
        if self.lease:
            with self._guard("cannot be written"):
                self.lease.free(self.db, self._names)

    def holder(self) -> Holder | None:
        """Who holds the lease now."""
        with self._guard("cannot be read"):
            return leases.holder(self.db, self._names, self.pipeline) if present(self.db, self._tables.lease) else None

    def unlock(self) -> Holder | None:
        """Break the lease; gives who had it. The act has an audit row."""
        with self._guard("cannot be written"), self.db.transaction():
            had = leases.break_lease(self.db, self._names, self.pipeline)
            if had:
                information = {"Holder": had.as_json()}
                self._log.act("Unlock", self.pipeline, information)
        return had

    def _fence(self) -> None:
        """Inside a transaction: go on only while the lease is ours."""
        if self.lease and not self.lease.renew(self.db, self._names):
            raise LedgerError("the lease of this run is lost: another run has taken it, or it was broken")

    def _masked(self, outcome: Outcome) -> Outcome:
        return replace(outcome, reason=log.storable(self.mask(outcome.reason))) if outcome.reason else outcome

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
            self._log.act("Forget", entity, {"EntityIds": known})
        return known

    def act(self, verb: str, entity: str, information: dict[str, Any]) -> None:
        """An audit row of what a person did."""
        with self._guard("cannot be written"):
            self._log.act(verb, entity, information)

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
    def _log(self) -> log.Log:
        return log.Log(self.db, self._names, self.spec.application, self.run, self.mask)

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


def _state(outcome: Outcome, doubtful: str) -> str:
    """Where a batch goes from `in_flight`."""
    if outcome.answered:
        return "settled"
    return doubtful if outcome.in_doubt else "failed"


def _utc(moment: Any) -> datetime:
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
