"""How far an entity's source was read with nothing left behind, so that a later run may read only what changed since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import orjson

from engine.sync.ledger.store import Store

# What databases return for a time, a number or a rowversion: how it is written down, and read again.
_KINDS: dict[str, tuple[type, Callable[[Any], str | int], Callable[[Any], Any]]] = {
    "text": (str, str, str),
    "integer": (int, int, int),
    "float": (float, repr, float),
    "decimal": (Decimal, str, Decimal),
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
}


_NO_SOURCE = ""
"""Of a watermark that serves no source: everything is read."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """The greatest value there was (None where nothing is known), of which source, and the seconds since everything was read.

    `revision` counts how often records of the entity were freed.
    """

    value: Any
    source: str
    age: float
    revision: int = 0


def find(store: Store, entity: str) -> Watermark | None:
    """The watermark of an entity."""
    rows = store.statement("watermark", pipeline=store.pipeline, entity=entity).rows
    for value, source, revision, age in rows:
        return Watermark(_decode(value), source, float(age), int(revision))
    return None


def begin(store: Store, entity: str) -> Watermark:
    """The watermark of an entity, which a run is about to move. Inside a transaction."""
    known = find(store, entity)
    if known is None:
        # So that what a person frees while the run goes on has a row to be counted in.
        known = Watermark(None, _NO_SOURCE, 0.0)
        store.statement("watermark_first", pipeline=store.pipeline, entity=entity, source=known.source)
    return known


def all_of(store: Store) -> dict[str, tuple[str | None, Any]]:
    """By entity: the watermark as text, and when everything was read last (naive UTC)."""
    rows = store.statement("watermarks", pipeline=store.pipeline).rows
    return {entity: (_shown(_decode(value)), checked) for entity, value, checked in rows}


def move(store: Store, entity: str, before: Watermark, value: Any, source: str, *, full: bool) -> None:
    """Keep a watermark; `full` says that everything was read. Inside a transaction.

    Nothing is kept where somebody has freed records since `before` was found: everything is read again.
    """
    store.statement(
        "watermark_move",
        pipeline=store.pipeline,
        entity=entity,
        value=_encode(value),
        source=source,
        expected=before.revision,
        full=full,
    )


def drop(store: Store, entity: str) -> None:
    """Have the next run of every pipeline read everything of an entity: records of it may be due again. Inside a transaction."""
    store.statement("watermark_drop", entity=entity, source=_NO_SOURCE)


def holds(value: Any) -> bool:
    """True for a kind of value that can be a watermark."""
    return any(type(value) is kind for kind, _, _ in _KINDS.values())


def _encode(value: Any) -> str | None:
    if value is None:
        return None
    name, write = next((name, write) for name, (kind, write, _) in _KINDS.items() if type(value) is kind)
    return orjson.dumps([name, write(value)]).decode()


def _decode(text: str | None) -> Any:
    if text is None:
        return None
    name, written = orjson.loads(text)
    return _KINDS[name][2](written)


def _shown(value: Any) -> str | None:
    return value.hex() if isinstance(value, bytes) else None if value is None else str(value)
