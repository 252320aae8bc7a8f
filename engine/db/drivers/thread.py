"""Runs a driver's calls in a separate thread, so that a call that never returns can be abandoned and signals are handled.

No ODBC driver returns reliably from a silently lost connection: psqlodbc waits forever for an answer, whatever its
timeouts. The thread stuck in such a call is abandoned; it holds no lock of ours and ends with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class Stalled(Exception):
    """The driver did not return in time."""


class Unusable(Exception):
    """The driver has not returned from an earlier call, or the connection is closed."""


class DriverThread:
    """The thread of one connection. Used by one thread at a time."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._unusable: str | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def call(self, work: Callable[[], Result], seconds: float | None = None) -> Result:
        """Run `work` in the thread; returns or raises its outcome. Raises `Stalled` after `seconds`, and `Unusable` from then on."""
        if self._unusable is not None:
            raise Unusable(self._unusable)
        made = _Call(work)
        # Reset once it is done; an interrupt while waiting (Ctrl-C) leaves it set.
        self._unusable = "the driver has not come back from an earlier statement"
        self._calls.put(made)
        if not made.done.wait(seconds):
            raise Stalled(f"no answer within {seconds:g} s")
        self._unusable = None
        if made.failure is not None:
            raise made.failure
        return made.result  # type: ignore[no-any-return]

    def end(self) -> None:
        """Accept no more calls. A thread stuck in the driver is abandoned."""
        self._unusable = self._unusable or "the connection is closed"
        self._calls.put(None)

    def _run(self) -> None:
        while (made := self._calls.get()) is not None:
            made.run()


class _Call:
    """One call with its result or exception."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.done = threading.Event()
        self.result: Any = None
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Run the call, in the driver's thread."""
        try:
            self.result = self._work()
        except BaseException as failure:  # noqa: BLE001 - the caller's thread raises it
            self.failure = failure
        self.done.set()
