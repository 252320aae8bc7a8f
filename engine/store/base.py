"""Shared by every part of the engine that writes to a database: a kept connection, and times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from engine.db.connection import Connection


class Kept:
    """One connection, kept open between uses and reconnected after a failed one. Used by one thread."""

    def __init__(self, connect: Callable[[], Connection], time_limit: float | None = None) -> None:
        self._connect, self._time_limit = connect, time_limit
        self._opened: Connection | None = None
        self._sound = True

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Yield the connection, in a new session if the previous use raised. Raises `ConnectionFailed`."""
        opened = self._opened
        if opened is None:
            opened = self._opened = self._connect()
            opened.time_limit = self._time_limit or opened.time_limit
        elif not self._sound:
            opened.reconnect()
        self._sound = False
        yield opened
        self._sound = True

    def close(self) -> None:
        """Close the connection, in the thread that used it."""
        if self._opened:
            self._opened.close()


def moment(value: Any) -> datetime:
    """Convert a time of the database to naive UTC; SQLite returns text."""
    found: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
