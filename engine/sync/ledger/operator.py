"""What a person may do to the ledger; each act and its audit row are one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import LedgerError
from engine.runs import lease as leases
from engine.runs.lease import Holder
from engine.sync.ledger import journal, parks, rejects, tracking, verdicts, watermarks
from engine.sync.ledger.history import History
from engine.sync.ledger.journal import OpenBatch
from engine.sync.ledger.states import BatchState, ContentKind
from engine.sync.ledger.store import Store
from engine.sync.payload import content_hash, records

_RESOLVED = {"accepted": BatchState.SETTLED, "drop": BatchState.FAILED, "resend": BatchState.IN_DOUBT}


@dataclass(frozen=True, slots=True)
class Acts:
    """A ledger for people who mend something."""

    store: Store

    @property
    def history(self) -> History:
        """The same ledger for reading."""
        return History(self.store)

    def resolve(self, left: OpenBatch, how: str, *, changed: bool = False) -> None:
        """Settle an open batch by hand: `accepted` tracks its records, `drop` frees them, `resend` sends it again.

        With `changed` the contents it carried are kept as accepted. Raises `LedgerError` when it is not open any more.
        """
        state = _RESOLVED[how]
        with self.store.guard("cannot be written"), self.store.db.transaction():
            if how == "accepted":
                tracking.track(self.store, left.entity, left.ids)
                verdicts.resolved(self.store, left.entity, left.id, left.ids)
                now = self.store.now()
                self.store.statement("accept_rejected", entity=left.entity, before=now, ids=tracking.as_json(left.ids))
                tracking.drop_contents(self.store, left.entity, ContentKind.REJECTED, left.ids)
                if changed:
                    tracking.touch(self.store, left.entity, left.ids)
                    self._remember(left)
            if not journal.decide(
                self.store, left.id, left.state, state, f"resolved by hand: {how}", ordered=how == "resend"
            ):
                raise LedgerError(f"the batch {left.id} is not {left.state} any more; look at `status` again")
            if how != "accepted":
                watermarks.drop(self.store, left.entity)
            self.store.log.act("Resolve", left.entity, {"BatchId": left.id, "How": how, "Records": left.count})

    def _remember(self, left: OpenBatch) -> None:
        whole = journal.open_batches(self.store, batch=left.id, payload=True)
        if whole and whole[0].payload:
            hashes = map(content_hash, records(whole[0].payload))
            kept = dict(zip(left.ids, hashes, strict=True))
        else:
            kept = tracking.contents(self.store, left.entity, ContentKind.SENT, left.ids)
        tracking.remember(self.store, left.entity, ContentKind.ACCEPTED, kept)

    def unlock(self) -> Holder | None:
        """Break the lease; gives who had it."""
        with self.store.guard("cannot be written"), self.store.db.transaction():
            had = leases.break_lease(self.store.db, self.store.names, self.store.pipeline)
            self.store.log.act("Unlock", self.store.pipeline, {"Holder": had.as_json() if had else None})
        return had

    def baseline(self, entity: str, ids: Sequence[str]) -> None:
        """Track IDs without sending their records."""
        with self.store.guard("cannot be written"), self.store.db.transaction():
            tracking.track(self.store, entity, ids)
            watermarks.drop(self.store, entity)  # with `resend: changed` their contents are still to be learned

    def forget(self, entity: str, ids: Sequence[str]) -> list[str]:
        """Un-track IDs; gives those that were tracked."""
        with self.store.guard("cannot be written"), self.store.db.transaction():
            found = tracking.tracked(self.store, entity, ids)
            verdicts.forgotten(self.store, entity, ids)
            tracking.forget(self.store, entity, ids)
            tracking.drop_contents(self.store, entity, ContentKind.ACCEPTED, ids)
            self.store.statement("retry", entity=entity, ids=tracking.as_json(ids))
            watermarks.drop(self.store, entity)
            known = [id_ for id_ in ids if id_ in found]
            self.store.log.act("Forget", entity, {"EntityIds": known})
        return known

    def retry(self, entity: str, ids: Sequence[str] | None, url: str) -> tuple[list[str], bool]:
        """Offer rejected records again with the next run (all of the entity where `ids` is None), and call the endpoint again.

        Gives the records that were rejected, and whether the endpoint was parked.
        """
        with self.store.guard("cannot be written"), self.store.db.transaction():
            if ids is None:
                known = sorted(found.id for found in self.history.each_reject(entity))
            else:
                refused = rejects.standing(self.store, entity, ids)
                known = [id_ for id_ in ids if id_ in refused]
            wanted = None if ids is None else tracking.as_json(ids)
            self.store.statement("retry", entity=entity, ids=wanted)
            watermarks.drop(self.store, entity)
            lifted = parks.lift(self.store, url)
            details = {"EntityIds": None if ids is None else known, "Records": len(known), "EndpointWasParked": lifted}
            self.store.log.act("Retry", entity, details)
        return known, lifted

    def act(self, verb: str, entity: str, information: dict[str, Any]) -> None:
        """An audit row of what a person did."""
        with self.store.guard("cannot be written"):
            self.store.log.act(verb, entity, information)
