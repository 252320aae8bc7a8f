"""Bisection: a refused batch is split in halves until its bad records stand alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine.errors import LedgerError, SyncLedgerError
from engine.sync.model import Batch, Entity, Outcome, Rejection
from engine.sync.payload import records
from engine.sync.send import chunk

HOPELESS = 50
"""Bad records found in one batch without a single good one: then what is wrong is no matter of records."""
_CONFLICT, _TOO_LARGE = 409, 413  # RFC 9110 sections 15.5.10 and 15.5.14
WRONG = (
    "the request looks wrong, not its records: the whole batch, its parts and single records were all refused in the same way; "
    "check `body`, `fields` and `endpoint`"
)

Refusal = tuple[int | None, str | None]
"""Status and words of an answer that refuses."""


@dataclass(slots=True)
class Search:
    """The search in one refused batch of `size` records: calls made, bad records found, records accepted meanwhile.

    One piece at a time is on the wire, the smallest first: so each bad record is found after log2(size) more calls.

    While nothing was accepted and every answer was the same `refusal`, a single record that is refused proves nothing of itself:
    it is a suspect, and so are the larger pieces beside it that are tried next, each as it is. Where all of them meet that answer
    too, the request is wrong; where one does not, the suspects are searched like any other piece.
    """

    size: int
    calls: int = 0
    bad: int = 0
    good: int = 0
    on_the_wire: bool = False
    pieces: deque[Batch] = field(default_factory=deque)
    refusal: Refusal | None = None
    suspects: list[Batch] = field(default_factory=list)

    @property
    def left(self) -> tuple[Batch, ...]:
        """What was not sent, or is not decided."""
        return (*self.pieces, *self.suspects)


@dataclass(frozen=True, slots=True)
class Split:
    """What is to become of a refused batch: the pieces it is taken into (none where it stays whole), and the words for it.

    `suspect` leaves it aside until more is known; `lost` are suspects and pieces that fail together with it.
    """

    remark: str
    pieces: list[Batch] = field(default_factory=list)
    search: Search | None = None
    suspect: Batch | None = None
    lost: tuple[Batch, ...] = ()

    @property
    def goes_on(self) -> bool:
        """True when the fate of the batch's records is still open."""
        return bool(self.pieces) or self.suspect is not None


