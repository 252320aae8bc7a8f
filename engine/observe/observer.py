"""The observer interface: the events of a run, for display."""

from __future__ import annotations

import logging
from typing import Any, Protocol

_LOG = logging.getLogger(__name__)


class Progress(Protocol):
    """The counts of an entity that a display shows."""

    excluded: int
    dropped: int
    waiting: int
    due: int
    accepted: int
    rejected: int
    failed: int
    in_doubt: int
    batches: int
    calls: int

    @property
    def read(self) -> int:
        """The records read so far: excluded, dropped, waiting or due."""


class Wait(Protocol):
    """A wait before the next attempt of a call; `str()` gives the whole message."""

    @property
    def reason(self) -> str:
        """Why the last attempt failed."""

    @property
    def number(self) -> int:
        """The number of that attempt, from 1."""

    @property
    def seconds(self) -> float:
        """The length of the wait."""


class Observer(Protocol):
    """Receives the events of a run, on the thread that runs it. All events of one name have the same fields.

    | event | fields |
    |---|---|
    | run_started | run: its ID |
    | entity_started | entity |
    | rows_counted | entity, rows: the row count of its source; only for an observer that `wants_rows` |
    | progress | entity, counts |
    | waiting | entity, wait: before a retry |
    | entity_done | entity, counts, error: None on success |
    """

    @property
    def wants_rows(self) -> bool:
        """True to have the rows of each source counted, to show how much is left."""

    def hear(self, event: str, /, **fields: Any) -> None:
        """Handle an event; ignore unknown ones."""


class Silent:
    """Ignores all events."""

    wants_rows = False

    def hear(self, event: str, /, **fields: Any) -> None:
        """Do nothing."""


class Careful:
    """Forwards events. A failing observer is logged once, then dropped; the run continues."""

    def __init__(self, inner: Observer) -> None:
        self._inner: Observer = inner
        self.wants_rows = inner.wants_rows

    def hear(self, event: str, /, **fields: Any) -> None:
        """Forward the event."""
        try:
            self._inner.hear(event, **fields)
        except Exception:  # noqa: BLE001 - progress is never worth a record
            self._inner = Silent()
            _LOG.warning("progress cannot be shown any more", exc_info=True)
