"""Leaves out every record that the ledger knows as delivered, or as not due yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from engine.errors import EntityError
from engine.identity import InvalidID, canonical_guids, canonical_key, clip
from engine.ledger.known import Known
from engine.model import Rejection
from engine.stages import block
from engine.stages.block import Block, Blocks, Header, Row
from engine.stages.flow import Flow

Lookup = Callable[[Sequence[str]], Known]


class Due(Blocks):
    """A petl table of the rows that are due, or may be by their content, with the canonical ID of each as its origin."""

    def __init__(
        self, rows: Any, key: Sequence[str], lookup: Lookup, flow: Flow, page_size: int, limit: int | None
    ) -> None:
        self._rows, self._key, self._lookup, self._flow = rows, key, lookup, flow
        self._page_size, self._limit = page_size, limit

    def blocks(self) -> tuple[Header, Iterator[Block]]:
        """The rows that are due, a block at a time."""
        header, pages = block.pages(self._rows, self._page_size)
        missing = [name for name in self._key if name not in header]
        if missing:
            raise EntityError(f"the ID column {missing[0]!r} is not there; there are: {', '.join(header)}")
        return header, self._blocks(pages, [header.index(name) for name in self._key])

    def _blocks(self, pages: Iterator[list[Row]], positions: list[int]) -> Iterator[Block]:
        for page in pages:
            due = self._page(page, positions)
            at = 0
            while at < len(due.ids):
                size = min(block.ROWS, self._room())
                if not size:
                    return
                yield Block(due.ids[at : at + size], due.rows[at : at + size], due.known)
                at += size
            if not self._room():
                return

    def _room(self) -> int:
        """Records that may still become due."""
        return block.ROWS if self._limit is None else max(0, self._limit - self._flow.counts.due)

    def _page(self, page: list[Row], positions: list[int]) -> Block:
        """The rows of one page that are due."""
        ids = _identify_all(page, positions)
        named = [id_ for id_ in ids if isinstance(id_, str)]
        known = self._lookup(named)
        if len(named) == len(ids) and known.only_tracked(named):
            new = (
                [at for at, id_ in enumerate(named) if id_ not in known.tracked] if known.tracked else range(len(named))
            )
            due = [named[at] for at in new]
            distinct = set(due)
            if len(distinct) == len(due) and self._flow.pending.isdisjoint(distinct):
                self._flow.counts.excluded += len(named) - len(due)
                self._flow.pending.update(distinct)
                return Block(due, [page[at] for at in new], known)
        return self._sort(ids, page, known)

    def _sort(self, ids: Sequence[str | Rejection], page: list[Row], known: Known) -> Block:
        """The same for a page in which not all are due: each goes where it belongs."""
        counts, pending, reject = self._flow.counts, self._flow.pending, self._flow.reject
        due: dict[str, Row] = {}
        for id_, row in zip(ids, page, strict=True):
            if not isinstance(id_, str):
                reject(id_)
            elif (how := known.rests(id_)) == "waiting":
                counts.waiting += 1
            elif how == "excluded":
                counts.excluded += 1
            elif id_ in due or id_ in pending:
                reject(Rejection(id_, "the ID stands twice in the source; its first record was taken", spare=True))
            else:
                due[id_] = row
        pending.update(due)
        return Block(list(due), list(due.values()), known)


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


def _identify_all(page: list[Row], positions: list[int]) -> Sequence[str | Rejection]:
    if len(positions) == 1:
        at = positions[0]
        guids = canonical_guids([row[at] for row in page])
        if guids is not None:
            return guids
    return [_identify(row, positions) for row in page]


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
