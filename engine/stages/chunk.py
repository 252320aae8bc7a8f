"""Cuts records into batches: their IDs, the exact bytes of the call, and the key that names the batch."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson

from engine.errors import LedgerError, SyncLedgerError
from engine.model import Batch, Entity, Rejection
from engine.stages.counts import Counts
from engine.stages.exclude import Reject

_WIDEST = 2**63 - 1


def batches(shaped: Any, entity: Entity, *, reject: Reject, counts: Counts | None = None) -> Iterator[Batch]:
    """Batches of `entity.batch_size` records from a petl table with an origin column.

    A record that JSON cannot hold goes to `reject`. When reading fails, what was read before is given first.
    """
    counts = counts or Counts()
    rows = iter(shaped)
    names = [str(name) for name in next(rows)[1:]]
    ids: list[str] = []
    parts: list[bytes] = []
    failure: SyncLedgerError | None = None
    try:
        for row in rows:
            origin = row[0]
            try:
                part = encode(dict(zip(names, row[1:], strict=True)))
            except (TypeError, ValueError, RecursionError) as refused:
                origin.leave()
                reject(Rejection(origin.id, f"the record cannot be written as JSON: {refused}"))
                continue
            counts.due += 1
            ids.append(origin.id)
            parts.append(part)
            if len(ids) == entity.batch_size:
                yield batch(entity, ids, parts)
                ids, parts = [], []
    except LedgerError:
        # Nothing is sent that could not be tracked.
        counts.failed += len(ids)
        raise
    except SyncLedgerError as stopped:
        failure = stopped
    if ids:
        yield batch(entity, ids, parts)
    if failure:
        raise failure


def batch(entity: Entity, ids: list[str], parts: list[bytes]) -> Batch:
    """One batch: a JSON array of records, wrapped in an object where the entity says so."""
    payload = b"[" + b",".join(parts) + b"]"
    if entity.wrap:
        payload = b"{" + orjson.dumps(entity.wrap) + b":" + payload + b"}"
    return Batch(str(uuid.uuid4()), entity.name, str(uuid.uuid4()), tuple(ids), payload)


def encode(record: dict[str, Any]) -> bytes:
    """A record as JSON. Decimals and integers of any size keep every digit. Raises `TypeError` or `ValueError`."""
    try:
        return orjson.dumps(record, default=_exact)
    except TypeError:
        return orjson.dumps(_widened(record), default=_exact)


def _exact(value: Any) -> orjson.Fragment:
    if isinstance(value, (Decimal, int)):
        return orjson.Fragment(format(value, "f") if isinstance(value, Decimal) else str(value))
    raise TypeError(f"no JSON for {type(value).__name__}")


def _widened(value: Any) -> Any:
    """The value with every integer beyond 64 bits written out: orjson takes none."""
    if isinstance(value, dict):
        return {key: _widened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_widened(inner) for inner in value]
    return _exact(value) if isinstance(value, int) and not -_WIDEST <= value <= _WIDEST else value
