"""Decides whether a run reads everything of an entity or only what changed since its watermark, and how far it then was.

A hint: the watermark moves only when nothing of the entity is left behind, an overlap below it is read again, NULLs always
are, and everything is read when the last full check is old, or the SQL, the contract or the place has changed since. Whatever
cannot be reckoned with has everything read.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

from engine.db.statement import Statement
from engine.db.templates import Newest, PageRequest, RunFacts, Since
from engine.errors import EntityError
from engine.sync.ledger import watermarks
from engine.sync.ledger.watermarks import Watermark
from engine.sync.model import ChangedSince, Entity
from engine.sync.read.source import Reader

_LOG = logging.getLogger(__name__)
_AHEAD = timedelta(days=1)
"""Times beyond this from now are no sign of how far a source is ("until 9999-12-31")."""
_DIGITS = 100


class _Unusable(ValueError):
    """A value from which no overlap can be taken."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one run reads of an entity: everything where `since` is None. `newest` is the watermark when it is through.

    `source` tells one source from another; `before` is the watermark as it was found.
    """

    since: Since | None
    newest: Any
    source: str
    before: Watermark | None


def look(
    reader: Reader, tracking_table: str, find: Callable[[str], Watermark | None], *, strict: bool = False
) -> Look | None:
    """What to read now; None where the spec says nothing of it. `find` gives the watermark of an entity.

    Ask before the first page: what is committed meanwhile is for the next run. Raises `EntityError` for a column or an overlap
    that cannot serve (`strict`: also where it is only the greatest value that cannot), `SourceError` where the source
    cannot be read.
    """
    entity, wanted = reader.entity, reader.entity.changed_since
    if wanted is None:
        return None
    if reader.own_paging:
        raise EntityError(
            f"entity {entity.name!r}: `changed_since` cannot be: its SQL pages itself, so that the engine cannot wrap it"
        )
    columns = reader.columns()
    column = reader.reported(columns, wanted.column)
    request = reader.request(reader.key(columns)[0], None, entity.page_size)
    source = _digest(reader, request, column, tracking_table)
    known = find(entity.name)
    since = _since(column, known, source, wanted)
    newest = _newest(reader, request, column, since)
    if newest is None and since:
        # Nothing is as new as what there was: times were corrected, or another backup restored.
        since, newest = None, _newest(reader, request, column, None)
    try:
        if newest is not None and not watermarks.holds(newest):
            raise _Unusable(f"{type(newest).__name__} is no kind of value that can be kept")
        _check(newest, wanted, entity)
    except _Unusable as failure:
        message = (
            f"entity {entity.name!r}: `changed_since` cannot go back from {newest!r}, the greatest value of {wanted.column!r} "
            f"({failure}): everything is read"
        )
        if strict:
            raise EntityError(message) from None
        _LOG.warning("%s", message)
        since, newest = None, None
    return Look(since, newest, source, known)


def _since(column: str, known: Watermark | None, source: str, wanted: ChangedSince) -> Since | None:
    """The condition; None where everything is to be read."""
    if known is None or known.value is None or known.source != source:
        return None
    if not 0 <= known.age < wanted.full_check_every:
        return None
    try:
        return Since(column, _lower(known.value, wanted))
    except _Unusable:
        return None


def _check(newest: Any, wanted: ChangedSince, entity: Entity) -> None:
    """Raises `EntityError` where overlap and column do not go together, `_Unusable` where it is the value's fault."""
    if newest is None:
        return
    if isinstance(newest, (int, float, Decimal, bytes)) != wanted.counted:
        fits = "a duration, such as `overlap: 15m`" if wanted.counted else "a number, such as `overlap: 1000`"
        raise EntityError(
            f"entity {entity.name!r}: the column {wanted.column!r} of `changed_since` holds {newest!r} "
            f"({type(newest).__name__}); its overlap must be {fits}"
        )
    _lower(newest, wanted)


def _newest(reader: Reader, request: PageRequest, column: str, since: Since | None) -> Any:
    """The greatest value, or the greatest that does not lie in the future; None where there is none that can be compared."""
    newest = _greatest(reader, request, Newest(column), since)
    limit = _now(newest, reader.run.now() + _AHEAD)
    if limit is not None and newest > limit:
        newest = _greatest(reader, request, Newest(column, limit), since)
    return None if isinstance(newest, (float, Decimal)) and not math.isfinite(newest) else newest


def _greatest(reader: Reader, request: PageRequest, newest: Newest, since: Since | None) -> Any:
    rows = reader.read(replace(request, limit=1, newest=newest, since=since)).rows
    return rows[0][0] if rows else None


def _now(like: Any, moment: datetime) -> Any:
    """A moment as a column with such values holds it; None for a column that holds no times."""
    match like:
        case datetime():
            return moment if like.tzinfo else moment.replace(tzinfo=None)
        case date():
            return moment.date()
        case str() if _moment(like):
            return _day(like, moment)
    return None


def _digest(reader: Reader, request: PageRequest, column: str, tracking_table: str) -> str:
    """All that decides which records there are, what they hold, and which were delivered."""
    entity, connection = reader.entity, reader.connection
    facts = RunFacts("", datetime.min, request.run.last_success and datetime.min)
    statement = reader.statement(replace(request, run=facts, since=None))
    place = reader.execute(Statement(connection.dialect.place, ())).rows if connection.dialect.place else ""
    parts = [
        connection.description, place, statement.text, statement.parameters, column, entity.id, entity.transform,
        entity.fields, entity.resend, tracking_table,
    ]  # fmt: skip
    return hashlib.sha256("\n".join(map(repr, parts)).encode("utf-8", "backslashreplace")).hexdigest()


def _lower(value: Any, wanted: ChangedSince) -> Any:
    """A value less the overlap. Raises `_Unusable`."""
    try:
        lower = (
            _less(value, int(wanted.overlap)) if wanted.counted else _before(value, timedelta(seconds=wanted.overlap))
        )
    except (ValueError, ArithmeticError) as failure:
        raise _Unusable(str(failure)) from failure
    if lower is None:
        raise _Unusable("it is of another kind than the overlap")
    return lower


def _less(value: Any, number: int) -> Any:
    match value:
        case int():
            lower = value - number
            if not -(2**63) <= lower < 2**63:
                raise OverflowError("beyond 64 bits")
            return lower
        case float():
            return value - number
        case Decimal():
            with localcontext(prec=_DIGITS):
                return value - number
        case bytes():  # a rowversion
            return max(0, int.from_bytes(value, "big") - number).to_bytes(len(value), "big")
    return None


def _before(value: Any, overlap: timedelta) -> Any:
    match value:
        case datetime():
            lower = value - overlap
            # pyodbc leaves the zone out when it binds a time: as text it stays.
            return lower.isoformat(" ") if lower.tzinfo else lower
        case date():
            return (datetime.combine(value, datetime.min.time()) - overlap).date()
        case str():
            moment = _moment(value)
            if moment is None:
                raise ValueError("it is no date in ISO 8601")
            return _day(value, moment - overlap)
    return None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def _day(like: str, moment: datetime) -> str:
    """A day, written as another text is: whatever follows the date, every later text sorts behind it.

    Where texts have zones of their own, the day before: they are sorted by what they say, not by when it is.
    """
    stripped = like.lstrip()
    known = _moment(like)
    if known is not None and known.tzinfo:
        moment -= timedelta(days=1)
    day = f"{moment.date():%Y-%m-%d}" if stripped[4:5] == "-" else f"{moment.date():%Y%m%d}"
    return like[: len(like) - len(stripped)] + day
