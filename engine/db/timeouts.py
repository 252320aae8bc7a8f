"""Time limits for databases."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits in seconds: to connect, and for a statement."""

    connect: float
    query: float

    @property
    def login(self) -> int:
        """`connect` in whole seconds, as drivers take it; at least 1, since 0 would mean no limit."""
        return max(1, round(self.connect))
