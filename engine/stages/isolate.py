"""Finds the bad records of a refused batch: it is split in halves until they stand alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine.model import Batch, Entity, Outcome
from engine.payload import records
from engine.stages import chunk

HOPELESS = 50
"""Bad records found in one batch without a single good one: then what is wrong is no matter of records."""
_TOO_LARGE = 413  # RFC 9110 section 15.5.14


@dataclass(slots=True)
class Search:
    """The search in one refused batch of `size` records: calls made, bad records found, records accepted meanwhile."""

    size: int
    calls: int = 0
    bad: int = 0
    good: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """What became of a refused batch: taken apart or not, and the words for it."""

    apart: bool
    remark: str


@dataclass(slots=True)
class Isolation:
    """The pieces of an entity's refused batches that are still to be sent. `size` is the largest batch the API has not called too large."""

    entity: Entity
    size: int = 0
    _pieces: deque[Batch] = field(default_factory=deque)
    _searches: dict[str, Search] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size = self.size or self.entity.batch_size

    def first(self, batches: Iterator[Batch], wait: Callable[[], bool]) -> Iterator[Batch]:
        """Pieces before new batches. `wait` handles what is on the wire, which may leave more pieces; False when nothing is."""
        while True:
            if self._pieces:
                yield self._pieces.popleft()
                continue
            batch = next(batches, None)
            if batch is not None:
                if len(batch.ids) > self.size:
                    self._pieces.extend(self._cut(batch, self.size))
                else:
                    yield batch
            elif not wait() and not self._pieces:
                return

    def left(self) -> int:
        """Records of pieces that will not be sent any more."""
        count = sum(len(piece.ids) for piece in self._pieces)
        self._pieces.clear()
        return count

    def split(self, outcome: Outcome) -> Split | None:
        """Hear of an outcome. Where its batch was refused as a whole, take it apart if the calls for that are not used up."""
        batch = outcome.batch
        search = self._searches.pop(batch.id, None)
        if search:
            search.good += len(outcome.accepted)
            search.bad += len(outcome.rejected)
        if outcome.refused is None or batch.resent or len(batch.ids) == 1:
            return None
        if outcome.refused == _TOO_LARGE:
            self.size = max(1, min(self.size, len(batch.ids) // 2))
            self._apart(batch, search, self.size)
            return Split(True, f"batches are cut to {self.size} records for the rest of this run")
        search = search or Search(len(batch.ids))
        if search.calls + 2 > self._allowed(search):
            return Split(False, "the search for its bad records has used up its calls; the rest waits for the next run")
        search.calls += 2
        self._apart(batch, search, (len(batch.ids) + 1) // 2)
        return Split(True, "split in halves to find the bad records")

    def _allowed(self, search: Search) -> float:
        if self.entity.isolate_calls is not None:
            return self.entity.isolate_calls
        if search.bad >= HOPELESS and not search.good:
            return 0
        return 4 * math.ceil(math.log2(search.size)) * (search.bad + 1)

    def _apart(self, batch: Batch, search: Search | None, size: int) -> None:
        pieces = self._cut(batch, size)
        if search:
            self._searches.update({piece.id: search for piece in pieces})
        # The newest pieces go first: so the search goes deep, and stands at a single record soon.
        self._pieces.extendleft(reversed(pieces))

    def _cut(self, batch: Batch, size: int) -> list[Batch]:
        parts = records(batch.payload)
        return [
            chunk.batch(self.entity, batch.ids[at : at + size], parts[at : at + size])
            for at in range(0, len(parts), size)
        ]
