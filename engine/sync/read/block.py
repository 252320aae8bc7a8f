"""Rows travel in blocks, so that one look serves hundreds of them: petl tables that give their rows a list at a time.

A petl table is anything that gives a header and then rows each time it is iterated; `petl.wrap` adds petl's methods to it. petl itself is
imported only where one of its functions works (`transform`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import SyncLedgerError
from engine.sync.ledger.lookup import Known

ORIGIN = "(origin)"
"""The first column of every table between `exclude` and `chunk`: the canonical ID of the record."""
ROWS = 1000
"""Rows of a block: enough to pay for one check per column, few enough to stay in the processor's cache."""

Row = Sequence[Any]
Header = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows and the canonical ID of each. `known` is what the ledger said of them, and of others."""

    ids: Sequence[str]
    rows: Sequence[Row]
    known: Known = field(default_factory=Known)


class Paged:
    """A petl table whose rows come in pages."""

    def pages(self) -> tuple[Header, Iterator[list[Row]]]:
        """The header, and the pages; each is the caller's until the next is asked for."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Row]:
        header, pages = self.pages()
        yield header
        for page in pages:
            yield from page


class Blocks:
    """A petl table with an origin column whose rows come in blocks."""

    def blocks(self) -> tuple[Header, Iterator[Block]]:
        """The header without the origin, and the blocks."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Row]:
        header, blocks = self.blocks()
        yield (ORIGIN, *header)
        for block in blocks:
            for id_, row in zip(block.ids, block.rows, strict=True):
                yield (id_, *row)


def pages(table: Any, size: int) -> tuple[Header, Iterator[list[Row]]]:
    """The header and the pages of any petl table."""
    if isinstance(table, Paged):
        return table.pages()
    rows = iter(table)
    return tuple(map(str, next(rows))), _lists(rows, size)


def blocks(table: Any) -> tuple[Header, Iterator[Block]]:
    """The header without the origin and the blocks of any petl table whose first column is the origin."""
    if isinstance(table, Blocks):
        return table.blocks()
    rows = iter(table)
    header = tuple(map(str, next(rows)))[1:]
    return header, (Block([row[0] for row in some], [row[1:] for row in some]) for some in _lists(rows, ROWS))


def _lists(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """So many rows at a time. When reading fails, what was read before is given first."""
    some: list[Row] = []
    try:
        for row in rows:
            some.append(row)
            if len(some) == size:
                yield some
                some = []
    except SyncLedgerError:
        if some:
            yield some
        raise
    if some:
        yield some
