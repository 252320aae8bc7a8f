"""What every run carries: nothing below reads the clock, the environment or a global."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(slots=True)
class RunContext:
    """Identity, clock and cancel flag of one run."""

    id: str
    started: datetime
    now: Callable[[], datetime]
    cancelled: threading.Event = field(default_factory=threading.Event)
    last_success: datetime | None = None

    @classmethod
    def start(cls, cancelled: threading.Event | None = None) -> RunContext:
        """A context on the system clock (UTC) with a new run id."""
        return cls(new_id(), utc_now(), utc_now, cancelled or threading.Event())

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until the run is cancelled."""
        self.cancelled.wait(seconds)


def new_id() -> str:
    """An identity for a run, or for one command of a person."""
    return str(uuid.uuid4())


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)
