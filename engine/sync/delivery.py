"""What happens to the batches of one entity between "due" and "settled": one owner of the window, the isolation and the settlement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from engine.errors import LedgerError
from engine.sync.collected import Adopted, Refused
from engine.sync.counts import Flow
from engine.sync.model import Batch, Entity, Outcome
from engine.sync.report import EntityReport
from engine.sync.send.isolation import Isolation
from engine.sync.send.post import Post
from engine.sync.send.window import Window
from engine.sync.settlement import Settlement
from engine.sync.tools import Tools


class Delivery:
    """The delivery of one entity. On leaving it, every batch in flight is settled, whatever stopped the reading.

    `flow` and `adopted` hear what the stages tell of single records. All methods belong to one thread.
    """

    def __init__(self, entity: Entity, tools: Tools, report: EntityReport) -> None:
        endpoint = tools.endpoint(entity)
        self.entity, self.tools, self.report = entity, tools, report
        self.adopted = Adopted(entity, tools.ledger.records)
        self._refused = Refused(report, tools.ledger.records)
        self.flow = Flow(self._refused, report.counts, report.pending, met=report.met, revive=self._refused.revive)
        self._isolation = Isolation(entity)
        self._settlement = Settlement(tools, report, endpoint, self._isolation)
        post = Post(entity, tools.api, tools.caller, tools.run, endpoint.closed, tools.mask, tools.may_send, tools.pace)
        self._window = Window(tools.pool, tools.api.in_flight, post.deliver, self._settlement.hear)

    def __enter__(self) -> Delivery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._drain(self._settlement.settle)
        finally:
            self._settlement.over()
            self._refused.flush()
            self.adopted.flush()
        if kind is None:
            self.report.counts.check(self.report.name)

    def parked(self) -> bool:
        """True, and reported, when the endpoint is to be left alone."""
        return self._settlement.parked()

    def settle_leftovers(self, *, in_flight: bool = False) -> None:
        """Batches that an earlier run, or (`in_flight`) a dead worker, left open are sent again: the same bytes, the same key."""
        for batch in self.tools.ledger.batches.unsettled(self.entity.name, self.tools.api, in_flight=in_flight):
            if self.tools.run.cancelled.is_set():
                return
            self._window.submit(batch)
            self._drain(self._settlement.left_open)

    def send(self, batches: Iterator[Batch]) -> bool:
        """Send batches as they come, and the pieces of those that are refused; False when it was stopped before the last."""
        return all(self._send(batch) for batch in self._isolation.first(batches, self._settle_next))

    def _send(self, batch: Batch) -> bool:
        with self._settlement.responsible(batch), self._written_ahead(batch) as submit:
            for outcome in self._window.make_room():
                self._settlement.settle(outcome)
            if self._settlement.stopped():
                self._isolation.keep(batch)
                return False
            if self._isolation.cut(batch):  # the API has called for smaller ones meanwhile
                return True
            submit()
        self.report.counts.send()
        self.tools.run.tell("progress", entity=self.report.name, counts=self.report.counts)
        return True

    @contextmanager
    def _written_ahead(self, batch: Batch) -> Iterator[Callable[[], None]]:
        """Write a batch to the journal while an answer is waited for; what is not submitted after all is taken back.

        Where a person decides on open batches, a batch is written only when it is sent: they would find one that never was.
        """
        journal, submitted = self.tools.ledger.batches, False
        ahead = self._window.full and not self._settlement.stopped() and self.tools.api.in_doubt == "resend"

        def submit() -> None:
            nonlocal submitted
            self._window.submit(batch if ahead else journal.intend(batch))
            submitted = True

        if ahead:
            journal.intend(batch)
        try:
            yield submit
        except BaseException:
            if ahead and not submitted:
                with suppress(LedgerError):  # the first failure counts; the next run sends what is left open
                    journal.withdraw(batch)
            raise
        if ahead and not submitted:
            journal.withdraw(batch)

    def _settle_next(self) -> bool:
        """Settle the next outcomes, which may leave pieces to send; False when nothing is in flight."""
        if not self._window.busy:
            return False
        for outcome in self._window.next():
            self._settlement.settle(outcome)
        return True

    def _drain(self, settle: Callable[[Outcome], None]) -> None:
        """Settle everything in flight; a failure, even a bug, does not keep the others from being settled."""
        failure: Exception | None = None
        while self._window.busy:
            try:
                for outcome in self._window.drain():
                    settle(outcome)
            except Exception as failed:  # noqa: BLE001 - raised below, when the others are settled
                failure = failure or failed
        if failure:
            raise failure
