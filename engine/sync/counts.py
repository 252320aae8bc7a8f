"""What the stages tell of the records of one entity: how many there are, which are on their way, which are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.identity import is_guid
from engine.sync.model import Rejection

Reject = Callable[[Rejection], None]
"""Hears of a record that the engine itself refuses."""


@dataclass(slots=True)
class Counts:
    """Records, but for `batches` and `calls`.

    `read = excluded + dropped + waiting + due` and `due = accepted + rejected + failed + in_doubt`. Of `rejected`,
    `rejected_before` broke their contract in an earlier run already; of `waiting`, `resting` were refused before and their time has
    not come. `already_there` are records that were accepted since an earlier sending had stored them, `refused_again` those that were
    refused when they were sent again.
    """

    excluded: int = 0
    dropped: int = 0
    waiting: int = 0
    due: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    in_doubt: int = 0
    settled: int = 0
    rejected_before: int = 0
    resting: int = 0
    already_there: int = 0
    refused_again: int = 0
    batches: int = 0
    calls: int = 0

    def rest(self, records: int = 1) -> None:
        """Records that were refused before and are not offered now."""
        self.waiting += records
        self.resting += records

    def leave_out(self, how: Literal["waiting", "resting", "excluded"]) -> None:
        """A record that is not due, whatever its content is."""
        if how == "resting":
            self.rest()
        elif how == "waiting":
            self.waiting += 1
        else:
            self.excluded += 1

    @property
    def read(self) -> int:
        """Records that something was decided on; those of a page that a stopped run did not come to are not among them."""
        return self.excluded + self.dropped + self.waiting + self.due


@dataclass(slots=True)
class Spellings:
    """Which spellings of GUIDs as text a source has shown: the canonical one, another one."""

    canonical: bool = False
    other: bool = False

    def see(self, values: Sequence[Any], ids: Sequence[Any]) -> None:
        """Look at a page's raw values and their canonical forms."""
        if self.mixed:
            return
        if ids is values:
            self.canonical = True
            return
        for value, id_ in zip(values, ids, strict=True):
            if isinstance(value, str) and isinstance(id_, str) and is_guid(id_):
                self.canonical, self.other = self.canonical or value == id_, self.other or value != id_

    @property
    def mixed(self) -> bool:
        """True when a GUID may stand there in two spellings."""
        return self.canonical and self.other


@dataclass(frozen=True, slots=True)
class Flow:
    """One run of an entity's records through the stages. `pending` are the IDs that were read and are not settled.

    `twins` are the names of rows that were refused since their ID has another row's canonical form; `revive` hears of one that is
    due after all.
    """

    reject: Reject
    counts: Counts = field(default_factory=Counts)
    pending: set[str] = field(default_factory=set)
    spellings: Spellings = field(default_factory=Spellings)
    twins: set[str] = field(default_factory=set)
    revive: Reject = lambda _rejection: None

    def refuse(self, rejection: Rejection) -> None:
        """A record that was on its way is refused: another row of its ID may be sent."""
        self.pending.discard(rejection.id)
        self.reject(rejection)

    def refuse_twin(self, rejection: Rejection) -> None:
        """A row that was taken for a delivered one, since their IDs differ only in how they are spelled, is refused instead."""
        if rejection.id not in self.twins and self.counts.excluded:
            self.counts.excluded -= 1
            self.reject(rejection)
