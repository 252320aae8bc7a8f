"""Cuts records into batches: their IDs, the exact bytes of the call, and the key that names the batch."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import orjson

from engine.errors import LedgerError, SyncLedgerError
from engine.model import Batch, Entity, Rejection
from engine.payload import content_hash, joined
from engine.stages.counts import Counts
from engine.stages.exclude import Reject
from engine.stages.origin import Origin

Adopt = Callable[[str, str], None]
"""Hears of a delivered record's ID and the hash of the content it has now."""

_WIDEST = 2**63 - 1


def batches(
    shaped: Any,
    entity: Entity,
    *,
    reject: Reject,
    counts: Counts | None = None,
    adopt: Adopt = lambda _id, _hash: None,
) -> Iterator[Batch]:
    """Batches of `entity.batch_size` records from a petl table with an origin column.

    A record that JSON cannot hold goes to `reject`. One whose content the API has seen is not due; `adopt` hears of those
    that were delivered with a content that nobody knows. When reading fails, what was read before is given first.
    """
    counts = counts or Counts()
    rows = iter(shaped)
    names = [str(name) for name in next(rows)[1:]]
    open_ = _Open(entity)
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
            if (origin.accepted is not None or origin.refused is not None) and _seen(origin, part, counts, adopt):
                continue
            if entity.max_bytes is not None:
                if not open_.could_hold(part):
                    origin.leave()
                    reject(Rejection(origin.id, f"the record has {len(part)} bytes; `max_bytes` is {entity.max_bytes}"))
                    continue
                if open_.is_full_for(part):
                    yield open_.close()
            counts.due += 1
            open_.add(origin.id, part)
            if len(open_.ids) == entity.batch_size:
                yield open_.close()
    except LedgerError:
        # Nothing is sent that could not be tracked.
        counts.failed += len(open_.ids)
        raise
    except SyncLedgerError as stopped:
        failure = stopped
    if open_.ids:
        yield open_.close()
    if failure:
        raise failure


def _seen(origin: Origin, part: bytes, counts: Counts, adopt: Adopt) -> bool:
    """True, and counted, when the API has seen this content of the record and said yes, or no."""
    content = content_hash(part)
    if origin.accepted == "":
        adopt(origin.id, content)
    if origin.accepted in ("", content):
        counts.excluded += 1
    elif origin.refused == content:
        counts.waiting += 1
    else:
        return False
    origin.leave()
    return True


class _Open:
    """A batch that is being filled."""

    def __init__(self, entity: Entity) -> None:
        self._entity = entity
        self._empty = len(joined([], entity.wrap))
        self._most = entity.max_bytes or float("inf")
        self._bytes = self._empty
        self.ids: list[str] = []
        self._parts: list[bytes] = []

    def could_hold(self, part: bytes) -> bool:
        """False for a record whose body would be too large even alone."""
        return self._empty + len(part) <= self._most

    def is_full_for(self, part: bytes) -> bool:
        """True when the body would become too large with one more record."""
        return bool(self.ids) and self._bytes + 1 + len(part) > self._most

    def add(self, id_: str, part: bytes) -> None:
        """One more record."""
        self._bytes += len(part) + bool(self.ids)
        self.ids.append(id_)
        self._parts.append(part)

    def close(self) -> Batch:
        """The batch; what comes next is another one."""
        made = batch(self._entity, self.ids, self._parts)
        self.ids, self._parts, self._bytes = [], [], self._empty
        return made


def batch(entity: Entity, ids: Sequence[str], parts: Sequence[bytes]) -> Batch:
    """One batch: a JSON array of records, wrapped in an object where the entity says so."""
    hashes = tuple(map(content_hash, parts)) if entity.resend == "changed" else ()
    payload = joined(parts, entity.wrap)
    return Batch(str(uuid.uuid4()), entity.name, str(uuid.uuid4()), tuple(ids), payload, hashes=hashes)


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
