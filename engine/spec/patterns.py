"""Regular expressions of a spec, matched with a time limit: `re` may backtrack for years, and no signal interrupts it."""

from __future__ import annotations

from typing import Any

SECONDS = 0.2
"""Limit of processor time for one value."""
_PATIENCE = 5
_SHORT = 0.005
"""The limit in seconds after `_PATIENCE` values have timed out: a page of such values must not delay a signal."""
_LONGEST = 1000


class PatternError(ValueError):
    """The pattern cannot be compiled, or takes too long on a value; the text says why."""


class Pattern:
    """A compiled pattern. Raises `PatternError`."""

    def __init__(self, text: str) -> None:
        import regex  # noqa: PLC0415 - only a spec that splits pays for it

        if len(text) > _LONGEST:
            raise PatternError(f"a pattern has at most {_LONGEST:,} characters, not {len(text):,}")
        self._too_long = 0
        try:
            self._compiled: Any = regex.compile(text)
        except (regex.error, RecursionError, OverflowError, ValueError, MemoryError) as failure:
            raise PatternError(f"not a regular expression: {failure or type(failure).__name__}") from None

    def fullmatch(self, value: str) -> bool:
        """True where the whole value matches. Raises `PatternError` if it takes too long."""
        try:
            return self._compiled.fullmatch(value, timeout=SECONDS) is not None
        except TimeoutError:
            raise PatternError(
                f"the pattern takes more than {SECONDS:g} s on a value of {len(value):,} characters"
            ) from None

    def split(self, value: str, most: int) -> list[str | None]:
        """Split the value at most `most` times (0: no limit). Raises `PatternError` if it takes too long."""
        limit = SECONDS if self._too_long < _PATIENCE else _SHORT
        try:
            parts: list[str | None] = self._compiled.split(value, most, timeout=limit)
        except TimeoutError:
            self._too_long += 1
            raise PatternError(
                f"the pattern takes more than {limit:g} s on this value of {len(value):,} characters; write it without "
                "repetitions inside repetitions"
            ) from None
        return parts
