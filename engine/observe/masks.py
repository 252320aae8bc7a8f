"""The secrets of every spec this process has read, for texts that leave it outside a run's own report."""

from __future__ import annotations

from engine.observe.secrets import Secrets

_ALL = Secrets(newest=1000)


def remember(secrets: Secrets) -> None:
    """Mask these, and what they learn, in everything that is shown from now on."""
    secrets.tell(_ALL)


def masked(text: str) -> str:
    """The text without any secret of any spec that was read."""
    return _ALL.mask(text)
