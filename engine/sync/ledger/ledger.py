"""One run's ledger: every durable change of a run goes through here, on one connection, by one thread."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from engine import failpoint
from engine.db.connection import Connection
from engine.errors import LedgerError, SyncLedgerError
from engine.http.settings import Api
from engine.runs import lease as leases
from engine.runs.lease import Lease
from engine.store.encoding import storable
from engine.sync.ledger import fence, journal, log, lookup, parks, rejects, tracking, verdicts, watermarks
from engine.sync.ledger.journal import OpenBatch
from engine.sync.ledger.lookup import Lookup
from engine.sync.ledger.parks import Park
from engine.sync.ledger.parts import Parts
from engine.sync.ledger.rejects import Policy
from engine.sync.ledger.states import BatchState
from engine.sync.ledger.store import Store
from engine.sync.ledger.watermarks import Watermark
from engine.sync.model import Attempt, Batch, Outcome, Rejection
from engine.sync.payload import content_hash, records

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Ledger(Parts):
    """The durable state that a run changes."""

    policies: Mapping[str, Policy] = field(default_factory=dict)
    lease: Lease | None = field(default=None, init=False)
    _began: Any = field(default=None, init=False)
    _with_rejects: dict[str, bool] = field(default_factory=dict, init=False)
    _with_repeats: dict[str, bool] = field(default_factory=dict, init=False)

    def prepare(self) -> str:
        """Create absent tables, check the others and the rights on them, take the database's time as the start of the run."""
        found = Store.prepare(self)
        _LOG.info("ledger %s: %s", self.db.description, found)
        self.check_rights()
        with self.guard("cannot be prepared"):
            self._began = self.statement("now").rows[0][0]
        return found

    def check(self) -> None:
        """Raises `LedgerError` when a table is gone, or the lease is: nothing that is sent could be settled."""

        def look(_again: bool) -> None:
            gone = [table.name for table in self.tables.all() if not self._there(table)]
            if gone:
                raise LedgerError(f"the ledger {self.db.description} has lost the table {', '.join(gone)}")
            self._fence()

        self.durably(look)

    # The life of a batch

    def lookup(self, entity: str, *, changed: bool) -> Lookup:
        """What decides which records of a page are due. Ask after what earlier runs left open is settled."""
        rejects = self.read(lambda: self._has_rejects(entity))
        return lookup.lookup(self, entity, changed=changed, rejects=rejects, waiting=self.waiting(entity))

    def intend(self, batch: Batch) -> Batch:
        """Write the batch into the journal, before a byte of it is sent."""

        def write(again: bool) -> None:
            self._renew_late()
            with self.db.transaction():
                self._fence()
                if not (again and journal.state(self.db, self.names, batch.id) is BatchState.IN_FLIGHT):
                    journal.intend(self.db, self.names, self.pipeline, self.run, batch)

        self.durably(write)
        return batch

    def attempt(self, made: Attempt) -> None:
        """One row of the log table, committed by itself."""

        def write(again: bool) -> None:
            failpoint.reached("log")
            if not (again and self.log.has(made)):
                self.log.attempt(made)

        self.durably(write)

    def settle(self, outcome: Outcome, *, hold: bool = False) -> None:
        """Accepted IDs to tracking, rejected ones to the reject table, the batch to its next state: all or nothing.

        Raises `LedgerError` also when this run's lease is lost, or somebody else has settled the batch.
        """
        doubtful = BatchState.HELD if hold else BatchState.IN_DOUBT
        state = _state(outcome, doubtful)

        def write(again: bool) -> None:
            self._renew_late()
            with self.db.transaction():
                self._fence()
                # An earlier try may have been committed though its answer was lost.
                if not (again and journal.state(self.db, self.names, outcome.batch.id) == state):
                    self._settle(self._masked(outcome), state, doubtful)

        self.durably(write)

    def _settle(self, outcome: Outcome, state: BatchState, doubtful: BatchState) -> None:
        failpoint.reached("settle")
        self._accept(outcome)
        self._refuse(outcome)
        if outcome.repeated and outcome.failed:
            self._remember_repeated(outcome.batch.entity, outcome.failed)
        if not journal.settle(self.db, self.names, self.run, outcome, state):
            raise LedgerError(f"the batch {outcome.batch.id} is not in flight any more: somebody else has settled it")
        if outcome.answered and outcome.in_doubt:
            apart = Batch(str(uuid.uuid4()), outcome.batch.entity, str(uuid.uuid4()), outcome.in_doubt, b"")
            journal.set_apart(self.db, self.names, self.pipeline, self.run, outcome, doubtful, apart)
            verdicts.unknown(self, outcome)
            if self._policy(apart.entity).changed:
                # A person may say that they were accepted: then it was this content.
                hashes = _hashes(outcome.batch)
                sent = {id_: hashes[id_] for id_ in apart.ids}
                tracking.remember(self.db, self.names, apart.entity, "sent", sent)

    def repeated(self, entity: str, ids: Sequence[str]) -> Set[str]:
        """Those of the records of which an earlier sending may have been stored, though nobody could tell."""

        def look() -> Set[str]:
            if not self._has_repeats(entity):
                return frozenset()
            return tracking.contents(self.db, self.names, entity, "repeated", ids).keys()

        return self.read(look)

    def _remember_repeated(self, entity: str, ids: Sequence[str]) -> None:
        """Inside a transaction: these records are offered again, though an earlier sending may have been stored."""
        tracking.remember(self.db, self.names, entity, "repeated", dict.fromkeys(ids, ""))
        self._with_repeats[entity] = True

    def _accept(self, outcome: Outcome) -> None:
        batch, accepted = outcome.batch, outcome.accepted
        tracking.track(self.db, self.names, batch.entity, accepted, folds=self.folds())
        failpoint.reached("tracked")
        if not accepted:
            return
        changed = self._policy(batch.entity).changed
        if changed or self._has_rejects(batch.entity):
            verdicts.accepted(self, outcome, refused=not changed)
        if changed:
            tracking.touch(self.db, self.names, batch.entity, accepted)
            hashes = _hashes(batch)
            kept = {id_: hashes[id_] for id_ in accepted}
            tracking.remember(self.db, self.names, batch.entity, "accepted", kept)
        if self._has_repeats(batch.entity):
            tracking.drop_contents(self.db, self.names, batch.entity, "repeated", accepted)
        if self._has_rejects(batch.entity):
            ids = tracking.as_json(accepted)
            self.statement("accept_rejected", entity=batch.entity, before=self._began, ids=ids)
            tracking.drop_contents(self.db, self.names, batch.entity, "rejected", accepted)

    def _refuse(self, outcome: Outcome) -> None:
        if outcome.rejected:
            batch = outcome.batch
            rejects.write(self, batch.entity, outcome.rejected, batch.id, self._policy(batch.entity), _hashes(batch))
            self._with_rejects[batch.entity] = True
            failpoint.reached("rejected")

    def refuse(self, batch: Batch, rejection: Rejection) -> None:
        """A record of a batch that was settled as failed was refused for what it is."""
        hashes = _hashes(batch)
        before = self.read(lambda: rejects.standing(self, batch.entity, [rejection.id]))

        def write(_again: bool) -> None:
            with self.db.transaction():
                self._fence()
                rejects.write(self, batch.entity, [rejection], batch.id, self._policy(batch.entity), hashes, before)

        self.durably(write)
        self._with_rejects[batch.entity] = True

    def unsettled(self, entity: str, api: Api, *, in_flight: bool = False) -> Iterator[Batch]:
        """The batches that an earlier run left open and that may be sent again, each put in flight as it is given.

        With `in_flight` only those whose sender died before it could say anything of them.

        Held instead are those that the spec says to hold, and those whose key is too old to be trusted. Unknown records
        of an answered call are freed: they are offered in a new batch. The caller settles each before it asks for more.
        """
        for left in self.open_batches(entity=entity):
            if left.state is BatchState.HELD or (in_flight and left.state is not BatchState.IN_FLIGHT):
                continue
            if api.in_doubt == "hold" and not left.ordered_again:
                self._decide(left, BatchState.HELD, "may have been processed; waits for a person (`resolve`)")
            elif left.age > api.idempotency_max_age and not left.ordered_again:
                reason = f"may have been processed; its key is older than {api.idempotency_max_age / 3600:g} h"
                self._decide(left, BatchState.HELD, reason)
            else:
                batch = self._again(left)
                if batch:
                    yield batch

    def _again(self, left: OpenBatch) -> Batch | None:
        with self.guard("cannot be written"):
            whole = journal.open_batches(self.db, self.names, self.pipeline, batch=left.id, payload=True)
        if not whole or whole[0].payload is None:
            self._decide(left, BatchState.FAILED, "offered again in a new batch under a new key")
            return None
        with self.guard("cannot be written"), self.db.transaction():
            self._fence()
            if not journal.resend(self.db, self.names, left.id, self.run):
                return None
        return whole[0].again()

    def _decide(self, left: OpenBatch, state: BatchState, reason: str) -> None:
        with self.guard("cannot be written"), self.db.transaction():
            self._fence()
            journal.decide(self.db, self.names, left.id, left.state, state, reason)
            if state is BatchState.FAILED:
                self._remember_repeated(left.entity, left.ids)

    def abandon(self, reason: str) -> None:
        """Leave this run's batches in flight to the next run, as after a crash."""
        for left in self.open_batches():
            if left.run == self.run and left.state is BatchState.IN_FLIGHT:
                self._decide(left, BatchState.IN_DOUBT, reason)

    # Records and endpoints that are not sent

    def reject(self, entity: str, rejections: Sequence[Rejection]) -> Set[str]:
        """Reject records before they are sent; every run checks them again. Gives those that were rejected before."""

        codec = self.codec()
        if codec:
            rejections = [replace(one, id=storable(one.id, codec)) for one in rejections]
        before = self.read(lambda: rejects.standing(self, entity, [rejection.id for rejection in rejections]))

        def write(_again: bool) -> None:
            self._renew_late()
            with self.db.transaction():
                self._fence()
                rejects.write(self, entity, rejections, None, None, {}, before)

        self.durably(write)
        return before.keys()

    def revive(self, entity: str, record: str) -> None:
        """A refused row is due after all: what stands of it goes."""

        def write(_again: bool) -> None:
            with self.db.transaction():
                self._fence()
                self.statement("revive", entity=entity, record=record)

        self.durably(write)

    def adopt(self, entity: str, hashes: Mapping[str, str]) -> None:
        """Take the contents that delivered records have now for those that were accepted, where nobody knows better."""

        def write(_again: bool) -> None:
            self._renew_late()
            with self.db.transaction():
                self._fence()
                tracking.remember(self.db, self.names, entity, "accepted", hashes)

        self.durably(write)

    def begin_watermark(self, entity: str) -> Watermark:
        """How far the source of an entity was read with nothing left behind; this run may move it."""

        def write(_again: bool) -> Watermark:
            with self.db.transaction():
                self._fence()
                return watermarks.begin(self, entity)

        return self.durably(write)

    def move_watermark(self, entity: str, before: Watermark, value: Any, source: str, *, full: bool) -> None:
        """Everything of an entity was delivered: keep how far its source was read."""

        def write(_again: bool) -> None:
            with self.db.transaction():
                self._fence()
                watermarks.move(self, entity, before, value, source, full=full)

        self.durably(write)

    def park(self, url: str, seconds: float, reason: str) -> Park | None:
        """Leave an endpoint alone, across runs."""

        def write(_again: bool) -> None:
            with self.db.transaction():
                self._fence()
                parks.park(self, url, seconds, reason)

        self.durably(write)
        return self.parked(url)

    # The lease

    def acquire(self, seconds: float) -> Lease:
        """Take the pipeline's lease for this run. Raises `LeaseHeld`."""
        with self.guard("cannot be written"):
            self.lease = leases.acquire(self.db, self.names, self.pipeline, self.run, seconds)
        return self.lease

    def prove_fence(self, connect: Callable[[], Connection]) -> None:
        """Try once, on a second connection, whether the lock on the lease keeps others out; warn where it does not."""
        assert self.lease is not None, "acquire first"  # noqa: S101
        try:
            with closing(connect()) as another:
                kept = fence.holds(self.db, another, self.names, self.lease)
        except SyncLedgerError as failure:
            _LOG.info("whether the ledger's locks hold could not be tried: %s", self.mask(str(failure)))
            return
        if kept is False:
            _LOG.warning(
                "the ledger %s does not keep the lock on the lease: a run that was thought dead may settle beside another one; "
                "never `unlock` before you have ended its process (docs/guarantees.md)",
                self.db.description,
            )

    def _renew_late(self) -> None:
        """The heartbeat may starve behind this run's own writes (SQLite has one writer): then they renew the lease."""
        if self.lease and self.lease.late():
            self.lease.renew(self.db, self.names)

    def heartbeat(self, connect: Callable[[], Connection]) -> leases.Heartbeat:
        """What keeps the lease while the run goes on."""
        assert self.lease is not None, "acquire first"  # noqa: S101
        return leases.Heartbeat(self.lease, connect, self.names)

    def release(self) -> None:
        """Give the lease back."""
        if self.lease:
            lease = self.lease
            self._left_alone = (0.0, "")  # the last chance
            self.durably(lambda _again: lease.free(self.db, self.names))

    def _fence(self) -> None:
        """Inside a transaction: go on only while the lease is ours."""
        if self.lease and not self.lease.holds(self.db, self.names):
            raise LedgerError(
                f"the lease of this run is lost: another run has taken it, or it was broken{self.lease.last_words}"
            )

    def share(self, token: int, seconds: float) -> None:
        """Work under the lease that another process of this run holds. Raises `LedgerError` when it is lost."""
        self.lease = Lease(self.pipeline, self.run, token, seconds)
        self.check()

    # The run itself

    def started(self) -> None:
        """The run begins. Earlier ones that have not said how they ended were killed: this run holds the lease."""
        with self.guard("cannot be written"):
            self.statement("runs_killed", pipeline=self.pipeline, run=self.run)
            self.statement("run_started", run=self.run, pipeline=self.pipeline)

    def ended(self, status: str, summary: dict[str, Any]) -> None:
        """The run is over, with its summary."""
        text = log.as_json(summary, self.mask, self.codec())
        self.durably(lambda _again: self.statement("run_ended", run=self.run, status=status, summary=text))

    def _has_rejects(self, entity: str) -> bool:
        """True when records of the entity were refused; asked once, under the lease."""
        if entity not in self._with_rejects:
            self._with_rejects[entity] = bool(self.statement("any_rejected", entity=entity).rows)
        return self._with_rejects[entity]

    def _has_repeats(self, entity: str) -> bool:
        """True when earlier sendings of some of the entity's records may have been stored; asked once, under the lease."""
        if entity not in self._with_repeats:
            self._with_repeats[entity] = bool(self.statement("any_repeated", entity=entity).rows)
        return self._with_repeats[entity]

    def _policy(self, entity: str) -> Policy:
        return self.policies.get(entity, Policy())

    def _masked(self, outcome: Outcome) -> Outcome:
        return replace(outcome, reason=self.storable(outcome.reason)) if outcome.reason else outcome


def _hashes(batch: Batch) -> dict[str, str]:
    """The content of each record of a batch."""
    hashes = batch.hashes or [content_hash(record) for record in records(batch.payload)]
    return dict(zip(batch.ids, hashes, strict=True))


def _state(outcome: Outcome, doubtful: BatchState) -> BatchState:
    """Where a batch goes from `in_flight`."""
    if outcome.answered:
        return BatchState.SETTLED
    return doubtful if outcome.in_doubt else BatchState.FAILED
