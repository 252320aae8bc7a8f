"""What a person may do to the ledger; each act and its audit row are one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import LedgerError
from engine.runs import lease as leases
from engine.runs.lease import Holder
from engine.sync.ledger import journal, parks, rejects, tracking, verdicts, watermarks
from engine.sync.ledger.history import History
from engine.sync.ledger.journal import OpenBatch
from engine.sync.ledger.states import BatchState
from engine.sync.payload import content_hash, records

_RESOLVED = {"accepted": BatchState.SETTLED, "drop": BatchState.FAILED, "resend": BatchState.IN_DOUBT}


class Acts(History):
    """A ledger for people who mend something."""

    __slots__ = ()

    def resolve(self, left: OpenBatch, how: str, *, changed: bool = False) -> None:
        """Settle an open batch by hand: `accepted` tracks its records, `drop` frees them, `resend` sends it again.

        With `changed` the contents it carried are kept as accepted. Raises `LedgerError` when it is not open any more.
        """
        state = _RESOLVED[how]
        with self.guard("cannot be written"), self.db.transaction():
            if how == "accepted":
                tracking.track(self.db, self.names, left.entity, left.ids, folds=self.folds())
                verdicts.resolved(self, left.entity, left.id, left.ids)
                now = self.statement("now").rows[0][0]
                self.statement("accept_rejected", entity=left.entity, before=now, ids=tracking.as_json(left.ids))
                tracking.drop_contents(self.db, self.names, left.entity, "rejected", left.ids)
                if changed:
                    tracking.touch(self.db, self.names, left.entity, left.ids)
                    self._remember(left)
            if not journal.decide(
                self.db, self.names, left.id, left.state, state, f"resolved by hand: {how}", ordered=how == "resend"
            ):
                raise LedgerError(f"the batch {left.id} is not {left.state} any more; look at `status` again")
            if how != "accepted":
                watermarks.drop(self, left.entity)
            self.log.act("Resolve", left.entity, {"BatchId": left.id, "How": how, "Records": left.count})

    def _remember(self, left: OpenBatch) -> None:
        whole = journal.open_batches(self.db, self.names, self.pipeline, batch=left.id, payload=True)
        if whole and whole[0].payload:
            hashes = map(content_hash, records(whole[0].payload))
            kept = dict(zip(left.ids, hashes, strict=True))
        else:
            kept = tracking.contents(self.db, self.names, left.entity, "sent", left.ids)
        tracking.remember(self.db, self.names, left.entity, "accepted", kept)

    def unlock(self) -> Holder | None:
        """Break the lease; gives who had it."""
        with self.guard("cannot be written"), self.db.transaction():
            had = leases.break_lease(self.db, self.names, self.pipeline)
            self.log.act("Unlock", self.pipeline, {"Holder": had.as_json() if had else None})
        return had

    def baseline(self, entity: str, ids: Sequence[str]) -> None:
        """Track IDs without sending their records."""
        with self.guard("cannot be written"), self.db.transaction():
            tracking.track(self.db, self.names, entity, ids, folds=self.folds())
            watermarks.drop(self, entity)  # with `resend: changed` their contents are still to be learned

    def forget(self, entity: str, ids: Sequence[str]) -> list[str]:
        """Un-track IDs; gives those that were tracked."""
        with self.guard("cannot be written"), self.db.transaction():
            found = tracking.tracked(self.db, self.names, entity, ids)
            verdicts.forgotten(self, entity, ids)
            tracking.forget(self.db, self.names, entity, ids)
            tracking.drop_contents(self.db, self.names, entity, "accepted", ids)
            self.statement("retry", entity=entity, ids=tracking.as_json(ids))
            watermarks.drop(self, entity)
            known = [id_ for id_ in ids if id_ in found]
            self.log.act("Forget", entity, {"EntityIds": known})
        return known

    def retry(self, entity: str, ids: Sequence[str] | None, url: str) -> tuple[list[str], bool]:
        """Offer refused records again with the next run (all of the entity where `ids` is None), and call the endpoint again.

        Gives the records that were refused, and whether the endpoint was parked.
        """
        with self.guard("cannot be written"), self.db.transaction():
            if ids is None:
                known = sorted(found.id for found in self.each_reject(entity))
            else:
                refused = rejects.standing(self, entity, ids)
                known = [id_ for id_ in ids if id_ in refused]
            wanted = None if ids is None else tracking.as_json(ids)
            self.statement("retry", entity=entity, ids=wanted)
            watermarks.drop(self, entity)
            lifted = parks.lift(self, url)
            details = {"EntityIds": None if ids is None else known, "Records": len(known), "EndpointWasParked": lifted}
            self.log.act("Retry", entity, details)
        return known, lifted

    def act(self, verb: str, entity: str, information: dict[str, Any]) -> None:
        """An audit row of what a person did."""
        with self.guard("cannot be written"):
            self.log.act(verb, entity, information)
