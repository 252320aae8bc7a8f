"""What a run tells whoever watches it."""

from __future__ import annotations

import logging
from collections.abc import Callable
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
    """Hears of a run's progress, from the thread that runs it."""

    @property
    def wants_rows(self) -> bool:
        """True for one that shows how much there is to come: the rows of each source are counted for it."""

    def run_started(self, run: str) -> None:
        """A run begins, with this id."""

    def entity_started(self, name: str) -> None:
        """An entity begins."""

    def rows_counted(self, name: str, rows: int) -> None:
        """So many rows an entity's source has."""

    def progress(self, name: str, counts: Progress) -> None:
        """Counts moved."""

    def waiting(self, name: str, wait: Wait) -> None:
        """A call failed and is tried again after a wait."""

    def entity_done(self, name: str, counts: Progress, error: str | None) -> None:
        """An entity is over."""


class Silent:
    """Hears everything and says nothing."""

    wants_rows = False

    def run_started(self, run: str) -> None:
        """Nothing."""

    def entity_started(self, name: str) -> None:
        """Nothing."""

    def rows_counted(self, name: str, rows: int) -> None:
        """Nothing."""

    def progress(self, name: str, counts: Progress) -> None:
        """Nothing."""

    def waiting(self, name: str, wait: Wait) -> None:
        """Nothing."""

    def entity_done(self, name: str, counts: Progress, error: str | None) -> None:
        """Nothing."""


class Careful:
    """Passes everything on; a failing observer is reported once and then left out, and the run goes on."""

    def __init__(self, inner: Observer) -> None:
        self._inner: Observer | None = inner
        self.wants_rows = inner.wants_rows

    def run_started(self, run: str) -> None:
        """Pass on."""
        self._tell(lambda inner: inner.run_started(run))

    def entity_started(self, name: str) -> None:
        """Pass on."""
        self._tell(lambda inner: inner.entity_started(name))

    def rows_counted(self, name: str, rows: int) -> None:
        """Pass on."""
        self._tell(lambda inner: inner.rows_counted(name, rows))

    def progress(self, name: str, counts: Progress) -> None:
        """Pass on."""
        self._tell(lambda inner: inner.progress(name, counts))

    def waiting(self, name: str, wait: Wait) -> None:
        """Pass on."""
        self._tell(lambda inner: inner.waiting(name, wait))

    def entity_done(self, name: str, counts: Progress, error: str | None) -> None:
        """Pass on."""
        self._tell(lambda inner: inner.entity_done(name, counts, error))

    def _tell(self, call: Callable[[Observer], Any]) -> None:
        if self._inner is None:
            return
        try:
            call(self._inner)
        except Exception:  # noqa: BLE001 - progress is never worth a record
            self._inner = None
            _LOG.warning("progress cannot be shown any more", exc_info=True)
