"""Records that were refused: how often, for how long they rest, and what their content was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.ledger import tracking
from engine.ledger.log import storable
from engine.ledger.store import Store
from engine.model import Rejection

LONGEST_DELAY = 30 * 86400.0
"""Seconds; a delay that doubled more often than this is no longer one."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What an entity's spec says about refused and about changed records. `delay` is seconds."""

    delay: float = 3600.0
    after: int = 5
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """One refused record. Times are naive UTC; `next_try` is None where every run looks at it, or none does (`parked`)."""

    entity: str
    id: str
    state: str
    reason: str
    status: int | None
    attempts: int
    first_seen: Any
    last_seen: Any
    next_try: Any
    batch: str | None

    def as_json(self) -> dict[str, Any]:
        """One item of `rejects --format json`."""
        return {
            "entity": self.entity, "id": self.id, "state": self.state, "reason": self.reason, "http_status": self.status,
            "attempts": self.attempts, "first_seen": str(self.first_seen), "last_seen": str(self.last_seen),
            "next_try": str(self.next_try) if self.next_try else None, "batch_id": self.batch,
        }  # fmt: skip


def write(
    store: Store,
    entity: str,
    rejections: Sequence[Rejection],
    batch: str | None,
    policy: Policy | None,
    hashes: Mapping[str, str],
) -> None:
    """Write refusals. Those of the API rest by the `policy`, with their content's hash; without one, every run looks again."""
    if not rejections:
        return
    ids = [rejection.id for rejection in rejections]
    before = {
        row[0]: int(row[1]) for row in store.statement("reject_attempts", entity=entity, ids=tracking.as_json(ids)).rows
    }
    for rejection in rejections:
        known = rejection.id in before
        attempts = before.get(rejection.id, 0) + (0 if rejection.retryable and known else 1)
        before[rejection.id] = attempts
        resting = policy is not None and not rejection.retryable
        parked = resting and policy is not None and attempts >= policy.after
        delay = min(policy.delay * 2.0 ** min(attempts - 1, 60), LONGEST_DELAY) if resting and policy else None
        store.statement(
            "reject_again" if known else "reject",
            entity=entity,
            record=rejection.id,
            state="parked" if parked else "rejected",
            reason=storable(store.mask(rejection.reason)),
            status=rejection.status,
            attempts=attempts,
            seconds=None if parked else delay,
            batch=batch,
        )
    if policy is not None:
        tracking.remember(store.db, store.names, entity, "rejected", {id_: hashes[id_] for id_ in ids if id_ in hashes})


def all_of(store: Store, entity: str | None = None, record: str | None = None) -> list[Reject]:
    """The refused records of the ledger, or of one entity, or one of them."""
    rows = store.statement("rejects", entity=entity, record=record).rows
    return [
        Reject(row[0], row[1], row[2], row[3] or "", row[4], int(row[5]), row[6], row[7], row[8], row[9])
        for row in rows
    ]
