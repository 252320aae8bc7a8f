"""Records that were refused: how often, for how long they rest, and what their content was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine.sync.ledger import tracking, verdicts
from engine.sync.ledger.states import ContentKind, RejectState
from engine.sync.ledger.store import Store
from engine.sync.model import Rejection

LONGEST_DELAY = 30 * 86400.0
"""Seconds; a delay that doubled more often than this is no longer one."""

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Policy:
    """What an entity's spec says about refused and about changed records. `delay` is seconds."""

    delay: float
    after: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Reject:
    """One rejected record. Times are naive UTC; `next_try` is None where every run looks at it, or none does (`parked`)."""

    entity: str
    id: str
    state: RejectState
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


@dataclass(frozen=True, slots=True)
class Before:
    """What the table holds of a record: its attempts, whether the API was the last to refuse it, and since when."""

    attempts: int
    by_api: bool
    first_seen: Any = None


def standing(store: Store, entity: str, ids: Iterable[str]) -> dict[str, Before]:
    """What the table holds of these records, by ID; nothing of one that is not refused."""
    rows = store.statement("reject_attempts", entity=entity, ids=tracking.as_json(ids)).rows
    return {id_: Before(int(attempts), batch is not None, first_seen) for id_, attempts, batch, first_seen in rows}


def write(
    store: Store,
    entity: str,
    rejections: Sequence[Rejection],
    batch: str | None,
    policy: Policy | None,
    hashes: Mapping[str, str],
    before: Mapping[str, Before] | None = None,
) -> None:
    """Write refusals, all with one statement. Those of the API rest by the `policy`, with their content's hash; without
    one, every run looks again.

    `before` is what stood there before the first try of this write, so that another try counts nothing twice.
    """
    if not rejections:
        return
    verdicts.refused(store, entity, rejections, batch)
    ids = [rejection.id for rejection in rejections]
    there = standing(store, entity, ids)
    counted = dict(there if before is None else before)
    contents = tracking.contents(store, entity, ContentKind.REJECTED, ids) if policy else {}
    made: dict[str, list[Any]] = {}
    for rejection in rejections:
        known = counted.get(rejection.id)
        if known and rejection.spare:
            continue  # what the API, or its contract, said of the record itself counts more
        if known and policy and (not known.by_api or contents.get(rejection.id, "") != hashes.get(rejection.id, "")):
            known = Before(0, by_api=True)  # the API has never refused this content
        attempts = (known.attempts if known else 0) + (0 if rejection.retryable else 1)
        first_seen = there[rejection.id].first_seen if rejection.id in there else None
        counted[rejection.id] = Before(attempts, policy is not None)
        made[rejection.id] = _row(store, rejection, attempts, None if rejection.retryable else policy, first_seen)
    if made:
        store.statement("drop_rejects", entity=entity, ids=tracking.as_json(made))
        store.statement("reject", entity=entity, rows=orjson.dumps(list(made.values())).decode(), batch=batch)
    if policy is not None:
        tracking.remember(store, entity, ContentKind.REJECTED, {id_: hashes[id_] for id_ in ids if id_ in hashes})


def _row(store: Store, rejection: Rejection, attempts: int, policy: Policy | None, first_seen: Any) -> list[Any]:
    """What `ledger/refusals.sql.j2` takes apart again."""
    parked = policy is not None and attempts >= policy.after
    delay = min(policy.delay * 2.0 ** min(attempts - 1, 60), LONGEST_DELAY) if policy and not parked else None
    return [
        rejection.id, (RejectState.PARKED if parked else RejectState.REJECTED).value, store.storable(rejection.reason), rejection.status,
        attempts, delay, None if first_seen is None else str(first_seen),
    ]  # fmt: skip


def all_of(store: Store, entity: str | None = None, record: str | None = None) -> list[Reject]:
    """The rejected records of the ledger, or of one entity, or one of them."""
    rows = store.statement("rejects", entity=entity, record=record, state=None, after=None, limit=None).rows
    return [_reject(row) for row in rows]


def each(store: Store, entity: str, state: RejectState | None) -> Iterator[Reject]:
    """The rejected records of an entity, or those in a state, read some at a time."""
    after = None
    while True:
        values = {"record": None, "state": state and state.value, "after": after, "limit": _PAGE}
        rows = store.statement("rejects", entity=entity, **values).rows
        found = [_reject(row) for row in rows]
        yield from found
        if len(found) < _PAGE:
            return
        after = found[-1].id


def _reject(row: Any) -> Reject:
    entity, id_, state, reason, status, attempts, first_seen, last_seen, next_try, batch = row
    return Reject(
        entity, id_, RejectState(state), reason or "", status, int(attempts), first_seen, last_seen, next_try, batch
    )
