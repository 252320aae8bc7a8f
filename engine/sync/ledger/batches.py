"""The life of a batch in the ledger: written before it is sent, settled when it was answered, taken up by a later run."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from engine import failpoint
from engine.errors import LedgerError
from engine.http.settings import Api
from engine.sync.ledger import journal, rejects, tracking, verdicts
from engine.sync.ledger.journal import OpenBatch
from engine.sync.ledger.marks import Marks
from engine.sync.ledger.rejects import Policy
from engine.sync.ledger.run_lease import RunLease
from engine.sync.ledger.states import BatchState, ContentKind
from engine.sync.ledger.store import Store
from engine.sync.model import Attempt, Batch, Outcome


@dataclass(slots=True)
class Batches:
    """Writes what becomes of batches. `policies` are what the spec says of each entity's refusals."""

    store: Store
    lease: RunLease
    marks: Marks
    policies: Mapping[str, Policy]

    def intend(self, batch: Batch) -> Batch:
        """Write the batch into the journal, before a byte of it is sent."""

        def write(again: bool) -> None:
            if not (again and journal.state(self.store, batch.id) is BatchState.IN_FLIGHT):
                journal.intend(self.store, batch)

        self.lease.write(write)
        return batch

    def withdraw(self, batch: Batch) -> None:
        """Take back a batch that was written and not sent."""
        self.lease.write(lambda _again: journal.withdraw(self.store, batch.id))

    def attempt(self, made: Attempt) -> None:
        """Write one row of the log table, committed by itself."""

        def write(again: bool) -> None:
            failpoint.reached("log")
            if not (again and self.store.log.has(made)):
                self.store.log.attempt(made)

        self.store.write(write)

    def settle(self, outcome: Outcome, *, hold: bool = False) -> LedgerError | None:
        """Write the row of the last call, accepted IDs to tracking, rejected ones to the reject table, the batch to its next state.

        All of it is one transaction. Where that fails, the row of the call is tried apart from the rest: what the API has accepted is
        tracked even if the log table cannot be written, and that failure is returned. Raises `LedgerError` where the batch cannot be
        settled, also when this run's lease is lost, or somebody else has settled it.
        """
        doubtful = BatchState.HELD if hold else BatchState.IN_DOUBT
        state = _state(outcome, doubtful)
        if outcome.reason:
            outcome = replace(outcome, reason=self.store.storable(outcome.reason))

        def write(again: bool, last: Attempt | None) -> None:
            # An earlier try may have been committed though its answer was lost.
            if not (again and journal.state(self.store, outcome.batch.id) == state):
                self._settle(outcome, state, doubtful, last)

        try:
            self.lease.write(lambda again: write(again, outcome.last))
        except LedgerError:
            if outcome.last is None:
                raise
            try:
                self.lease.write(lambda again: write(again, None))
            finally:
                lost = self._lost(outcome.last)
            return lost
        return None

    def _lost(self, made: Attempt) -> LedgerError | None:
        """Write the row of a call; the failure where that cannot be."""
        try:
            self.attempt(made)
        except LedgerError as failure:
            return failure
        return None

    def _settle(self, outcome: Outcome, state: BatchState, doubtful: BatchState, last: Attempt | None) -> None:
        store = self.store
        if last:
            failpoint.reached("log")
            store.log.attempt(last)
        failpoint.reached("settle")
        self._accept(outcome)
        self._refuse(outcome)
        if outcome.repeated and outcome.failed:
            self._remember_repeated(outcome.batch.entity, outcome.failed)
        if not journal.settle(store, outcome, state):
            raise LedgerError(f"the batch {outcome.batch.id} is not in flight any more: somebody else has settled it")
        if outcome.answered and outcome.in_doubt:
            self._set_apart(outcome, doubtful)

    def _set_apart(self, outcome: Outcome, state: BatchState) -> None:
        """Records that the answer left out get a batch of their own."""
        apart = Batch(str(uuid.uuid4()), outcome.batch.entity, str(uuid.uuid4()), outcome.in_doubt, b"")
        journal.set_apart(self.store, outcome, state, apart)
        verdicts.unknown(self.store, outcome)
        if self.policies[apart.entity].changed:
            # A person may say that they were accepted: then it was this content.
            hashes = outcome.batch.contents()
            tracking.remember(self.store, apart.entity, ContentKind.SENT, {id_: hashes[id_] for id_ in apart.ids})

    def _accept(self, outcome: Outcome) -> None:
        batch, accepted, store = outcome.batch, outcome.accepted, self.store
        tracking.track(store, batch.entity, accepted)
        failpoint.reached("tracked")
        if not accepted:
            return
        changed, refused = self.policies[batch.entity].changed, self.marks.rejects(batch.entity)
        if changed or refused:
            verdicts.accepted(store, outcome, refused=not changed)
        if changed:
            tracking.touch(store, batch.entity, accepted)
            hashes = batch.contents()
            tracking.remember(store, batch.entity, ContentKind.ACCEPTED, {id_: hashes[id_] for id_ in accepted})
        if self.marks.repeats(batch.entity):
            tracking.drop_contents(store, batch.entity, ContentKind.REPEATED, accepted)
        if refused:
            store.statement("accept_rejected", entity=batch.entity, before=store.began, ids=tracking.as_json(accepted))
            tracking.drop_contents(store, batch.entity, ContentKind.REJECTED, accepted)

    def _refuse(self, outcome: Outcome) -> None:
        if outcome.rejected:
            batch = outcome.batch
            rejects.write(
                self.store, batch.entity, outcome.rejected, batch.id, self.policies[batch.entity], batch.contents()
            )
            self.marks.add_rejects(batch.entity)
            failpoint.reached("rejected")

    def repeated(self, entity: str, ids: Sequence[str]) -> Set[str]:
        """Those of the records of which an earlier sending may have been stored, though nobody could tell."""

        def look() -> Set[str]:
            if not self.marks.repeats(entity):
                return frozenset()
            return tracking.contents(self.store, entity, ContentKind.REPEATED, ids).keys()

        return self.store.read(look)

    def _remember_repeated(self, entity: str, ids: Sequence[str]) -> None:
        """Inside a transaction: these records are offered again, though an earlier sending may have been stored."""
        tracking.remember(self.store, entity, ContentKind.REPEATED, dict.fromkeys(ids, ""))
        self.marks.add_repeats(entity)

    def unsettled(self, entity: str, api: Api, *, in_flight: bool = False) -> Iterator[Batch]:
        """The batches that an earlier run left open and that may be sent again, each put in flight as it is yielded.

        With `in_flight` only those whose sender died before it could say anything of them.

        Held instead are those that the spec says to hold, and those whose key is too old to be trusted. Unknown records
        of an answered call are freed: they are offered in a new batch. The caller settles each before it asks for more.
        """
        for left in self.store.read(lambda: journal.open_batches(self.store, entity=entity)):
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
        with self.store.guard("cannot be written"):
            whole = journal.open_batches(self.store, batch=left.id, payload=True)
        if not whole or whole[0].payload is None:
            self._decide(left, BatchState.FAILED, "offered again in a new batch under a new key")
            return None
        taken = self.lease.write_once(lambda: journal.resend(self.store, left.id))
        return whole[0].again() if taken else None

    def _decide(self, left: OpenBatch, state: BatchState, reason: str) -> None:
        def write() -> None:
            journal.decide(self.store, left.id, left.state, state, reason)
            if state is BatchState.FAILED:
                self._remember_repeated(left.entity, left.ids)

        self.lease.write_once(write)

    def abandon(self, reason: str) -> None:
        """Leave this run's batches in flight to the next run, as after a crash."""
        for left in self.store.read(lambda: journal.open_batches(self.store)):
            if left.run == self.store.run and left.state is BatchState.IN_FLIGHT:
                self._decide(left, BatchState.IN_DOUBT, reason)


def _state(outcome: Outcome, doubtful: BatchState) -> BatchState:
    """Where a batch goes from `in_flight`."""
    if outcome.answered:
        return BatchState.SETTLED
    return doubtful if outcome.in_doubt else BatchState.FAILED
