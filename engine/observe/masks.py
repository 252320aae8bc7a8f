"""The secrets of every spec this process has read, to mask output other than a run's own report."""

from __future__ import annotations

from engine.observe.secrets import Secrets

_ALL = Secrets(newest=1000)


def remember(secrets: Secrets) -> None:
    """Mask these secrets, and those added to them later, in all output from now on."""
    secrets.tell(_ALL)


def masked(text: str) -> str:
    """Return the text with all remembered secrets masked."""
    return _ALL.mask(text)
