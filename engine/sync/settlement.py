"""What becomes of each batch of one entity: into the ledger, into the counts, and what follows from it for the next ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from engine.errors import LedgerError
from engine.sync.model import Attempt, Batch, Outcome, Pause
from engine.sync.report import SAMPLES, EntityReport
from engine.sync.send.isolation import Isolation, Split
from engine.sync.tools import Endpoint, Tools

_REPEATED = " (rejected when sent again; the first sending may have stored it)"


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
            self.tools.run.tell("waiting", entity=self.report.name, wait=made)
            return
        self.tools.ledger.batches.attempt(made)
        self.report.counts.call()

    def left_open(self, outcome: Outcome) -> None:
        """A batch of an earlier run, or of a dead worker; its records are not of this run's due.

        Who took over from a dead worker may have met them, and found them waiting.
        """
        outcome = self._sent_again(outcome)
        lost = self._write(outcome)
        found = self.report.met.intersection(outcome.accepted)
        self.report.counts.settle_earlier(len(outcome.accepted), len(found))
        self.report.met -= found
        self.report.note(outcome.reason)
        self._obey(outcome)
        self._watch(outcome)
        if lost:
            raise lost

    def settle(self, outcome: Outcome) -> None:
        """A batch of this run. One that was refused for some of its records is taken apart, and is not over yet."""
        split = self.isolation.split(outcome)
        outcome = _undecided(outcome, split.remark) if split else self._sent_again(outcome)
        try:
            lost = self._write(outcome)
        except LedgerError:
            self.report.counts.doubt(len(outcome.batch.ids))
            raise
        self._follow(outcome, split)
        if lost:
            raise lost

    def _write(self, outcome: Outcome) -> LedgerError | None:
        """Into the ledger; returns the failure of the last call's log row, which must not keep the batch from being counted."""
        lost = self.tools.ledger.batches.settle(outcome, hold=self._hold)
        if outcome.last:
            self.report.counts.call()
        return lost

    def _follow(self, outcome: Outcome, split: Split | None) -> None:
        """What follows from a settled batch: for its records, its pieces and its endpoint."""
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
        self.tools.run.tell("progress", entity=self.report.name, counts=self.report.counts)

    def _refuse_proved(self) -> None:
        """Single records whose refusal was put off until it was known that the request itself is right."""
        while self.isolation.proved:
            batch, rejection = self.isolation.proved.pop(0)
            try:
                self.tools.ledger.records.refuse(batch, rejection)
            except LedgerError:
                self.report.counts.fail(1)
                raise
            self.report.counts.refuse()
            self.report.samples += [rejection][: SAMPLES - len(self.report.samples)]

    def _sent_again(self, outcome: Outcome) -> Outcome:
        """Refusals of records that an earlier sending may have stored: one that says so is none, another may come from that."""
        if not outcome.rejected:
            return outcome
        ids = [rejection.id for rejection in outcome.rejected]
        repeated = set(ids) if outcome.repeated else self.tools.ledger.batches.repeated(self.report.name, ids)
        there = [rejection.id for rejection in outcome.rejected if rejection.duplicate and rejection.id in repeated]
        rejected = [
            replace(rejection, reason=rejection.reason + _REPEATED) if rejection.id in repeated else rejection
            for rejection in outcome.rejected
            if rejection.id not in there
        ]
        self.report.counts.repeat(len(there), sum(rejection.id in repeated for rejection in rejected))
        return replace(outcome, accepted=(*outcome.accepted, *there), rejected=tuple(rejected))

    def _count(self, outcome: Outcome, *, lost: int) -> None:
        counts = self.report.counts
        self.report.pending.difference_update(outcome.accepted, outcome.failed)
        self.report.samples += outcome.rejected[: SAMPLES - len(self.report.samples)]
        counts.settle(outcome)
        if outcome.attempts and self.endpoint.park is None:
            counts.fail(len(outcome.failed) + lost)
        else:
            counts.keep_unsent(len(outcome.failed) + lost)

    def stopped(self) -> bool:
        """True when nothing more of this entity may be sent."""
        return self.endpoint.closed.is_set() or self.tools.run.cancelled.is_set()

    def over(self) -> None:
        """Everything in flight is settled: count the pieces that were never sent."""
        self.report.counts.keep_unsent(self.isolation.left())

    @contextmanager
    def responsible(self, batch: Batch) -> Iterator[None]:
        """Count a batch that was not sent yet as failed when the ledger fails."""
        try:
            yield
        except LedgerError:
            self.report.counts.fail(len(batch.ids))
            raise

    def parked(self) -> bool:
        """True, and reported, when the endpoint is to be left alone."""
        park = self.endpoint.park = self.endpoint.park or self.tools.ledger.history.parked(self.endpoint.url)
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
