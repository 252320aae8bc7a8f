"""Reads less than everything: what the ledger knows as delivered is left out before its rows are read.

`lookup` reads whole pages and asks the ledger for each. `ids_first` reads pages of IDs, asks, and reads rows only for what
is due. `in_database` has the source's own server leave out what stands in the tracking table, where it can see that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.context import RunContext
from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.db.templates import TrackedIn
from engine.errors import EntityError
from engine.identity import InvalidID, canonical_guids, canonical_key
from engine.sync.counts import Flow, Left
from engine.sync.ledger.lookup import Known, Lookup
from engine.sync.model import Entity, Exclusion
from engine.sync.read import source
from engine.sync.read.block import Header, Paged, Row
from engine.sync.read.column_names import spelled
from engine.sync.read.source import WHOLE, Key, Reader, Span

_AT_ONCE = 500
"""Keys in one statement: SQL Server takes 2,100 parameters."""
_WORTH = 4
"""Where more than one row in four is due, the whole page is read."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The rows that may be due, as a petl table, how the others are left out, and who reads."""

    rows: Paged
    how: Exclusion
    reader: Reader


def pages(
    connection: Connection,
    entity: Entity,
    run: RunContext,
    lookup: Lookup,
    visible: str | None,
    flow: Flow,
    span: Span = WHOLE,
) -> Narrowed:
    """The rows of an entity that may be due; those left out are counted. `visible` is the tracking table as the source sees it.

    Raises `EntityError` where the spec asks for a way that is not open.
    """
    reader = Reader(connection, entity, run, span=span)
    how = choose(entity, reader, lookup, visible)
    if how == "in_database":
        assert visible is not None, "chosen only where it is"  # noqa: S101
        reader = replace(reader, tracking=TrackedIn(visible, entity.name, _is_guid(entity)))
        return Narrowed(_Untracked(reader, flow), how, reader)
    if how == "ids_first":
        return Narrowed(_IdsFirst(reader, lookup, flow), how, reader)
    return Narrowed(source.Pages(reader), how, reader)


def statements(narrowed: Narrowed) -> Iterator[tuple[str, Statement]]:
    """The statements that read the source, as a run would have them, each with what it is for. The first page is read.

    Raises `SourceError`.
    """
    reader, keys = narrowed.reader, narrowed.how == "ids_first"
    size = reader.entity.page_size
    names, positions = (reader.entity.id, ()) if reader.own_paging else reader.key(reader.columns())
    first = replace(reader.request(names, reader.span.after, size), keys=keys)
    of = " of IDs" if keys else ""
    yield f"first page{of}", reader.statement(first)
    page = reader.read(first)
    positions = tuple(range(len(names))) if keys else positions or reader.key(page.columns)[1]
    last = reader.last_key(page.rows, positions) if page.rows else ()
    if last:
        yield f"next page{of}", reader.statement(replace(reader.request(names, last, size), keys=keys))
    if last and keys:
        yield "the rows of IDs that are due", reader.statement(replace(reader.request(names, None, 1), find=(last,)))


def choose(entity: Entity, reader: Reader, lookup: Lookup, visible: str | None) -> Exclusion:
    """The way that the spec asks for, or the cheapest that is open. Raises `EntityError`."""
    obstacles = _obstacles(entity, reader, lookup, visible)
    if entity.exclude is not None:
        if entity.exclude in obstacles:
            raise EntityError(
                f"entity {entity.name!r}: `exclude: {entity.exclude}` cannot be: {obstacles[entity.exclude]}"
            )
        return entity.exclude
    if "in_database" not in obstacles:
        return "in_database"
    # With nothing tracked every row is due, and asking for the IDs first would only cost.
    return "ids_first" if lookup.any_tracked and "ids_first" not in obstacles else "lookup"


def _obstacles(entity: Entity, reader: Reader, lookup: Lookup, visible: str | None) -> dict[str, str]:
    """Why a way is not open."""
    if entity.resend == "changed":
        why = "`resend: changed` compares every record's content, so that every row is read"
        return {"in_database": why, "ids_first": why}
    if reader.own_paging:
        why = "its SQL pages itself, so that the engine cannot wrap it"
        return {"in_database": why, "ids_first": why}
    if len(entity.id) > 1:
        return {"in_database": "its ID has several columns, which stand in the tracking table as one text"}
    if lookup.store is None:
        return {"in_database": "there is no tracking table yet"}
    if visible is None:
        return {"in_database": "the source does not see the tracking table; say `ledger.visible_as` if it does"}
    return {}


