"""The `transform` of an entity as petl operations. One record's failure is kept with its ID and stops no other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import petl
from petl.util.base import Table

from engine.errors import EntityError
from engine.model import Entity, Operation
from engine.spec import expressions
from engine.stages import fields
from engine.stages.block import ORIGIN, Block, Header

Failures = dict[str, str]
"""The first failure of a record, by its ID."""


class Transform:
    """The operations of one entity, built once and applied to block after block. `header` is theirs, with the origin.

    Raises `EntityError` for a column that is not there.
    """

    def __init__(self, header: Header, entity: Entity) -> None:
        self._failures: Failures = {}
        self._given = _Given((ORIGIN, *header))
        self._table: Any = self._given
        for operation in entity.transform:
            _require(entity, operation, list(petl.header(self._table)))
            self._table = _STEPS[operation.name](self._table, operation.argument, self._failures)
            _distinct(entity, operation, list(petl.header(self._table)))
        self.header: Header = tuple(map(str, petl.header(self._table)))

    def apply(self, given: Block) -> tuple[Block, Failures]:
        """The rows, with the origin, after every operation; and the records that failed."""
        self._failures.clear()
        self._given.rows = [(id_, *row) for id_, row in zip(given.ids, given.rows, strict=True)]
        at = self.header.index(ORIGIN)
        rows = [row for row in petl.data(self._table) if row[at] not in self._failures]
        return Block([row[at] for row in rows], rows, given.known), dict(self._failures)


class _Given(Table):  # type: ignore[misc]  # petl has no types
    """The table under all operations: its rows are set anew for every block."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self.rows: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        yield self._header
        yield from self.rows


def _rename(table: Any, names: dict[str, str], _: Failures) -> Any:
    return petl.rename(table, names)


def _convert(table: Any, conversions: dict[str, Any], failures: Failures) -> Any:
    for column, wanted in conversions.items():
        table = petl.convert(table, column, _conversion(column, wanted, failures), pass_row=True, failonerror=True)
    return table


def _add(table: Any, columns: dict[str, str], failures: Failures) -> Any:
    for column, text in columns.items():
        evaluate = expressions.compile_expression(text)
        table = petl.addfield(table, column, _guarded(column, failures, _from_record(evaluate), with_value=False))
    return table


def _select(table: Any, text: str, failures: Failures) -> Any:
    evaluate = expressions.compile_expression(text)

    def keep(row: Any) -> bool:
        if row[ORIGIN] in failures:
            return True
        try:
            return bool(evaluate(_record(row)))
        except expressions.ExpressionError as failure:
            failures[row[ORIGIN]] = f"select: {failure}"
            return True

    return petl.select(table, keep)


def _cut(table: Any, columns: list[str], _: Failures) -> Any:
    return petl.cut(table, ORIGIN, *columns)


def _cut_out(table: Any, columns: list[str], _: Failures) -> Any:
    return petl.cutout(table, *columns)


def _move(table: Any, positions: dict[str, int], _: Failures) -> Any:
    for column, position in positions.items():
        table = petl.movefield(table, column, position + 1)  # the origin stays first
    return table


def _fill(table: Any, values: dict[str, Any], _: Failures) -> Any:
    for column, value in values.items():
        table = petl.replace(table, column, None, value, failonerror=True)
    return table


def _split(table: Any, argument: dict[str, Any], failures: Failures) -> Any:
    column, pattern, into = argument["field"], re.compile(argument["pattern"]), argument["into"]

    def parts(value: Any, _: Any) -> list[Any]:
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{value!r} is not text")
        found = pattern.split(value, len(into) - 1) if value is not None else []
        return [*found, *[None] * (len(into) - len(found))]

    # petl's own `split` stops the whole table at a NULL; its `unpack` does the work on guarded parts.
    split = petl.convert(
        table, column, _guarded(column, failures, parts, failed=[None] * len(into)), pass_row=True, failonerror=True
    )
    return petl.unpack(split, column, into)


def _unpack_dict(table: Any, argument: dict[str, Any], failures: Failures) -> Any:
    column = argument["field"]

    def parse(value: Any, _: Any) -> dict[str, Any]:
        found = json.loads(value, parse_float=Decimal) if isinstance(value, str) else value
        if found is not None and not isinstance(found, dict):
            raise ValueError("not a JSON object")
        return found or {}

    parsed = petl.convert(table, column, _guarded(column, failures, parse, failed={}), pass_row=True, failonerror=True)
    return petl.unpackdict(parsed, column, keys=argument["keys"], missing=None)


_STEPS: dict[str, Callable[[Any, Any, Failures], Any]] = {
    "select": _select, "rename": _rename, "convert": _convert, "add": _add, "cut": _cut, "cut_out": _cut_out,
    "move": _move, "fill": _fill, "split": _split, "unpack_dict": _unpack_dict,
}  # fmt: skip


def _conversion(column: str, wanted: Any, failures: Failures) -> Any:
    if isinstance(wanted, dict):
        # The keys of a map are as YAML reads them; a database may hold 1 where the map says '1'.
        by_text = {str(key): value for key, value in wanted.items()}
        return lambda value, _: (
            wanted.get(value, by_text.get(str(value), value))
            if isinstance(value, (str, int, float, Decimal))
            else value
        )
    named = expressions.converter(wanted)
    if not isinstance(named, str):
        return _guarded(column, failures, lambda value, row: named({**_record(row), "value": value}))
    if named in expressions.TEXT:
        change = expressions.TEXT[named]
        return _guarded(column, failures, lambda value, _: change(value) if isinstance(value, str) else value)
    convert = fields.CONVERTERS[named]  # type: ignore[index]  # one of TYPES
    return _guarded(column, failures, lambda value, _: None if value is None else convert(value))


def _guarded(
    column: str, failures: Failures, work: Callable[[Any, Any], Any], *, failed: Any = None, with_value: bool = True
) -> Any:
    """`work(value, row)`; a failure is kept with the row's origin, and nothing further is done for that row."""

    def guarded(value: Any, row: Any) -> Any:
        if row[ORIGIN] in failures:
            return failed
        try:
            return work(value, row)
        except Exception as failure:  # noqa: BLE001 - whatever a filter raises is this record's failure and no other's
            failures[row[ORIGIN]] = f"field {column!r}: {failure or type(failure).__name__}"
            return failed

    return guarded if with_value else lambda row: guarded(None, row)


def _from_record(evaluate: expressions.Expression) -> Callable[[Any, Any], Any]:
    return lambda _, row: evaluate(_record(row))


def _record(row: Any) -> dict[str, Any]:
    return {name: value for name, value in zip(row.flds, row, strict=False) if name != ORIGIN}


def _distinct(entity: Entity, operation: Operation, header: list[Any]) -> None:
    double = next((name for index, name in enumerate(header) if name in header[:index]), None)
    if double is not None:
        raise EntityError(
            f"entity {entity.name!r}: transform {operation.name!r} makes a second column {double!r}; "
            "`convert` changes a column in place, `cut_out` removes one"
        )


def _require(entity: Entity, operation: Operation, header: list[Any]) -> None:
    argument = operation.argument
    if operation.name in ("add", "select"):
        return
    needed = [argument["field"]] if operation.name in ("split", "unpack_dict") else list(argument)
    missing = [name for name in needed if name not in header]
    if missing:
        there = ", ".join(str(name) for name in header if name != ORIGIN)
        raise EntityError(
            f"entity {entity.name!r}: transform {operation.name!r} names the column {missing[0]!r}, which is not there; there are: {there}"
        )
