"""How far an entity's source was read with nothing left behind, so that a later run may read only what changed since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import orjson

from engine.ledger.store import Store

# What databases return for a time, a number or a rowversion: how it is written down, and read again.
_KINDS: dict[str, tuple[type, Callable[[Any], str | int | float], Callable[[Any], Any]]] = {
    "text": (str, str, str),
    "integer": (int, int, int),
    "float": (float, float, float),
    "decimal": (Decimal, str, Decimal),
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
}


@dataclass(frozen=True, slots=True)
class Watermark:
    """The greatest value there was (None where the source had none), of which source, and the seconds since everything was read."""

    value: Any
    source: str
    age: float


def find(store: Store, entity: str) -> Watermark | None:
    """The watermark of an entity."""
    rows = store.statement("watermark", pipeline=store.pipeline, entity=entity).rows
    return Watermark(_decode(rows[0][0]), rows[0][1], float(rows[0][2])) if rows else None


def all_of(store: Store) -> dict[str, tuple[Any, Any]]:
    """By entity: the watermark, and when everything was read last (naive UTC)."""
    rows = store.statement("watermarks", pipeline=store.pipeline).rows
    return {row[0]: (_decode(row[1]), row[2]) for row in rows}


def move(store: Store, entity: str, value: Any, source: str, *, full: bool) -> None:
    """Keep a watermark; `full` says that everything was read. Inside a transaction."""
    values = {"pipeline": store.pipeline, "entity": entity, "value": _encode(value), "source": source}
    if store.statement("watermark_move", **values, full=full).rowcount < 1:
        store.statement("watermark_first", **values)


def drop(store: Store, entity: str) -> None:
    """Have the next run of every pipeline read everything of an entity: records of it may be due again."""
    store.statement("watermark_drop", entity=entity)


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
