"""Sessions of a database server: identified, found, and ended from another connection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.db.statement import Statement

_START = re.compile(r"[0-9][0-9 T:.+-]{0,40}")


@dataclass(frozen=True, slots=True)
class Sessions:
    """A dialect's queries on sessions: `mine` returns this session's number and start, `alive` finds one, `end` ends one.

    `{number}` and `{start}` stand for the session: not every database takes parameters in such statements.
    """

    mine: str
    alive: str
    end: str


@dataclass(frozen=True, slots=True)
class Session:
    """One session: the server's number for it, and its start, since servers reuse numbers."""

    number: int
    start: str

    def __str__(self) -> str:
        return f"{self.number} since {self.start}"

    @classmethod
    def of(cls, row: Sequence[Any]) -> Session:
        """Build a session from a row of the dialect's `mine`."""
        return cls(int(row[0]), str(row[1]))

    def statement(self, text: str) -> Statement:
        """Build a statement on this session. Raises `ValueError` if the start is not a time, since it becomes part of the text."""
        if not _START.fullmatch(self.start):
            raise ValueError(f"{self.start!r} is not the start of a session")
        return Statement(text.replace("{number}", str(int(self.number))).replace("{start}", self.start), ())
