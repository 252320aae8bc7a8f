"""Decides whether a run reads everything of an entity or only what changed since its watermark, and how far it then was.

A hint: the watermark moves only when nothing of the entity is left behind, an overlap below it is read again, NULLs always
are, and everything is read when the last full check is old, or the SQL has changed since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from engine.db.sql import Since
from engine.errors import EntityError
from engine.ledger import watermarks
from engine.ledger.watermarks import Watermark
from engine.model import ChangedSince, Entity
from engine.stages.source import Reader


@dataclass(frozen=True, slots=True)
class Look:
    """What one run reads of an entity: everything where `since` is None. `newest` is the watermark when it is through.

    `source` tells one SQL from another.
    """

    since: Since | None
    newest: Any
    source: str


def look(reader: Reader, find: Callable[[str], Watermark | None]) -> Look | None:
    """What to read now; None where the spec says nothing of it. `find` gives the watermark of an entity.

    Ask before the first page: what is committed meanwhile is for the next run. Raises `EntityError` for a column that
    cannot serve, `SourceError` where the source cannot be read.
    """
    entity, wanted = reader.entity, reader.entity.changed_since
    if wanted is None:
        return None
    if reader.own_paging:
        raise EntityError(
            f"entity {entity.name!r}: `changed_since` cannot be: its SQL pages itself, so that the engine cannot wrap it"
        )
    column = reader.reported(wanted.column)
    source = _digest(reader, column)
    known, since = find(entity.name), None
    if known and known.value is not None and known.source == source and known.age < wanted.full_check_every:
        since = Since(column, _less(known.value, wanted, entity))
    newest = _newest(reader, column, since)
    if newest is None and since and known:
        newest = known.value
    if newest is not None:
        _less(newest, wanted, entity)
    return Look(since, newest, source)


def _newest(reader: Reader, column: str, since: Since | None) -> Any:
    names, _ = reader.key(reader.columns())
    request = replace(reader.request(names, None, 1), newest=column, since=since)
    rows = reader.read(request).rows
    return rows[0][0] if rows else None


def _digest(reader: Reader, column: str) -> str:
    """All that decides which records there are."""
    entity = reader.entity
    names, _ = reader.key(reader.columns())
    statement = reader.statement(reader.request(names, None, entity.page_size)).text
    parts = [reader.connection.description, statement, column, *entity.id, *map(repr, entity.transform)]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()


def _less(value: Any, wanted: ChangedSince, entity: Entity) -> Any:
    """A watermark less the overlap. Raises `EntityError` where the two do not go together."""
    try:
        lower = _lower(value, wanted)
    except (ValueError, OverflowError) as failure:
        raise EntityError(
            f"entity {entity.name!r}: `changed_since` cannot go back from {value!r} of the column {wanted.column!r}: {failure}"
        ) from failure
    if lower is None or not watermarks.holds(value):
        fits = "a number, such as `overlap: 1000`" if not wanted.counted else "a duration, such as `overlap: 15m`"
        raise EntityError(
            f"entity {entity.name!r}: the column {wanted.column!r} of `changed_since` holds {value!r} "
            f"({type(value).__name__}); its overlap must be {fits}"
        )
    return lower


def _lower(value: Any, wanted: ChangedSince) -> Any:
    """None where the overlap is of another kind than the value."""
    if wanted.counted:
        number = int(wanted.overlap)
        match value:
            case bool():
                return None
            case int() | float() | Decimal():
                return value - number
            case bytes():  # a rowversion
                return max(0, int.from_bytes(value, "big") - number).to_bytes(len(value), "big")
        return None
    before = timedelta(seconds=wanted.overlap)
    match value:
        case datetime():
            return value - before
        case date():
            return (datetime.combine(value, datetime.min.time()) - before).date()
        case str():
            return _earlier(value, before)
    return None


def _earlier(text: str, before: timedelta) -> str:
    """ISO 8601 text as SQLite holds it, in its own shape to the second: what is shorter sorts before what is longer."""
    moment = datetime.fromisoformat(text.strip())
    if len(text) <= 10:
        return (moment - before).date().isoformat()
    return (moment - before).replace(tzinfo=None).isoformat(text[10], "seconds")
