"""Reads an entity's rows page by page, by key: the next page is the rows after the last ID read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError

from engine.context import RunContext
from engine.db.connection import Connection, Rows
from engine.db.statement import Statement
from engine.db.templates import Cut, PageRequest, RunFacts, Since, TrackedIn, line_of
from engine.errors import DatabaseError, EntityError, SourceError
from engine.identity import InvalidID, canonical_key
from engine.sync.model import Entity
from engine.sync.read import reopen
from engine.sync.read.block import Header, Paged, Row
from engine.sync.read.column_names import spelled

Key = tuple[Any, ...]
"""The driver's own values of a row's ID columns."""


@dataclass(frozen=True, slots=True)
class Span:
    """Which rows are read: keys after `after`, up to and with `upto`, and what changed `since`; None is no bound."""

    after: Key | None = None
    upto: Key | None = None
    since: Since | None = None


WHOLE = Span()


class Pages(Paged):
    """A petl table over the pages of an entity: lazy, one page in memory, one pass per iteration."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def pages(self) -> tuple[Header, Iterator[list[Row]]]:
        """The header, as the spec spells it, and the pages in key order."""
        return self._reader.pages()


def pages(connection: Connection, entity: Entity, run: RunContext) -> Pages:
    """The entity's rows, headed by the column names as the spec spells them.

    Iterating raises `SourceError` when the source cannot be read or its columns do not fit.
    """
    return Pages(Reader(connection, entity, run))


