"""What every run carries: nothing below reads the clock, the environment or a global."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

_LOG = logging.getLogger(__name__)


class Cancel(threading.Event):
    """Set when a run is to stop. What blocks in a driver or a child process registers how it is interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self._changing = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []

    def set(self) -> None:
        """Stop the run: every registered callback is called once, in this thread."""
        super().set()
        with self._changing:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001 - one that fails must not keep the others from being called
                _LOG.warning("what was to be interrupted could not be", exc_info=True)

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Inside, `set` calls `callback`; at once where it was set before."""
        with self._changing:
            self._callbacks.append(callback)
        try:
            if self.is_set():
                self.set()
            yield
        finally:
            with self._changing:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)


class Tell(Protocol):
    """Where the events of a run go: a name, and the fields that every event of this name has (`engine.observe.observer`)."""

    def __call__(self, event: str, /, **fields: Any) -> None:
        """One event."""


def _tell_nobody(_event: str, /, **_fields: Any) -> None:
    """The sink of a run that nobody watches."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run: its identity, its clock, when it has to stop, what it was given, and where its events go.

    `started` and `deadline` are aware, in UTC; no deadline is None. `last_success` is the start of the last run that delivered all.
    """

    id: str
    started: datetime
    now: Callable[[], datetime]
    cancelled: Cancel = field(default_factory=Cancel)
    deadline: datetime | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    tell: Tell = _tell_nobody
    last_success: datetime | None = None

    @classmethod
    def start(cls, cancelled: Cancel | None = None, tell: Tell = _tell_nobody) -> RunContext:
        """A context on the system clock (UTC) with a new run id."""
        return cls(new_id(), utc_now(), utc_now, cancelled or Cancel(), tell=tell)

    @contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Iterator[None]:
        """Inside, `callback` is called when the run is cancelled, from the thread that cancels it."""
        with self.cancelled.calling(callback):
            yield

    def left(self) -> float | None:
        """Seconds until the deadline, not below 0; None without one."""
        return None if self.deadline is None else max(0.0, (self.deadline - self.now()).total_seconds())

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until the run is cancelled or its deadline is there."""
        left = self.left()
        self.cancelled.wait(seconds if left is None else min(seconds, left))


def new_id() -> str:
    """An identity for a run, or for one command of a person."""
    return str(uuid.uuid4())


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)
