"""Write-ahead journal: a batch is durable, with its exact bytes and its key, before it is sent."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Any

import orjson
from isal import isal_zlib

from engine.sync.ledger.states import BatchState, check
from engine.sync.ledger.store import Store
from engine.sync.model import Batch, Outcome


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch whose fate is not settled. `age` is seconds on the database's clock; `created` naive UTC."""

    id: str
    run: str
    entity: str
    key: str
    state: BatchState
    count: int
    ids: tuple[str, ...]
    payload: bytes | None = field(repr=False)
    age: float
    reason: str | None
    created: Any
    ordered_again: bool
    """A person said that it shall be sent again, whatever its age and the spec's rule."""

    def again(self) -> Batch:
        """The same bytes under the same key."""
        if self.payload is None:
            raise ValueError("a batch without its bytes cannot be sent again")
        return Batch(self.id, self.entity, self.key, self.ids, self.payload, resent=True)


def intend(store: Store, batch: Batch) -> None:
    """Write a batch with its key and its exact bytes, before any of them is sent."""
    _insert(store, batch, BatchState.IN_FLIGHT, None)


def withdraw(store: Store, batch: str) -> None:
    """Delete a batch of this run of which nothing was sent."""
    store.statement("withdraw", batch=batch, run=store.run)


def set_apart(store: Store, outcome: Outcome, state: BatchState, new: Batch) -> None:
    """Give the unknown records of an answered call a row of their own: the API would answer the old key as before."""
    _insert(store, new, state, outcome.reason)


def settle(store: Store, outcome: Outcome, state: BatchState) -> bool:
    """Move a batch from `in_flight` to its next state; False when it is not in flight for this run any more.

    The bytes stay only while they may be needed again.
    """
    values: dict[str, Any] = {
        "run": store.run,
        "attempts": outcome.attempts,
        "status": outcome.status,
        "reason": outcome.reason,
    }
    return _move(store, outcome.batch.id, BatchState.IN_FLIGHT, state, **values)


def decide(
    store: Store,
    batch: str,
    expected: BatchState,
    state: BatchState,
    reason: str,
    *,
    ordered: bool = False,
) -> bool:
    """Move a batch without a call; False when it is not in the expected state any more. `ordered`: a person wants it sent again."""
    values: dict[str, Any] = {"run": None, "attempts": 0, "status": None, "reason": reason}
    return _move(store, batch, expected, state, ordered=ordered, **values)


def resend(store: Store, batch: str) -> bool:
    """Put a batch of an earlier run in flight again; False when somebody else did something with it."""
    return store.statement("resend", batch=batch, run=store.run).rowcount == 1


def state(store: Store, batch: str) -> BatchState | None:
    """Where a batch stands; None when the journal does not have it."""
    found = store.statement("batch_state", batch=batch).column()
    return BatchState(found[0]) if found else None


def open_batches(
    store: Store,
    *,
    entity: str | None = None,
    batch: str | None = None,
    payload: bool = False,
) -> list[OpenBatch]:
    """The batches that are in flight, in doubt or held, the oldest first; with their bytes if asked for."""
    values = {"pipeline": store.pipeline, "entity": entity, "batch": batch, "payload": payload}
    return [
        OpenBatch(
            id_, run, of, key, BatchState(state), int(count), tuple(orjson.loads(ids)), zlib.decompress(body) if body else None,
            float(age), reason, created, bool(ordered),
        )
        for id_, run, of, key, state, count, ids, body, age, reason, created, ordered in store.statement("open_batches", **values).rows
    ]  # fmt: skip


def _insert(store: Store, batch: Batch, state: BatchState, reason: str | None) -> None:
    # The quickest level: the bytes are there for a crash, and every batch pays for them. It is zlib's format (RFC 1950).
    payload = isal_zlib.compress(batch.payload, 1) if batch.payload else None
    store.statement(
        "intend",
        batch=batch.id,
        run=store.run,
        pipeline=store.pipeline,
        entity=batch.entity,
        key=batch.key,
        state=state.value,
        count=len(batch.ids),
        ids=orjson.dumps(batch.ids).decode(),
        payload=payload,
        sha=hashlib.sha256(batch.payload).hexdigest() if batch.payload else None,
        reason=reason,
    )


def _move(
    store: Store,
    batch: str,
    expected: BatchState,
    state: BatchState,
    *,
    ordered: bool = False,
    **values: Any,
) -> bool:
    """One guarded statement. Raises `IllegalTransition`."""
    check(batch, expected, state)
    given = {"batch": batch, "expected": expected.value, "state": state.value, "ordered": 1 if ordered else None}
    moved = store.statement("settle", **given, **values, keep=state.needs_bytes)
    return moved.rowcount == 1
