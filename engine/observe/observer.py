"""What a run tells whoever watches it."""

from __future__ import annotations

import logging
from typing import Any, Protocol

_LOG = logging.getLogger(__name__)


class Progress(Protocol):
    """The counts that are worth showing."""

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
        """Records that something was decided on."""


class Wait(Protocol):
    """A wait of `seconds` before the next attempt, since attempt `number` has failed for `reason`; as text it says all of it."""

    @property
    def reason(self) -> str:
        """What the last attempt met."""

    @property
    def number(self) -> int:
        """Which attempt that was, from 1."""

    @property
    def seconds(self) -> float:
        """How long it takes."""


class Observer(Protocol):
    """Hears of the events of a run, from the thread that runs it: a name, and fields that every event of this name has.

    | event | fields |
    |---|---|
    | run_started | run: its id |
    | entity_started | entity |
    | rows_counted | entity, rows: of its source; only for an observer that `wants_rows` |
    | progress | entity, counts |
    | waiting | entity, wait: before a call is tried again |
    | entity_done | entity, counts, error: None where there was none |
    """

    @property
    def wants_rows(self) -> bool:
        """True for one that shows how much there is to come: the rows of each source are counted for it."""

    def hear(self, event: str, /, **fields: Any) -> None:
        """One event. One that it does not know is none of its business."""


class Silent:
    """Hears everything and says nothing."""

    wants_rows = False

    def hear(self, event: str, /, **fields: Any) -> None:
        """Nothing."""


class Careful:
    """Passes everything on; a failing observer is reported once and then left out, and the run goes on."""

    def __init__(self, inner: Observer) -> None:
        self._inner: Observer = inner
        self.wants_rows = inner.wants_rows

    def hear(self, event: str, /, **fields: Any) -> None:
        """Pass it on."""
        try:
            self._inner.hear(event, **fields)
        except Exception:  # noqa: BLE001 - progress is never worth a record
            self._inner = Silent()
            _LOG.warning("progress cannot be shown any more", exc_info=True)
