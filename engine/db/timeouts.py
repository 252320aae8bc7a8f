"""How long a database may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a database may take: to let a session in, and to answer a statement."""

    connect: float = 15.0
    query: float = 600.0

    @property
    def login(self) -> int:
        """`connect` as drivers take it: whole seconds, of which 0 would mean no end."""
        return max(1, round(self.connect))
