"""What becomes of each batch of one entity: into the ledger, into the counts, and what follows from it for the next ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from engine.context import RunContext
from engine.db.connection import Connection
from engine.errors import LedgerError
from engine.http.session import Caller
from engine.http.settings import Api
from engine.observe.observer import Observer
from engine.sync.counts import Counts
from engine.sync.ledger.ledger import Ledger
from engine.sync.ledger.parks import Park
from engine.sync.model import Attempt, Batch, Entity, Outcome, Pause, Rejection
from engine.sync.send.isolation import Isolation
from engine.sync.send.pace import Pace

_AT_ONCE = 500
_SAMPLES = 3
_REPEATED = " (refused when sent again; the first sending may have stored it)"


@dataclass(slots=True)
class EntityReport:
    """What became of one entity in one run.

    `gravity` sorts its error: None, `parked` (its endpoint is left alone) or `entity` (exit 1), or `database` (exit 4).
    """

    name: str
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    error: str | None = None
    gravity: str | None = None
    rows: int | None = None
    """Rows of its source, where they were counted."""
    since: str | None = None
    """From where on it was read, where only what changed was."""
    pending: set[str] = field(default_factory=set, repr=False)
    """IDs that were read and are not settled: a second record of one is refused."""
    met: set[str] = field(default_factory=set, repr=False)
    """Records of open batches that were met in the source and counted as waiting."""
    samples: list[Rejection] = field(default_factory=list, repr=False)
    """The first rejections, for people."""

    def note(self, remark: str | None) -> None:
        """Add what a batch ended with; the first few that differ are kept."""
        if remark and remark not in (self.error or "") and self._notes < _SAMPLES:
            self._notes += 1
            self.error = f"{self.error}; {remark}" if self.error else remark

    @property
    def complete(self) -> bool:
        """True when nothing that was read is left for a later run."""
        counts = self.counts
        return self.error is None and not (counts.rejected or counts.failed or counts.in_doubt or counts.waiting)

    _notes: int = field(default=0, repr=False)


@dataclass(slots=True)
class Endpoint:
    """One URL during a run: left for the rest of it, or even parked beyond; `failures` counts failed batches in a row."""

    url: str
    closed: threading.Event = field(default_factory=threading.Event)
    failures: int = 0
    park: Park | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run works with; built in `engine.runtime.runner`, closed there."""

    run: RunContext
    ledger: Ledger
    caller: Caller
    api: Api
    connect: Callable[[str], Connection]
    pool: ThreadPoolExecutor
    observer: Observer
    mask: Callable[[str], str]
    may_send: Callable[[], bool]
    pace: Pace
    visible: Callable[[Entity], str | None] = field(default=lambda _entity: None)
    """The tracking table as an entity's source names it; None where it does not see it."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def endpoint(self, entity: Entity) -> Endpoint:
        """The endpoint of an entity, as this run knows it."""
        url = self.caller.url(entity.endpoint)
        return self.endpoints.setdefault(url, Endpoint(url))


@dataclass(slots=True)
class Settlement:
    """Settles the batches of one entity, one after the other, in the thread that reads."""

    tools: Tools
    report: EntityReport
    endpoint: Endpoint
    isolation: Isolation

    def hear(self, made: Attempt | Pause) -> None:
        """One API call, or a wait before the next."""
        if isinstance(made, Pause):
            self.tools.observer.waiting(self.report.name, made)
            return
        self.tools.ledger.attempt(made)
        self.report.counts.calls += 1

    def left_open(self, outcome: Outcome) -> None:
        """A batch of an earlier run, or of a dead worker; its records are not of this run's due.

        Who took over from a dead worker may have met them, and found them waiting.
        """
        outcome = self._sent_again(outcome)
        self.tools.ledger.settle(outcome, hold=self._hold)
        counts, met = self.report.counts, self.report.met.intersection(outcome.accepted)
        counts.settled += len(outcome.accepted)
        counts.waiting -= len(met)
        counts.excluded += len(met)
        self.report.met -= met
        self.report.note(outcome.reason)
        self._obey(outcome)
        self._watch(outcome)

    def settle(self, outcome: Outcome) -> None:
        """A batch of this run. One that was refused for some of its records is taken apart, and is not over yet."""
        counts, split = self.report.counts, self.isolation.split(outcome)
        outcome = _undecided(outcome, split.remark) if split else self._sent_again(outcome)
        try:
            self.tools.ledger.settle(outcome, hold=self._hold)
        except LedgerError:
            counts.in_doubt += len(outcome.batch.ids)
            raise
        self._refuse_proved()
        if split and split.goes_on:
            self.isolation.take(split)
            return
        try:
            self._obey(outcome)
        finally:
            self._count(outcome, lost=sum(len(left.ids) for left in split.lost) if split else 0)
        self._watch(outcome)
        if self.endpoint.park is None and outcome.closes_endpoint:
            self.report.error = f"{outcome.reason}; the endpoint is left for this run"
        elif outcome.attempts or not self.endpoint.closed.is_set():
            self.report.note(outcome.reason)
        self.tools.observer.progress(self.report.name, counts)

    def _refuse_proved(self) -> None:
        """Single records whose refusal was put off until it was known that the request itself is right."""
        while self.isolation.proved:
            batch, rejection = self.isolation.proved.pop(0)
            try:
                self.tools.ledger.refuse(batch, rejection)
            except LedgerError:
                self.report.counts.failed += 1
                raise
            self.report.counts.rejected += 1
            self.report.samples += [rejection][: _SAMPLES - len(self.report.samples)]

    def _sent_again(self, outcome: Outcome) -> Outcome:
        """Refusals of records that an earlier sending may have stored: one that says so is none, another may come from that."""
        if not outcome.rejected:
            return outcome
        ids = [rejection.id for rejection in outcome.rejected]
        repeated = set(ids) if outcome.repeated else self.tools.ledger.repeated(self.report.name, ids)
        there = [rejection.id for rejection in outcome.rejected if rejection.duplicate and rejection.id in repeated]
        rejected = [
            replace(rejection, reason=rejection.reason + _REPEATED) if rejection.id in repeated else rejection
            for rejection in outcome.rejected
            if rejection.id not in there
        ]
        self.report.counts.already_there += len(there)
        self.report.counts.refused_again += sum(rejection.id in repeated for rejection in rejected)
        return replace(outcome, accepted=(*outcome.accepted, *there), rejected=tuple(rejected))

    def _count(self, outcome: Outcome, *, lost: int) -> None:
        counts = self.report.counts
        self.report.pending.difference_update(outcome.accepted, outcome.failed)
        self.report.samples += outcome.rejected[: _SAMPLES - len(self.report.samples)]
        counts.accepted += len(outcome.accepted)
        counts.rejected += len(outcome.rejected)
        counts.in_doubt += len(outcome.in_doubt)
        if outcome.attempts and self.endpoint.park is None:
            counts.failed += len(outcome.failed) + lost
        else:
            self.unsent(len(outcome.failed) + lost)

    def unsent(self, records: int) -> None:
        """Due records that were not sent, since the run was cancelled or their endpoint is closed or parked: they wait."""
        self.report.counts.due -= records
        self.report.counts.waiting += records

    def stopped(self) -> bool:
        """True when nothing more of this entity may be sent."""
        return self.endpoint.closed.is_set() or self.tools.run.cancelled.is_set()

    def over(self) -> None:
        """All that was on the wire is settled: count the pieces that were not sent any more."""
        self.unsent(self.isolation.left())

    @contextmanager
    def responsible(self, batch: Batch) -> Iterator[None]:
        """A batch that is not on the wire yet has failed where the ledger fails."""
        try:
            yield
        except LedgerError:
            self.report.counts.failed += len(batch.ids)
            raise

    def parked(self) -> bool:
        """True, and reported, when the endpoint is to be left alone."""
        park = self.endpoint.park = self.endpoint.park or self.tools.ledger.parked(self.endpoint.url)
        if park:
            self.endpoint.closed.set()
            self.report.error, self.report.gravity = str(park), "parked"
        return park is not None

    @property
    def _hold(self) -> bool:
        return self.tools.api.in_doubt == "hold"

    def _obey(self, outcome: Outcome) -> None:
        """Where the API asks to be left alone for long, the batch that it told so waits like those after it."""
        if outcome.park is not None and self.endpoint.park is None:
            self._park(outcome.park, outcome.reason or "the API asks for it")

    def _watch(self, outcome: Outcome) -> None:
        """The circuit breaker: park the endpoint where too many batches in a row have failed."""
        if outcome.answered:
            self.endpoint.failures = 0
        elif outcome.attempts:
            self.endpoint.failures += 1
        breaker = self.tools.api.breaker
        if breaker and self.endpoint.failures >= breaker.after and self.endpoint.park is None:
            self._park(breaker.seconds, f"{breaker.after} batches in a row failed, the last one with: {outcome.reason}")

    def _park(self, seconds: float, reason: str) -> None:
        self.endpoint.closed.set()
        self.endpoint.park = self.tools.ledger.park(self.endpoint.url, seconds, reason)
        self.parked()


def _undecided(outcome: Outcome, remark: str) -> Outcome:
    """An outcome that says nothing of single records: none of them is rejected for it."""
    if outcome.rejected:
        reason = outcome.rejected[0].reason
        outcome = replace(outcome, rejected=(), failed=outcome.batch.ids, answered=False, reason=reason)
    return replace(outcome, reason=f"{outcome.reason}; {remark}")


class Refused:
    """Collects rejections of an entity, counts them as due, and writes them some hundreds at a time."""

    def __init__(self, report: EntityReport, ledger: Ledger) -> None:
        self._report, self._ledger = report, ledger
        self._waiting: list[Rejection] = []

    def __call__(self, rejection: Rejection) -> None:
        """One more."""
        self._report.counts.due += 1
        self._report.counts.rejected += 1
        self._waiting.append(rejection)
        if len(self._waiting) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected. The first ones that are new are shown to people."""
        if not self._waiting:
            return
        known = self._ledger.reject(self._report.name, self._waiting)
        self._report.counts.rejected_before += sum(rejection.id in known for rejection in self._waiting)
        new = [rejection for rejection in self._waiting if rejection.id not in known]
        self._report.samples += new[: _SAMPLES - len(self._report.samples)]
        self._waiting.clear()

    def revive(self, rejection: Rejection) -> None:
        """A row that was refused as another's twin is due: the other is gone."""
        self._ledger.revive(self._report.name, rejection.id)


class Adopted:
    """Collects contents of delivered records that nobody knew, and writes them some hundreds at a time."""

    def __init__(self, entity: Entity, ledger: Ledger) -> None:
        self._entity, self._ledger = entity, ledger
        self._waiting: dict[str, str] = {}

    def __call__(self, id_: str, content: str) -> None:
        """One more."""
        self._waiting[id_] = content
        if len(self._waiting) >= 10 * _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected."""
        if self._waiting:
            self._ledger.adopt(self._entity.name, self._waiting)
            self._waiting.clear()
