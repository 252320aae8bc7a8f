"""Cuts records into batches: their IDs, the exact bytes of the call, and the key that names the batch."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

from engine.errors import LedgerError, SyncLedgerError
from engine.sync.counts import Flow
from engine.sync.ledger.lookup import Known
from engine.sync.model import Batch, Entity, Rejection
from engine.sync.payload import content_hash, joined
from engine.sync.read import block

Adopt = Callable[[str, str], None]
"""Hears of a delivered record's ID and the hash of the content it has now."""

_WIDEST = 2**63 - 1


def batches(shaped: Any, entity: Entity, flow: Flow, *, adopt: Adopt = lambda _id, _hash: None) -> Iterator[Batch]:
    """Batches of `entity.batch_size` records from a petl table with an origin column.

    A record that JSON cannot hold is rejected. One whose content the API has seen is not due, and not pending any more;
    `adopt` hears of those that were delivered with a content that nobody knows. When reading fails, what was read before
    is given first.
    """
    encoder, counts = _Encoder(entity, flow, adopt), flow.counts
    open_ = _Open(entity)
    failure: SyncLedgerError | None = None
    try:
        header, blocks = block.blocks(shaped)
        for some in blocks:
            records = [dict(zip(header, row, strict=False)) for row in some.rows]  # rows of records are whole
            at = 0
            while at < len(records):
                end = at + open_.room
                for ids, part in encoder.parts(some.ids[at:end], records[at:end], some.known):
                    if open_.is_full_for(part):
                        yield open_.close()
                    counts.offer(len(ids))
                    open_.add(ids, part)
                if not open_.room:
                    yield open_.close()
                at = end
    except LedgerError:
        # Nothing is sent that could not be tracked.
        counts.fail(len(open_.ids))
        raise
    except SyncLedgerError as stopped:
        failure = stopped
    if open_.ids:
        yield open_.close()
    if failure:
        raise failure


@dataclass(frozen=True, slots=True)
class _Encoder:
    """Records as JSON, and what is decided by their bytes."""

    entity: Entity
    flow: Flow
    adopt: Adopt

    def parts(
        self, ids: Sequence[str], records: Sequence[dict[str, Any]], known: Known
    ) -> Iterator[tuple[Sequence[str], bytes]]:
        """The records that are due, as the inside of a JSON array: all in one piece, or each alone where its bytes count."""
        if self.entity.max_bytes is None and self.entity.resend != "changed" and not known.refused:
            whole = _array(records)
            if whole is not None:
                yield ids, whole
                return
        for id_, record in zip(ids, records, strict=True):
            part = self._alone(id_, record, known)
            if part is not None:
                yield [id_], part

    def _alone(self, id_: str, record: dict[str, Any], known: Known) -> bytes | None:
        """A record's own bytes; None where it does not go on."""
        try:
            part = encode(record)
        except (TypeError, ValueError, RecursionError) as refused:
            self.flow.refuse(Rejection(id_, f"the record cannot be written as JSON: {refused}"))
            return None
        if self._seen(id_, part, known):
            self.flow.pending.discard(id_)
            return None
        if self.entity.max_bytes is not None and len(joined([part], self.entity.wrap)) > self.entity.max_bytes:
            self.flow.refuse(
                Rejection(id_, f"the record has {len(part)} bytes; `max_bytes` is {self.entity.max_bytes}")
            )
            return None
        return part

    def _seen(self, id_: str, part: bytes, known: Known) -> bool:
        """True, and counted, when the API has seen this content of the record and said yes, or no."""
        accepted, refused = known.accepted.get(id_), known.refused.get(id_)
        if accepted is None and refused is None:
            return False
        content = content_hash(part)
        if accepted == "":
            self.adopt(id_, content)
        if accepted in ("", content):
            self.flow.counts.leave_out("excluded")
        elif refused == content:
            self.flow.counts.leave_out("resting")
        else:
            return False
        return True


class _Open:
    """A batch that is being filled."""

    def __init__(self, entity: Entity) -> None:
        self._entity = entity
        self._empty = len(joined([], entity.wrap))
        self._bytes = self._empty
        self.ids: list[str] = []
        self._parts: list[bytes] = []

    @property
    def room(self) -> int:
        """Records that it still takes."""
        return self._entity.batch_size - len(self.ids)

    def is_full_for(self, part: bytes) -> bool:
        """True when the body would become too large with one more part."""
        most = self._entity.max_bytes
        return most is not None and bool(self.ids) and self._bytes + 1 + len(part) > most

    def add(self, ids: Sequence[str], part: bytes) -> None:
        """More records."""
        self._bytes += len(part) + bool(self.ids)
        self.ids.extend(ids)
        self._parts.append(part)

    def close(self) -> Batch:
        """The batch; what comes next is another one."""
        made = batch(self._entity, self.ids, self._parts)
        self.ids, self._parts, self._bytes = [], [], self._empty
        return made


def batch(entity: Entity, ids: Sequence[str], parts: Sequence[bytes]) -> Batch:
    """One batch: a JSON array of records, wrapped in an object where the entity says so.

    A part is one record, or several with commas between them where nobody looks for changes.
    """
    hashes = tuple(map(content_hash, parts)) if entity.resend == "changed" else ()
    payload = joined(parts, entity.wrap)
    return Batch(str(uuid.uuid4()), entity.name, str(uuid.uuid4()), tuple(ids), payload, hashes=hashes)


def encode(record: dict[str, Any]) -> bytes:
    """A record as JSON. Decimals and integers of any size keep every digit. Raises `TypeError` or `ValueError`."""
    try:
        return orjson.dumps(record, default=_exact)
    except TypeError:
        return orjson.dumps(_widened(record), default=_exact)


def _array(records: Sequence[dict[str, Any]]) -> bytes | None:
    """The records as the inside of one JSON array; None where one of them needs a closer look."""
    try:
        return orjson.dumps(records, default=_exact)[1:-1]
    except (TypeError, ValueError, RecursionError):
        return None


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
