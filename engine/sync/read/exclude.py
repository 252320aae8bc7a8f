"""Leaves out every record that the ledger knows as delivered, or as not due yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from engine.errors import EntityError
from engine.identity import InvalidID, canonical_guids, canonical_key, clip
from engine.sync.counts import Flow
from engine.sync.ledger.lookup import Known
from engine.sync.model import Rejection
from engine.sync.read import block, duplicates
from engine.sync.read.block import Block, Blocks, Header, Row
from engine.sync.read.source import Key

Lookup = Callable[[Sequence[str]], Known]


class Due(Blocks):
    """A petl table of the rows that are due, or may be by their content, with the canonical ID of each as its origin."""

    def __init__(
        self, rows: Any, key: Sequence[str], lookup: Lookup, flow: Flow, page_size: int, limit: int | None
    ) -> None:
        self._rows, self._key, self._lookup, self._flow = rows, key, lookup, flow
        self._page_size, self._limit = page_size, limit
        self._last: dict[str, Key] = {}
        """The last ID of the page before: its twin may begin the next one."""

    def blocks(self) -> tuple[Header, Iterator[Block]]:
        """The rows that are due, a block at a time."""
        header, pages = block.pages(self._rows, self._page_size)
        missing = [name for name in self._key if name not in header]
        if missing:
            raise EntityError(f"the ID column {missing[0]!r} is not there; there are: {', '.join(header)}")
        return header, self._blocks(pages, [header.index(name) for name in self._key])

    def _blocks(self, pages: Iterator[list[Row]], positions: list[int]) -> Iterator[Block]:
        for page in pages:
            if page:
                last = tuple(page[-1][at] for at in positions)
                ids = self._identify_all(page, positions)
                known = self._lookup([id_ for id_ in ids if isinstance(id_, str)])
                yield from self._at_a_look(ids, page, known) or self._row_by_row(ids, page, known, positions)
                self._last = {ids[-1]: last} if isinstance(ids[-1], str) else {}
            if not self._room():
                return

    def _room(self) -> int:
        """Records that may still become due, a block at most."""
        return block.ROWS if self._limit is None else max(0, min(block.ROWS, self._limit - self._flow.counts.due))

    def _at_a_look(self, ids: Sequence[Any], page: list[Row], known: Known) -> Iterator[Block] | None:
        """The due rows of a page in which each is either tracked or due, which is the rule; None for another page."""
        if self._limit is not None or not known.only_tracked(ids) or not all(isinstance(id_, str) for id_ in ids):
            return None
        if len(set(ids)) < len(ids) or self._last.keys() & {ids[0]}:
            return None
        tracked = known.tracked
        new = [at for at, id_ in enumerate(ids) if id_ not in tracked] if tracked else range(len(ids))
        due = [ids[at] for at in new]
        if not self._flow.pending.isdisjoint(due):
            return None
        self._flow.counts.leave_out("excluded", len(ids) - len(due))
        self._flow.pending.update(due)
        return (
            Block(due[at : at + block.ROWS], [page[row] for row in new[at : at + block.ROWS]], known)
            for at in range(0, len(due), block.ROWS)
        )

    def _row_by_row(
        self, ids: Sequence[str | Rejection], page: list[Row], known: Known, positions: list[int]
    ) -> Iterator[Block]:
        """The due rows of any page: each row goes where it belongs, in order, until the limit is reached."""
        pending, reject = self._flow.pending, self._flow.reject
        met = dict(self._last)
        rows = iter(zip(ids, page, strict=True))
        while room := self._room():
            due: dict[str, Row] = {}
            spare: list[Rejection] = []
            for id_, row in rows:
                if not isinstance(id_, str):
                    reject(id_)
                elif twin := self._twin(id_, tuple(row[at] for at in positions), known, met):
                    spare.append(twin)
                elif how := known.rests(id_):
                    self._flow.leave_out(id_, how)
                    continue
                elif id_ in known.clashing:
                    reject(Rejection(id_, known.clashing[id_]))
                else:
                    due[id_] = row
                    pending.add(id_)
                room -= 1
                if not room:
                    break
            if due:
                yield Block(list(due), list(due.values()), known)
            # What becomes of the first record is said before what becomes of its double.
            for one in spare:
                self._flow.twins.add(one.id)
                reject(one)
            if room:
                return

    def _twin(self, id_: str, key: Key, known: Known, met: dict[str, Key]) -> Rejection | None:
        """The refusal of a row whose canonical ID another row has; None for the first of an ID."""
        if id_ in met:
            return duplicates.rejection(id_, key, met[id_])
        if id_ in self._flow.pending:
            return duplicates.rejection(id_, key)
        if known.twins and duplicates.name(key) in known.twins:
            refused = duplicates.rejection(id_, key, ())
            if id_ in known.tracked:
                return refused
            self._flow.revive(refused)
        met[id_] = key
        return None

    def _identify_all(self, page: list[Row], positions: list[int]) -> Sequence[str | Rejection]:
        if len(positions) > 1:
            return [_identify(row, positions) for row in page]
        values = [row[positions[0]] for row in page]
        ids: Sequence[str | Rejection] = canonical_guids(values) or [_identify(row, positions) for row in page]
        self._flow.spellings.see(values, ids)
        return ids


def tracked(
    rows: Any,
    key: Sequence[str],
    lookup: Lookup,
    flow: Flow,
    *,
    page_size: int = 10000,
    limit: int | None = None,
) -> Due:
    """The rows of a petl table that `lookup` does not know as delivered or waiting. It is asked once per page.

    Where it knows a content that the API has seen, the row goes on with its hash: `chunk` compares it.
    It stops when the due records that the stages after it count have reached `limit`. Rows without a usable ID, and repeated
    IDs of a page or of records that are still pending, are rejected.
    """
    return Due(rows, key, lookup, flow, page_size, limit)


def _identify(row: Row, positions: list[int]) -> str | Rejection:
    try:
        return canonical_key([row[position] for position in positions])
    except InvalidID as failure:
        return Rejection(_nameable([row[position] for position in positions]), str(failure))


def _nameable(values: list[Any]) -> str:
    """As much of an ID that cannot be one as the reject table holds, so that its row can be found."""
    if None in values:
        return ""
    text = str(values[0]) if len(values) == 1 else str(values)
    return clip(text)
