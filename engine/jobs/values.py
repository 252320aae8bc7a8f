"""Rows as expressions and statements see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Values(Mapping[str, Any]):
    """Values by column, found whatever the case of the name: PostgreSQL folds `Code` to `code`."""

    __slots__ = ("_at", "_names", "_row")

    def __init__(self, names: Sequence[str], row: Sequence[Any]) -> None:
        self._names, self._row = names, row
        self._at = {name.casefold(): at for at, name in enumerate(names)}

    def __getitem__(self, name: str) -> Any:
        return self._row[self._at[name.casefold()]]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.casefold() in self._at

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
