"""Keeps the calls of a run apart, so that an API's rate limit is held."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Pace:
    """`pause` is seconds at least between the starts of two calls, of whatever thread; `sleep` may end early, when the run does."""

    pause: float = 0.0
    sleep: Callable[[float], None] = time.sleep
    _last: float = field(default=float("-inf"), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def limited(self) -> bool:
        """True when there is anything to wait for."""
        return self.pause > 0

    def wait(self) -> None:
        """Return when the next call may start."""
        if not self.limited:
            return
        # Held while waiting: the next thread waits for its own turn behind this one.
        with self._lock:
            left = self._last + self.pause - time.monotonic()
            if left > 0:
                self.sleep(left)
            self._last = time.monotonic()
