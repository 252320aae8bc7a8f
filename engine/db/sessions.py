"""Sessions of a database server: named, looked for, and ended from another connection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.db.statement import Statement

_START = re.compile(r"[0-9][0-9 T:.+-]{0,40}")


@dataclass(frozen=True, slots=True)
class Sessions:
    """A dialect's queries on sessions: the number and the start of one's own; whether one is there; what ends one.

    `{number}` and `{start}` stand for the session: such statements take no parameters everywhere.
    """

    mine: str
    alive: str
    end: str


@dataclass(frozen=True, slots=True)
class Session:
    """One session: the server's number for it, and when it began, since servers use numbers again."""

    number: int
    start: str

    def __str__(self) -> str:
        return f"{self.number} since {self.start}"

    @classmethod
    def of(cls, row: Sequence[Any]) -> Session:
        """From a row of the dialect's `mine`."""
        return cls(int(row[0]), str(row[1]))

    def statement(self, text: str) -> Statement:
        """A statement on this session. Raises `ValueError` for a start that is no time: it becomes part of the text."""
        if not _START.fullmatch(self.start):
            raise ValueError(f"{self.start!r} is not the start of a session")
        return Statement(text.replace("{number}", str(int(self.number))).replace("{start}", self.start), ())
