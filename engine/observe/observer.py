"""What a run tells whoever watches it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

_LOG = logging.getLogger(__name__)


class Progress(Protocol):
    """The counts that are worth showing."""

    excluded: int
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


class Observer(Protocol):
    """Hears of a run's progress, from the thread that runs it."""

    def entity_started(self, name: str) -> None:
        """An entity begins."""

    def progress(self, name: str, counts: Progress) -> None:
        """Counts moved."""

    def entity_done(self, name: str, counts: Progress, error: str | None) -> None:
        """An entity is over."""


class Silent:
    """Hears everything and says nothing."""

    def entity_started(self, name: str) -> None:
        """Nothing."""

    def progress(self, name: str, counts: Progress) -> None:
        """Nothing."""

    def entity_done(self, name: str, counts: Progress, error: str | None) -> None:
        """Nothing."""


class Careful:
    """Passes everything on; a failing observer is reported once and then left out, and the run goes on."""

    def __init__(self, inner: Observer) -> None:
        self._inner: Observer | None = inner

    def entity_started(self, name: str) -> None:
        """Pass on."""
        self._tell(lambda inner: inner.entity_started(name))

    def progress(self, name: str, counts: Progress) -> None:
        """Pass on."""
        self._tell(lambda inner: inner.progress(name, counts))

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
