"""What is decided on single records, outside of a batch: refusals before sending, contents that are adopted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

from engine.store.encoding import storable
from engine.sync.ledger import rejects, tracking
from engine.sync.ledger.marks import Marks
from engine.sync.ledger.rejects import Policy
from engine.sync.ledger.run_lease import RunLease
from engine.sync.ledger.states import ContentKind
from engine.sync.ledger.store import Store
from engine.sync.model import Batch, Rejection


@dataclass(frozen=True, slots=True)
class Records:
    """Writes decisions on single records. `policies` are what the spec says of each entity's refusals."""

    store: Store
    lease: RunLease
    marks: Marks
    policies: Mapping[str, Policy]

    def reject(self, entity: str, rejections: Sequence[Rejection]) -> Set[str]:
        """Reject records before they are sent; every run checks them again. Returns the IDs of those that were rejected before."""
        codec = self.store.codec()
        if codec:
            rejections = [replace(one, id=storable(one.id, codec)) for one in rejections]
        ids = [rejection.id for rejection in rejections]
        before = self.store.read(lambda: rejects.standing(self.store, entity, ids))
        self.lease.write(lambda _again: rejects.write(self.store, entity, rejections, None, None, {}, before))
        return before.keys()

    def refuse(self, batch: Batch, rejection: Rejection) -> None:
        """The API has refused a record of a batch that was settled as failed."""
        store, policy = self.store, self.policies[batch.entity]
        before = store.read(lambda: rejects.standing(store, batch.entity, [rejection.id]))
        hashes = batch.contents()
        self.lease.write(
            lambda _again: rejects.write(store, batch.entity, [rejection], batch.id, policy, hashes, before)
        )
        self.marks.add_rejects(batch.entity)

    def revive(self, entity: str, record: str) -> None:
        """A refused row is due after all: delete what stands of it."""
        self.lease.write(lambda _again: self.store.statement("revive", entity=entity, record=record))

    def adopt(self, entity: str, hashes: Mapping[str, str]) -> None:
        """Take the contents that delivered records have now for those that were accepted, where nobody knows better."""
        self.lease.write(lambda _again: tracking.remember(self.store, entity, ContentKind.ACCEPTED, hashes))