def cuts(reader: Reader, parts: int) -> list[Key]:
    """The last keys of all ranges but the last, where the rows are cut into so many ranges of equal size."""
    names, _ = reader.key(reader.columns())
    rows = reader.total()
    step = -(-rows // parts)
    if step == 0:
        return []
    request = replace(reader.request(names, None, 0), cut=Cut(step, rows))
    return [tuple(row) for row in reader.execute(reader.statement(request)).rows]


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """How the IDs of a source stand: rows in all, rows without an ID, rows beyond the first of their ID."""

    rows: int
    without_id: int
    repeated: int


def check_keys(connection: Connection, entity: Entity, run: RunContext) -> KeyCheck | None:
    """Count the IDs in the database; None for SQL that pages itself, which cannot be counted from outside."""
    reader = Reader(connection, entity, run)
    if reader.own_paging:
        return None
    names, _ = reader.key(reader.columns())
    row = reader.execute(reader.statement(replace(reader.request(names, None, 0), count=True))).rows[0]
    return KeyCheck(*(int(value or 0) for value in row))


def columns(connection: Connection, entity: Entity, run: RunContext) -> tuple[str, ...]:
    """The columns of the entity's SQL, as the spec spells them. Raises `SourceError`, also where an ID column is missing."""
    reader = Reader(connection, entity, run)
    reported = reader.columns()
    reader.key(reported)
    return spelled(reader.entity, reported)


@dataclass(slots=True)
class Reader:
    """The pages of one entity. `tracking` leaves out what was delivered, where the source's server can see that."""

    connection: Connection
    entity: Entity
    run: RunContext
    tracking: TrackedIn | None = None
    span: Span = WHOLE

    @property
    def own_paging(self) -> bool:
        """True when the SQL holds its own condition, order and limit."""
        return not self.connection.templates.wrapped(self.entity.template, self.entity.query)

    def pages(self) -> tuple[Header, Iterator[list[Row]]]:
        """The header, and the rows page by page, in key order."""
        # SQL that pages itself names its columns itself; asking it for a page of none may not even parse.
        known = () if self.own_paging else self.columns()
        names = self.key(known)[0] if known else self.entity.id
        first = self.page(names, self.span.after)
        self.expect(known or first.columns, first)
        _, positions = self.key(first.columns)
        return spelled(self.entity, first.columns), self._pages(first, names, positions)

    def _pages(self, first: Rows, names: tuple[str, ...], positions: tuple[int, ...]) -> Iterator[list[Row]]:
        seen: Counter[Key] = Counter()
        rows = first.rows
        full = len(rows) >= self.entity.page_size
        while rows and not self.run.cancelled.is_set():
            last = self.last_key(rows, positions)
            given = unseen(rows, positions, seen)
            yield given
            if not full:
                return
            # Before the next page is there.
            given.clear()
            rows.clear()
            page = self.page(names, last)
            self.expect(first.columns, page)
            rows = page.rows
            full = len(rows) >= self.entity.page_size
            self.drop_known(rows, positions, last)

    def expect(self, columns: tuple[str, ...], page: Rows) -> None:
        """Every page has the columns of the first. Raises `SourceError`: a table that was altered meanwhile mixes values up."""
        if page.columns != columns:
            raise SourceError(
                f"entity {self.entity.name!r}: the columns of its SQL changed while it was read, from "
                f"{', '.join(columns)} to {', '.join(page.columns)}; nothing of this page was sent: run again"
            )

    def drop_known(self, rows: list[Any], positions: tuple[int, ...], last: Key) -> None:
        """Take away rows with the key that the page should come after.

        A database may hold a key more finely than its driver returns it (DATETIME of SQL Server), and so find it again.
        """
        full, known = len(rows) >= self.entity.page_size, 0
        while known < len(rows) and tuple(rows[known][position] for position in positions) == last:
            known += 1
        del rows[:known]
        if known and not rows and full:
            raise SourceError(
                f"entity {self.entity.name!r}: paging does not move on behind the ID {last!r}; the driver returns it less "
                "exactly than the database holds it: convert it to text in the SQL"
            )

    def total(self) -> int:
        """Rows in all, or of the range, delivered or not."""
        names, _ = self.key(self.columns())
        request = replace(self.request(names, self.span.after, 0), total=True, tracking=None)
        return int(self.execute(self.statement(request)).rows[0][0])

    def columns(self) -> tuple[str, ...]:
        """The names the database reports: a page of no rows, or the first row of SQL that pages itself."""
        return self.execute(self.statement(self.request(self.entity.id, None, 1 if self.own_paging else 0))).columns

    def page(self, names: tuple[str, ...], after: Key | None) -> Rows:
        """The next page of rows."""
        return self.read(self.request(names, after, self.entity.page_size))

    def read(self, request: PageRequest) -> Rows:
        """Rows, also where SQLite holds text that is none. Raises `SourceError`."""
        statement = self.statement(request)
        try:
            return self.execute(statement)
        except DatabaseError as failure:
            if not failure.undecodable:
                raise SourceError(f"entity {self.entity.name!r}: the source cannot be read: {failure}") from failure
        # SQLite holds bytes that are not UTF-8: read the page again so that only the records that have them are refused.
        with self.connection.lenient():
            return self.execute(statement)

    def request(self, names: tuple[str, ...], after: Key | None, limit: int) -> PageRequest:
        """A page of rows."""
        last = self.run.last_success
        facts = RunFacts(
            self.run.id, self.run.started.replace(tzinfo=None), last.replace(tzinfo=None) if last else None
        )
        return PageRequest(
            self.entity.name,
            facts,
            limit,
            names,
            after,
            tracking=self.tracking,
            upto=self.span.upto or (),
            since=self.span.since,
        )

    def statement(self, request: PageRequest) -> Statement:
        """The statement of a request. Raises `SourceError` where the entity's template fails."""
        try:
            return self.connection.templates.page(self.entity.template, self.entity.query, request)
        except TemplateError as failure:
            raise SourceError(
                f"entity {self.entity.name!r}: its SQL template fails: {failure}{line_of(failure)}"
            ) from failure

    def execute(self, statement: Statement) -> Rows:
        """Run a statement, again on a new connection where the old one is lost. Raises `SourceError`, but for text that is not UTF-8.

        Keys make that safe: the statement of a page names where it begins, and what it has brought is not given yet.
        """
        try:
            # A statement may take minutes: a run that is cancelled does not wait for it.
            with self.run.on_cancel(self.connection.cancel):
                return reopen.execute(self.connection, statement, self.entity.name, self.run)
        except DatabaseError as failure:
            if failure.undecodable:
                raise
            if self.run.cancelled.is_set():
                raise SourceError(
                    f"entity {self.entity.name!r}: its source was not read to the end: cancelled"
                ) from failure
            raise SourceError(f"entity {self.entity.name!r}: the source cannot be read: {failure}") from failure

    def reported(self, columns: Sequence[str], column: str) -> str:
        """A column that the spec names, as the database reports it. Raises `EntityError` where it is missing."""
        found = next((name for name in columns if name.casefold() == column.casefold()), None)
        if found is None:
            raise EntityError(
                f"entity {self.entity.name!r}: the column {column!r} of `changed_since` is not among the columns of its SQL: {', '.join(columns)}"
            )
        return found

    def key(self, reported: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The ID columns' reported names and positions. Raises `SourceError` where one is missing."""
        folded = {name.casefold(): position for position, name in enumerate(reported)}
        missing = [name for name in self.entity.id if name.casefold() not in folded]
        if missing:
            raise SourceError(
                f"entity {self.entity.name!r}: the ID column {missing[0]!r} is not among the columns of its SQL: {', '.join(reported)}"
            )
        positions = tuple(folded[name.casefold()] for name in self.entity.id)
        return tuple(reported[position] for position in positions), positions

    def last_key(self, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]) -> Key:
        """The key that the next page comes after: the last usable one in the page."""
        for row in reversed(rows):
            values = tuple(row[position] for position in positions)
            if _usable(values):
                return values
        if len(rows) < self.entity.page_size:
            return ()
        raise SourceError(
            f"entity {self.entity.name!r}: a whole page of {len(rows)} rows has no usable ID (NULL, or not Unicode); add `WHERE {self.entity.id[0]} IS NOT NULL` to its SQL"
        )


def ids(reader: Reader) -> Iterator[list[str]]:
    """The canonical IDs of an entity, page by page, without its rows; none of SQL that pages itself. Raises `SourceError`."""
    if reader.own_paging:
        return
    names, positions = reader.key(reader.columns())[0], range(len(reader.entity.id))
    after: Key | None = None
    while True:
        rows = reader.read(replace(reader.request(names, after, reader.entity.page_size), keys=True)).rows
        yield [id_ for row in rows if (id_ := canonical(row, positions)) is not None]
        if len(rows) < reader.entity.page_size:
            return
        after = reader.last_key(rows, tuple(positions))


def canonical(row: Sequence[Any], positions: Sequence[int]) -> str | None:
    """The canonical ID of a row; None where it has none."""
    try:
        return canonical_key([row[position] for position in positions])
    except InvalidID:
        return None


def _usable(key: Key) -> bool:
    """True for a key that a next page can come after: no NULL in it, and text that can be bound."""
    try:
        return None not in key and all(value.isascii() or value.encode() for value in key if isinstance(value, str))
    except UnicodeEncodeError:
        return False


def _all_plain(keys: list[Any]) -> bool:
    """True for keys that are all ASCII text, which is quick to see; they are usable."""
    try:
        return all(map(str.isascii, keys))
    except TypeError:
        return False


def unseen(rows: list[Row], positions: tuple[int, ...], seen: Counter[Key]) -> list[Row]:
    """The rows that the page before did not bring: one with a NULL in a composite key may come after its last whole key."""
    if len(positions) == 1 and not seen and _all_plain([row[positions[0]] for row in rows]):
        return rows
    new: list[Row] = []
    again, after = seen.copy(), Counter[Key]()
    for row in rows:
        key = tuple(row[position] for position in positions)
        if _usable(key):
            after.clear()
        else:
            after[key] += 1
            if again[key]:
                again[key] -= 1
                continue
        new.append(row)
    seen.clear()
    seen.update(after)
    return new
