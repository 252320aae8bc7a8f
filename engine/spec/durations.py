"""Durations as users write them: `500ms`, `30s`, `15m`, `24h`."""

from __future__ import annotations

import re

PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"
"""The same pattern as in the schema."""
LONGEST = 366 * 24 * 3600.0
"""Seconds. Operating systems and databases can wait this long and add it to a date."""
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Convert a duration to seconds."""
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s|m|h)", text).groups()  # type: ignore[union-attr]  # the schema enforces the pattern
    return float(number) * SECONDS[unit]


def too_long(text: str) -> str | None:
    """Return why a well-formed duration is too long; None if it is not."""
    return None if seconds(text) <= LONGEST else f"is {text!r:.60}; the longest duration is 366 days (8784h)"
