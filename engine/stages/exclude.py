"""Leaves out every record that the ledger knows as delivered, or as not due yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from petl.util.base import Table

from engine.errors import EntityError
from engine.identity import InvalidID, canonical_key, clip, is_canonical_guid
from engine.ledger.known import Known
from engine.model import Rejection
from engine.stages.counts import Counts
from engine.stages.origin import ORIGIN, Origin

Lookup = Callable[[Sequence[str]], Known]
Reject = Callable[[Rejection], None]


class Due(Table):  # type: ignore[misc]  # petl has no types
    """A petl table of the rows that are due, or may be by their content, each headed by its `Origin`."""

    def __init__(
        self,
        rows: Any,
        key: Sequence[str],
        lookup: Lookup,
        reject: Reject,
        counts: Counts,
        page_size: int,
        limit: int | None,
        pending: set[str],
    ) -> None:
        self._rows, self._key, self._lookup = rows, key, lookup
        self._reject, self._counts, self._page_size, self._limit = reject, counts, page_size, limit
        self._pending = pending

    def __iter__(self) -> Iterator[Sequence[Any]]:
        rows = iter(self._rows)
        header = tuple(next(rows))
        yield (ORIGIN, *header)
        missing = [name for name in self._key if name not in header]
        if missing:
            raise EntityError(f"the ID column {missing[0]!r} is not there; there are: {', '.join(map(str, header))}")
        positions = [header.index(name) for name in self._key]
        while page := list(islice(rows, self._page_size)):
            yield from self._page(page, positions)
            if self._full():
                return
            page.clear()

    def _full(self) -> bool:
        return self._limit is not None and self._counts.due >= self._limit

    def _page(self, page: list[Sequence[Any]], positions: list[int]) -> Iterator[Sequence[Any]]:
        """One page's due rows. Counts move as rows leave, so that a run that stops early still adds up."""
        ids = _identify_all(page, positions)
        known = self._lookup([id_ for id_ in ids if isinstance(id_, str)])
        counts, pending, limit = self._counts, self._pending, self._limit
        plain = not (known.accepted or known.refused)
        seen: set[str] = set()
        for id_, row in zip(ids, page, strict=True):
            if limit is not None and counts.due >= limit:
                return
            counts.read += 1
            if not isinstance(id_, str):
                self._reject(id_)
            elif (how := known.rests(id_)) == "waiting":
                counts.waiting += 1
            elif how == "excluded":
                counts.excluded += 1
            elif id_ in seen or id_ in pending:
                self._reject(
                    Rejection(id_, "the ID stands twice in the source; its first record was taken", spare=True)
                )
            else:
                seen.add(id_)
                pending.add(id_)
                yield (Origin(id_, None, pending) if plain else self._origin(id_, known), *row)

    def _origin(self, id_: str, known: Known) -> Origin:
        return Origin(id_, pending=self._pending, accepted=known.accepted.get(id_), refused=known.refused.get(id_))


def tracked(
    rows: Any,
    key: Sequence[str],
    lookup: Lookup,
    *,
    reject: Reject,
    counts: Counts | None = None,
    page_size: int = 10000,
    limit: int | None = None,
    pending: set[str] | None = None,
) -> Due:
    """The rows of a petl table that `lookup` does not know as delivered or waiting. It is asked once per page.

    Where it knows a content that the API has seen, the row goes on with its hash: `chunk` compares it.
    It stops when `counts.due`, which the stages after it move, has reached `limit`. Rows without a usable ID, and repeated IDs
    of a page or of records that are still `pending`, go to `reject`.
    """
    return Due(rows, key, lookup, reject, counts or Counts(), page_size, limit, set() if pending is None else pending)


def _identify_all(page: list[Sequence[Any]], positions: list[int]) -> list[str | Rejection]:
    if len(positions) == 1:
        at = positions[0]
        return [row[at] if is_canonical_guid(row[at]) else _identify(row, positions) for row in page]
    return [_identify(row, positions) for row in page]


def _identify(row: Sequence[Any], positions: list[int]) -> str | Rejection:
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
