"""The rows that an operation of `transform` works on, as a petl table and as a record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.sync.read.block import ORIGIN, Header

Failures = dict[str, str]
"""The first failure of a record, by its ID."""


class Given:
    """The petl table that an operation reads; its rows are replaced for every block."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.rows: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        yield self.header
        yield from self.rows


class Record(Mapping[str, Any]):
    """A row as expressions see it: values by name, without the origin. One object is reused for all rows."""

    def __init__(self, header: Sequence[str]) -> None:
        self._at = {name: at for at, name in enumerate(header) if name != ORIGIN}
        self.row: Sequence[Any] = ()

    def __getitem__(self, name: str) -> Any:
        at = self._at[name]
        if at >= len(self.row):
            raise KeyError(name)
        return self.row[at]

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)