def _is_guid(entity: Entity) -> bool:
    """True when the ID is sent as a GUID, untouched: only then may its case be ignored."""
    return not entity.transform and any(
        field.name.casefold() == entity.id[0].casefold() and field.type == "guid" for field in entity.fields or ()
    )


class _Untracked(Paged):
    """The rows that the source's server does not see in the tracking table."""

    def __init__(self, reader: Reader, flow: Flow) -> None:
        self._reader, self._flow = reader, flow

    def pages(self) -> tuple[Header, Iterator[list[Row]]]:
        """The header and the pages; when all were given, the others are counted."""
        header, pages = self._reader.pages()
        return header, self._counted(pages)

    def _counted(self, pages: Iterator[list[Row]]) -> Iterator[list[Row]]:
        returned = 0
        for page in pages:
            returned += len(page)
            yield page
        if not self._reader.run.cancelled.is_set():
            left_out = max(0, self._reader.total() - returned)
            self._flow.counts.leave_out("excluded", left_out)
            if left_out:
                self._flow.spellings.canonical = True  # the database compares with what the ledger holds


class _IdsFirst(Paged):
    """Pages of IDs, and the rows of those that may be due."""

    def __init__(self, reader: Reader, lookup: Callable[[Sequence[str]], Known], flow: Flow) -> None:
        self._reader, self._lookup, self._flow = reader, lookup, flow

    def pages(self) -> tuple[Header, Iterator[list[Row]]]:
        """The header, and of each page of IDs the rows that may be due."""
        reported = self._reader.columns()
        names, positions = self._reader.key(reported)
        return spelled(self._reader.entity, reported), self._pages(reported, names, positions)

    def _pages(
        self, reported: tuple[str, ...], names: tuple[str, ...], positions: tuple[int, ...]
    ) -> Iterator[list[Row]]:
        reader, size = self._reader, self._reader.entity.page_size
        seen: Counter[Key] = Counter()
        after = reader.span.after
        while not reader.run.cancelled.is_set():
            keys = [tuple(row) for row in reader.read(replace(reader.request(names, after, size), keys=True)).rows]
            if not keys:
                return
            rows = self._rows(keys, reported, names, positions) if after is None or keys[0] != after else None
            if rows is None:
                page = reader.page(names, after)
                reader.expect(reported, page)
                full = len(page.rows) >= size
                last = reader.last_key(page.rows, positions) if page.rows else ()
                if after is not None:
                    reader.drop_known(page.rows, positions, after)
                yield source.unseen(page.rows, positions, seen)
            else:
                full, last = len(keys) >= size, keys[-1]
                yield rows
            if not full:
                return
            after = last

    def _rows(
        self, keys: list[Key], reported: tuple[str, ...], names: tuple[str, ...], positions: tuple[int, ...]
    ) -> list[Any] | None:
        """The rows of the keys that may be due; None where the whole page is to be read instead."""
        try:
            first = [key[0] for key in keys]
            guids = canonical_guids(first) if len(positions) == 1 else None
            ids = guids or [canonical_key(key) for key in keys]
        except InvalidID:
            return None
        if len(positions) == 1:
            self._flow.spellings.see(first, ids)
        known = self._lookup(ids)
        if known.twins or len(set(ids)) < len(ids):
            return None
        if known.only_tracked(ids):
            tracked = known.tracked
            new = [(id_, key) for id_, key in zip(ids, keys, strict=True) if id_ not in tracked]
            left: dict[str, Left] = {}
        else:
            left = {id_: how for id_ in ids if (how := known.rests(id_))}
            new = [(id_, key) for id_, key in zip(ids, keys, strict=True) if id_ not in left]
        wanted = dict(new)
        if len(wanted) * _WORTH > len(keys):
            return None
        found = [
            row for part in _parts(list(wanted.items())) for row in self._find(dict(part), reported, names, positions)
        ]
        if len(found) < len(wanted):
            return None  # the driver gives a key in a form that the database does not find again
        for id_, how in left.items():
            self._flow.leave_out(id_, how)
        self._flow.counts.leave_out("excluded", len(ids) - len(new) - len(left))
        return found

    def _find(
        self, wanted: dict[str, Key], reported: tuple[str, ...], names: tuple[str, ...], positions: tuple[int, ...]
    ) -> Iterator[Any]:
        reader = self._reader
        request = replace(reader.request(names, None, len(wanted)), find=tuple(wanted.values()))
        found = reader.read(request)
        reader.expect(reported, found)
        for row in found.rows:
            # A database that ignores case finds more than it was asked for.
            if source.canonical(row, positions) in wanted:
                yield row


def _parts(items: list[Any]) -> Iterator[list[Any]]:
    for at in range(0, len(items), _AT_ONCE):
        yield items[at : at + _AT_ONCE]