@dataclass(slots=True)
class Isolation:
    """The pieces of an entity's refused batches that are still to be sent. `size` is the most records the API takes at once."""

    entity: Entity
    size: int = 0
    good: int = 0
    """Records that were accepted in this run: then requests have the right form."""
    wrong: Refusal | None = None
    """How requests of the wrong form are refused."""
    proved: list[tuple[Batch, Rejection]] = field(default_factory=list)
    """Suspects of one record of which it is known by now that they are bad; whoever settles takes them."""
    _cut_up: deque[Batch] = field(default_factory=deque)
    _given_up: list[Batch] = field(default_factory=list)
    _searches: list[Search] = field(default_factory=list)
    _of: dict[str, Search] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size = self.size or self.entity.batch_size

    def first(self, batches: Iterator[Batch], wait: Callable[[], bool]) -> Iterator[Batch]:
        """Pieces before new batches. `wait` settles what is in flight, which may leave more pieces; False when nothing is.

        Where reading fails, the pieces are given before the failure is raised.
        """
        failure: SyncLedgerError | None = None
        while True:
            batch = self._next_piece()
            if batch is None and failure is None:
                try:
                    batch = next(batches, None)
                except LedgerError:
                    raise
                except SyncLedgerError as stopped:
                    failure = stopped
            if batch is not None:
                if not self.cut(batch):
                    yield batch
            elif not wait() and not self._waiting():
                break
        if failure:
            raise failure

    def cut(self, batch: Batch) -> bool:
        """True, and taken apart, when a batch that was not sent yet is larger than the API takes."""
        if len(batch.ids) <= self.size:
            return False
        search = self._of.pop(batch.id, None)
        if search:
            search.on_the_wire = False
        self._put(self._parts(batch, self.size), search)
        return True

    def keep(self, batch: Batch) -> None:
        """A batch that was taken and is not sent after all."""
        self._of.pop(batch.id, None)
        self._cut_up.append(batch)

    def left(self) -> int:
        """Records of pieces that will not be sent any more."""
        pieces = [*self._cut_up, *self._given_up, *(piece for search in self._searches for piece in search.left)]
        self._cut_up.clear()
        self._given_up.clear()
        self._searches.clear()
        return sum(len(piece.ids) for piece in pieces)

    def split(self, outcome: Outcome) -> Split | None:
        """Hear of an outcome. Where its batch was refused as a whole, say how to take it apart, if the calls are not used up."""
        batch, refusal = outcome.batch, _refusal(outcome)
        search = self._of.pop(batch.id, None)
        self.good += len(outcome.accepted)
        if search:
            search.on_the_wire = False
            search.calls += 1
            search.good += len(outcome.accepted)
            if refusal and search.refusal == refusal and not self.good:
                doubted = self._doubt(batch, search)
                if doubted:
                    return doubted
            else:
                search.bad += len(outcome.rejected)
                self._clear(search)
        if outcome.refused is None or batch.resent or len(batch.ids) == 1:
            return None
        if refusal is not None and refusal == self.wrong and not self.good:
            return Split(WRONG)
        return self._apart(outcome, search or Search(len(batch.ids), refusal=refusal))

    def _apart(self, outcome: Outcome, search: Search) -> Split:
        """Take a refused batch apart, into halves or to the size that the API takes."""
        batch = outcome.batch
        if outcome.refused == _TOO_LARGE:
            self.size = max(1, min(self.size, len(batch.ids) // 2))
            remark = f"batches are cut to {self.size} records for the rest of this run"
            return Split(remark, self._parts(batch, self.size), search if search.calls else None)
        if search.calls + len(search.pieces) + 2 > self._allowed(search):
            return Split("the search for its bad records has used up its calls; the rest waits for the next run")
        halves = self._parts(batch, (len(batch.ids) + 1) // 2)
        return Split("split in halves to find the bad records", halves, search)

    def _doubt(self, batch: Batch, search: Search) -> Split | None:
        """What follows from one more refusal like all before; None where the batch is simply to be taken apart."""
        if search.refusal != self.wrong:
            if len(batch.ids) > 1 and not search.suspects:
                return None
            if search.pieces:
                return Split("left aside until a larger part is tried", search=search, suspect=batch)
            self.wrong = search.refusal
        alike = [other for other in self._searches if other is not search and other.refusal == self.wrong]
        lost = tuple(left for one in (search, *alike) for left in one.left)
        for one in (search, *alike):
            one.suspects.clear()
            one.pieces.clear()
        self._searches = [one for one in self._searches if one.left]
        return Split(WRONG, lost=lost)

    def _clear(self, search: Search) -> None:
        """The request has the right form: suspects of one record are bad, the others are searched."""
        suspects, search.suspects = search.suspects, []
        refusal, search.refusal = search.refusal, None
        for suspect in suspects:
            if len(suspect.ids) == 1 and refusal:
                search.bad += 1
                self.proved.append((suspect, Rejection(suspect.ids[0], refusal[1] or "refused", refusal[0])))
            elif search.calls + len(search.pieces) + 2 > self._allowed(search):
                self._given_up.append(suspect)
            else:
                self._put(self._parts(suspect, (len(suspect.ids) + 1) // 2), search)
        if search in self._searches and not search.left:
            self._searches.remove(search)

    def take(self, split: Split) -> None:
        """Send the pieces, or leave the batch aside, now that the ledger has settled it as it was sent."""
        if split.suspect and split.search:
            split.search.suspects.append(split.suspect)
        else:
            self._put(split.pieces, split.search)

    def _allowed(self, search: Search) -> float:
        if self.entity.isolate_calls is not None:
            return self.entity.isolate_calls
        if search.bad >= HOPELESS and not search.good:
            return 0
        return 4 * math.ceil(math.log2(search.size)) * (search.bad + 1)

    def _waiting(self) -> bool:
        return bool(self._cut_up or self._searches)

    def _next_piece(self) -> Batch | None:
        if self._cut_up:
            return self._cut_up.popleft()
        for search in self._searches:
            if search.on_the_wire and search.refusal and not self.good:
                return None  # whether the request is right is found out once
            if not search.on_the_wire and search.pieces:
                piece = search.pieces.popleft()
                if not search.left:
                    self._searches.remove(search)
                search.on_the_wire = True
                self._of[piece.id] = search
                return piece
        return None

    def _put(self, pieces: list[Batch], search: Search | None) -> None:
        if search is None:
            self._cut_up.extend(pieces)
            return
        search.pieces.extendleft(reversed(pieces))
        if search not in self._searches:
            self._searches.append(search)

    def _parts(self, batch: Batch, size: int) -> list[Batch]:
        parts = records(batch.payload)
        return [
            chunk.batch(self.entity, batch.ids[at : at + size], parts[at : at + size])
            for at in range(0, len(parts), size)
        ]


def _refusal(outcome: Outcome) -> Refusal | None:
    """The answer of a batch whose every record was refused; None for any other, and for a conflict: it says nothing of the form."""
    if outcome.status == _CONFLICT:
        return None
    if outcome.refused is not None:
        return outcome.refused, outcome.reason
    if len(outcome.batch.ids) == 1 and outcome.rejected and outcome.rejected[0].status is not None:
        return outcome.rejected[0].status, outcome.rejected[0].reason
    return None
