"""Keeps up to `size` batches in flight while one thread reads, and gives their outcomes to that thread."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

from engine.sync.model import Attempt, Batch, Outcome, Pause

Report = Callable[[Attempt | Pause], None]
Deliver = Callable[[Batch, Report], Outcome]

# A blocking get without a timeout would keep Windows from delivering Ctrl-C.
_TICK = 0.2


class Window:
    """Batches in flight. All methods belong to one thread, which is also the only one that writes to the ledger."""

    def __init__(self, pool: Executor, size: int, deliver: Deliver, report: Report) -> None:
        self._pool, self._size, self._deliver, self._report = pool, size, deliver, report
        self._events: queue.SimpleQueue[Attempt | Pause | Outcome | BaseException] = queue.SimpleQueue()
        self._done: deque[Outcome] = deque()
        self._in_flight = 0

    @property
    def busy(self) -> bool:
        """True while a batch is in flight or an outcome was not given back."""
        return bool(self._in_flight or self._done)

    @property
    def full(self) -> bool:
        """True while another batch would have to wait."""
        return self._in_flight >= self._size and self._events.empty()

    def submit(self, batch: Batch) -> None:
        """Send a batch. Call `make_room` before."""
        self._in_flight += 1
        self._pool.submit(self._work, batch)

    def make_room(self) -> Iterator[Outcome]:
        """Wait until another batch fits; gives the outcomes that came meanwhile."""
        while self._in_flight >= self._size or not self._events.empty():
            self._take()
        yield from self._settled()

    def next(self) -> Iterator[Outcome]:
        """Wait for at least one outcome; gives those that came."""
        while self._in_flight and not self._done:
            self._take()
        yield from self._settled()

    def drain(self) -> Iterator[Outcome]:
        """Wait for every batch in flight, giving each outcome as it comes."""
        while self._in_flight:
            self._take()
            yield from self._settled()
        yield from self._settled()

    def _settled(self) -> Iterator[Outcome]:
        while self._done:
            yield self._done.popleft()

    def _work(self, batch: Batch) -> None:
        try:
            self._events.put(self._deliver(batch, self._events.put))
        except BaseException as failure:  # noqa: BLE001 - carried to the thread that waits, which raises it
            self._events.put(failure)

    def _take(self) -> None:
        try:
            event = self._events.get(timeout=_TICK)
        except queue.Empty:
            return
        if isinstance(event, (Attempt, Pause)):
            self._report(event)
            return
        self._in_flight -= 1
        if isinstance(event, BaseException):
            raise event
        self._done.append(event)
