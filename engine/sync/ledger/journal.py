"""Write-ahead journal: a batch is durable, with its exact bytes and its key, before it is sent."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Any

import orjson
from isal import isal_zlib

from engine.db.connection import Connection
from engine.sync.ledger.states import BatchState, check
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


def intend(db: Connection, names: dict[str, str], pipeline: str, run: str, batch: Batch) -> None:
    """Write a batch with its key and its exact bytes, before any of them is sent."""
    _insert(db, names, pipeline, run, batch, BatchState.IN_FLIGHT, None)


def set_apart(
    db: Connection, names: dict[str, str], pipeline: str, run: str, outcome: Outcome, state: BatchState, new: Batch
) -> None:
    """Give the unknown records of an answered call a row of their own: the API would answer the old key as before."""
    _insert(db, names, pipeline, run, new, state, outcome.reason)


def settle(db: Connection, names: dict[str, str], run: str, outcome: Outcome, state: BatchState) -> bool:
    """Move a batch from `in_flight` to its next state; False when it is not in flight for this run any more.

    The bytes stay only while they may be needed again.
    """
    values: dict[str, Any] = {
        "run": run,
        "attempts": outcome.attempts,
        "status": outcome.status,
        "reason": outcome.reason,
    }
    return _move(db, names, outcome.batch.id, BatchState.IN_FLIGHT, state, **values)


def decide(
    db: Connection,
    names: dict[str, str],
    batch: str,
    expected: BatchState,
    state: BatchState,
    reason: str,
    *,
    ordered: bool = False,
) -> bool:
    """Move a batch without a call; False when it is not in the expected state any more. `ordered`: a person wants it sent again."""
    values: dict[str, Any] = {"run": None, "attempts": 0, "status": None, "reason": reason}
    return _move(db, names, batch, expected, state, ordered=ordered, **values)


def resend(db: Connection, names: dict[str, str], batch: str, run: str) -> bool:
    """Put a batch of an earlier run in flight again; False when somebody else did something with it."""
    return db.run("ledger/resend.sql.j2", **names, batch=batch, run=run).rowcount == 1


def state(db: Connection, names: dict[str, str], batch: str) -> BatchState | None:
    """Where a batch stands; None when the journal does not have it."""
    rows = db.run("ledger/batch_state.sql.j2", **names, batch=batch).rows
    return BatchState(rows[0][0]) if rows else None


def open_batches(
    db: Connection,
    names: dict[str, str],
    pipeline: str,
    *,
    entity: str | None = None,
    batch: str | None = None,
    payload: bool = False,
) -> list[OpenBatch]:
    """The batches that are in flight, in doubt or held, the oldest first; with their bytes if asked for."""
    rows = db.run(
        "ledger/open_batches.sql.j2", **names, pipeline=pipeline, entity=entity, batch=batch, payload=payload
    ).rows
    return [
        OpenBatch(
            row[0], row[1], row[2], row[3], BatchState(row[4]), int(row[5]), tuple(orjson.loads(row[6])),
            zlib.decompress(row[7]) if row[7] else None, float(row[8]), row[9], row[10], bool(row[11]),
        )
        for row in rows
    ]  # fmt: skip


def _insert(
    db: Connection, names: dict[str, str], pipeline: str, run: str, batch: Batch, state: BatchState, reason: str | None
) -> None:
    # The quickest level: the bytes are there for a crash, and every batch pays for them. It is zlib's format (RFC 1950).
    payload = isal_zlib.compress(batch.payload, 1) if batch.payload else None
    db.run(
        "ledger/intend.sql.j2",
        **names,
        batch=batch.id,
        run=run,
        pipeline=pipeline,
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
    db: Connection,
    names: dict[str, str],
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
    moved = db.run("ledger/settle.sql.j2", **names, **given, **values, keep=state.needs_bytes)
    return moved.rowcount == 1
