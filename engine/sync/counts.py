"""What the stages tell of the records of one entity: how many there are, which are on their way, which are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from engine.identity import is_guid
from engine.sync.model import Outcome, Rejection

Reject = Callable[[Rejection], None]
"""Hears of a record that the engine itself refuses."""


Left = Literal["waiting", "resting", "excluded"]
"""Why a record is not due."""


@dataclass(slots=True)
class Counts:
    """Records, but for `batches` and `calls`. The stages tell what happens, and only the methods here count.

    `read = excluded + dropped + waiting + due` and `due = accepted + rejected + failed + in_doubt`. Of `rejected`,
    `rejected_before` broke their contract in an earlier run already; of `waiting`, `resting` were rejected before and their time has
    not come. `already_there` are records that were accepted since an earlier sending had stored them, `refused_again` those that were
    rejected when they were sent again.
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

    def leave_out(self, how: Left, records: int = 1) -> None:
        """Records that are not due: delivered before, in an open batch, or refused before and not offered now."""
        self.excluded += records if how == "excluded" else 0
        self.waiting += 0 if how == "excluded" else records
        self.resting += records if how == "resting" else 0

    def drop(self, records: int) -> None:
        """Records that a `select` leaves out."""
        self.dropped += records

    def offer(self, records: int) -> None:
        """Records that are due."""
        self.due += records

    def break_contract(self) -> None:
        """A record that is due and breaks its own contract."""
        self.due += 1
        self.rejected += 1

    def known_before(self, records: int) -> None:
        """Records that broke their contract in an earlier run as well."""
        self.rejected_before += records

    def take_for_delivered(self) -> None:
        """A row was counted as delivered before, and is another record."""
        self.excluded -= 1

    def send(self) -> None:
        """A batch goes out."""
        self.batches += 1

    def call(self) -> None:
        """A call was made."""
        self.calls += 1

    def settle_earlier(self, accepted: int, found: int) -> None:
        """A batch of an earlier run was accepted; `found` of its records were counted as waiting."""
        self.settled += accepted
        self.waiting -= found
        self.excluded += found

    def settle(self, outcome: Outcome) -> None:
        """What became of the records of a batch, but for those that failed."""
        self.accepted += len(outcome.accepted)
        self.rejected += len(outcome.rejected)
        self.in_doubt += len(outcome.in_doubt)

    def refuse(self, records: int = 1) -> None:
        """Records that the API refused one by one."""
        self.rejected += records

    def fail(self, records: int) -> None:
        """Records that were surely not processed."""
        self.failed += records

    def doubt(self, records: int) -> None:
        """Records that may have been processed."""
        self.in_doubt += records

    def keep_unsent(self, records: int) -> None:
        """Records that were due and were not sent: they wait."""
        self.due -= records
        self.waiting += records

    def repeat(self, there: int, again: int) -> None:
        """Of records that were sent twice: those that the API had already, those that it refused again."""
        self.already_there += there
        self.refused_again += again

    def add(self, other: Counts) -> None:
        """The counts of a part."""
        for field_ in fields(self):
            setattr(self, field_.name, getattr(self, field_.name) + getattr(other, field_.name))

    def check(self, entity: str) -> None:
        """Raises `ArithmeticError` where the sums do not hold: a bug that must not pass for a report."""
        ends = self.accepted + self.rejected + self.failed + self.in_doubt
        if self.due != ends or min(asdict(self).values()) < 0:
            raise ArithmeticError(
                f"entity {entity!r}: {self.due} records were due and {ends} are accounted for ({self})"
            )

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

    `met` are those of open batches that were read and counted as waiting. `twins` are the names of rows that were refused since their ID has another row's canonical form; `revive` hears of one that is
    due after all.
    """

    reject: Reject
    counts: Counts = field(default_factory=Counts)
    pending: set[str] = field(default_factory=set)
    spellings: Spellings = field(default_factory=Spellings)
    met: set[str] = field(default_factory=set)
    twins: set[str] = field(default_factory=set)
    revive: Reject = lambda _rejection: None

    def leave_out(self, id_: str, how: Left) -> None:
        """A record that was read and is not due."""
        if how == "waiting":
            self.met.add(id_)
        self.counts.leave_out(how)

    def drop(self, ids: Set[str]) -> None:
        """Records that a `select` leaves out."""
        self.counts.drop(len(ids))
        self.pending.difference_update(ids)

    def refuse(self, rejection: Rejection) -> None:
        """A record that was on its way is refused: another row of its ID may be sent."""
        self.pending.discard(rejection.id)
        self.reject(rejection)

    def refuse_twin(self, rejection: Rejection) -> None:
        """A row that was taken for a delivered one, since their IDs differ only in how they are spelled, is refused instead."""
        if rejection.id not in self.twins and self.counts.excluded:
            self.counts.take_for_delivered()
            self.reject(rejection)
