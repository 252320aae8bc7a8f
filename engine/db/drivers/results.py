"""The results of one statement over a DB-API cursor, read to the end, where drivers report late errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_SOURCES = re.compile(r"^(\[[^\]]*\])+\s*")
"""`[Microsoft][ODBC Driver 18 for SQL Server][SQL Server]`: the components that passed a message on."""


class Results:
    """The rows of the first result that has columns, the server's messages (PRINT, NOTICE), and the number of rows changed."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._next = getattr(cursor, "nextset", None)
        self.messages: list[str] = []
        self.rowcount: int = cursor.rowcount
        self._hear()
        while not cursor.description and self._go_on():
            pass
        self.columns: tuple[str, ...] = tuple(column[0] for column in cursor.description or ())

    def rows(self) -> list[Any]:
        """Return all remaining rows."""
        rows: list[Any] = self._cursor.fetchall() if self.columns else []
        self.finish()
        return rows

    def blocks(self, size: int) -> Iterator[list[Any]]:
        """Yield the rows in blocks of `size`, so that no more of them are in memory."""
        while self.columns and (rows := self._cursor.fetchmany(size)):
            yield rows
        self.finish()

    def finish(self) -> None:
        """Read all further results. Raises errors that the driver reports only then."""
        while self._go_on():
            pass

    def close(self) -> None:
        """Close the cursor."""
        self._cursor.close()

    def _go_on(self) -> bool:
        more = self._next is not None and bool(self._next())
        if more:
            self._hear()
        return more

    def _hear(self) -> None:
        for said in getattr(self._cursor, "messages", None) or ():
            self.messages.append(_SOURCES.sub("", str(said[1] if isinstance(said, tuple) else said)))
