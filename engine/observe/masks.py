"""The masks of every spec this process has read, for texts that leave it outside a run's own report."""

from __future__ import annotations

from collections.abc import Callable

_MASKS: list[Callable[[str], str]] = []


def remember(mask: Callable[[str], str]) -> None:
    """Apply this mask to everything that is shown from now on."""
    _MASKS.append(mask)


def masked(text: str) -> str:
    """The text without any secret of any spec that was read."""
    for mask in _MASKS:
        text = mask(text)
    return text
