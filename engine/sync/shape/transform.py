"""The `transform` of an entity, applied to block after block. One record's failure is kept with its ID and stops no other."""

from __future__ import annotations

from collections import Counter
from typing import Any

from engine.errors import EntityError
from engine.sync.model import Entity, Operation
from engine.sync.read.block import ORIGIN, Block, Header
from engine.sync.shape.rows import Failures, Given


class Transform:
    """The operations of one entity, built once. `header` is theirs, with the origin.

    Each operation has a table of its own: however many there are, no iterator stands on another. Raises `EntityError` for a
    column that is not there.
    """

    def __init__(self, header: Header, entity: Entity) -> None:
        self._failures: Failures = {}
        self._steps: list[tuple[Given, Any]] = []
        self.header: Header = (ORIGIN, *header)
        for operation in entity.transform:
            _require(entity, operation, self.header)
            given = Given(self.header)
            table = operation.table(given, self._failures)
            self._steps.append((given, table))
            self.header = tuple(map(str, next(iter(table))))
            _distinct(entity, operation, self.header)

    def apply(self, given: Block) -> tuple[Block, Failures]:
        """The rows, with the origin, after every operation; and the records that failed."""
        self._failures.clear()
        rows: list[Any] = [(id_, *row) for id_, row in zip(given.ids, given.rows, strict=True)]
        for step, table in self._steps:
            step.rows = rows
            rows = list(table)[1:]
            step.rows = []
        at = self.header.index(ORIGIN)
        rows = [row for row in rows if row[at] not in self._failures]
        return Block([row[at] for row in rows], rows, given.known), dict(self._failures)


def _distinct(entity: Entity, operation: Operation, header: Header) -> None:
    double = next((name for name, times in Counter(header).items() if times > 1), None)
    if double is not None:
        raise EntityError(
            f"entity {entity.name!r}: transform {operation.name!r} makes a second column {double!r}; "
            "`convert` changes a column in place, `cut_out` removes one"
        )


def _require(entity: Entity, operation: Operation, header: Header) -> None:
    there_are = set(header)
    missing = [named.column for named in operation.columns() if named.column not in there_are]
    if missing:
        there = ", ".join(str(name) for name in header if name != ORIGIN)
        raise EntityError(
            f"entity {entity.name!r}: transform {operation.name!r} names the column {missing[0]!r}, which is not there; there are: {there}"
        )
