"""The signals that end a run, seen by a thread of their own: the main thread may be deep in a driver."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from engine.context import Cancel

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def cancel_on_signals(second: Callable[[], None]) -> Iterator[Cancel]:
    """What the first SIGINT or SIGTERM cancels; the second signal calls `second`, in another thread.

    Python runs its handlers in the main thread between two of its own instructions, hence never while that waits in a
    driver; the bytes that tell of a signal are written at once (https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd).
    """
    cancelled = Cancel()
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    before = [signal.signal(number, _handled_elsewhere) for number in _ENDING]
    fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reading, cancelled, second), name="signals", daemon=True)
    thread.start()
    try:
        yield cancelled
    finally:
        signal.set_wakeup_fd(fd)
        writing.close()
        thread.join()
        reading.close()
        # A process that was told to end still has its last words to say: the next signal must not change how it ends.
        for number, handler in zip(_ENDING, before, strict=True):
            signal.signal(number, signal.SIG_IGN if cancelled.is_set() else handler)


def _handled_elsewhere(_number: int, _frame: FrameType | None) -> None:
    """A handler must be there for a signal to be told of, and not to end the process."""


def _watch(reading: socket.socket, cancelled: Cancel, second: Callable[[], None]) -> None:
    while told := reading.recv(1):
        if told[0] in _ENDING:
            if cancelled.is_set():
                second()
            cancelled.set()
