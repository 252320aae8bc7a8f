"""The `transform` of an entity as petl operations. One record's failure is kept with its ID and stops no other."""

from __future__ import annotations

import json
from collections import ChainMap, Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import petl
from petl.util.base import Table

from engine.errors import EntityError
from engine.spec import expressions
from engine.spec.patterns import Pattern
from engine.sync.model import Entity, Operation
from engine.sync.read.block import ORIGIN, Block, Header
from engine.sync.shape import fields

Failures = dict[str, str]
"""The first failure of a record, by its ID."""


class Transform:
    """The operations of one entity, built once and applied to block after block. `header` is theirs, with the origin.

    Each operation has a table of its own: however many there are, no iterator stands on another. Raises `EntityError` for a
    column that is not there.
    """

    def __init__(self, header: Header, entity: Entity) -> None:
        self._failures: Failures = {}
        self._steps: list[tuple[_Given, Any]] = []
        self.header: Header = (ORIGIN, *header)
        for operation in entity.transform:
            _require(entity, operation, self.header)
            given = _Given(self.header)
            table = _STEPS[operation.name](given, operation.argument, self._failures)
            self._steps.append((given, table))
            self.header = tuple(map(str, petl.header(table)))
            _distinct(entity, operation, self.header)

    def apply(self, given: Block) -> tuple[Block, Failures]:
        """The rows, with the origin, after every operation; and the records that failed."""
        self._failures.clear()
        rows: list[Any] = [(id_, *row) for id_, row in zip(given.ids, given.rows, strict=True)]
        for step, table in self._steps:
            step.rows = rows
            rows = list(petl.data(table))
            step.rows = []
        at = self.header.index(ORIGIN)
        rows = [row for row in rows if row[at] not in self._failures]
        return Block([row[at] for row in rows], rows, given.known), dict(self._failures)


class _Given(Table):  # type: ignore[misc]  # petl has no types
    """The table under an operation: its rows are set anew for every block."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.rows: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        yield self.header
        yield from self.rows


class _Record(Mapping[str, Any]):
    """A row as expressions see it: values by name, without the origin. One object serves row after row."""

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


Change = Callable[[Any], Any]
"""What an operation does with one value of the row that its `_Record` shows."""


def _rename(table: Any, names: dict[str, str], _: Failures) -> Any:
    return petl.rename(table, names)


def _convert(given: _Given, conversions: dict[str, Any], failures: Failures) -> Any:
    record = _Record(given.header)
    steps = [
        (column, given.header.index(column), _conversion(wanted, record)) for column, wanted in conversions.items()
    ]
    return _mapped(given, given.header, steps, record, failures)


def _add(given: _Given, columns: dict[str, str], failures: Failures) -> Any:
    header = (*given.header, *columns)
    record, first = _Record(header), len(given.header)
    steps = [
        (column, at, _from_record(expressions.compile_expression(text), record))
        for at, (column, text) in enumerate(columns.items(), first)
    ]
    return _mapped(given, header, steps, record, failures)


def _mapped(
    given: _Given, header: Header, steps: list[tuple[str, int, Change]], record: _Record, failures: Failures
) -> Any:
    """Every row once, whatever the number of columns that change; a column sees those before it as they are by then.

    A failure is kept with the row's origin, and nothing further is done for that row.
    """
    width, origin = len(given.header), given.header.index(ORIGIN)

    def change(row: Any) -> list[Any]:
        values = record.row = list(row)
        if values[origin] in failures:
            return values
        if len(values) < width:
            failures[values[origin]] = "the row is too short"
            return values
        for column, at, work in steps:
            try:
                values[at : at + 1] = [work(values[at] if at < width else None)]
            except Exception as failure:  # noqa: BLE001 - whatever a filter raises is this record's failure and no other's
                failures[values[origin]] = f"field {column!r}: {failure or type(failure).__name__}"
                break
        return values

    return petl.rowmap(given, change, header, failonerror=True)


def _select(given: _Given, text: str, failures: Failures) -> Any:
    holds, record, origin = expressions.compile_condition(text), _Record(given.header), given.header.index(ORIGIN)

    def keep(row: Any) -> bool:
        record.row = tuple(row)
        id_ = record.row[origin]
        if id_ in failures:
            return True
        try:
            return holds(record)
        except expressions.ExpressionError as failure:
            failures[id_] = f"select: {failure}"
            return True

    return petl.select(given, keep)


def _cut(table: Any, columns: list[str], _: Failures) -> Any:
    return petl.cut(table, ORIGIN, *columns)


def _cut_out(table: Any, columns: list[str], _: Failures) -> Any:
    return petl.cutout(table, *columns)


def _move(given: _Given, positions: dict[str, int], _: Failures) -> Any:
    names = list(given.header)
    for column, position in positions.items():
        names.remove(column)
        names.insert(position + 1, column)  # the origin stays first
    return petl.cut(given, *names)


def _fill(given: _Given, values: dict[str, Any], failures: Failures) -> Any:
    steps = [(column, given.header.index(column), _filling(value)) for column, value in values.items()]
    return _mapped(given, given.header, steps, _Record(given.header), failures)


def _filling(filling: Any) -> Change:
    return lambda value: filling if value is None else value


def _split(table: Any, argument: dict[str, Any], failures: Failures) -> Any:
    column, pattern, into = argument["field"], Pattern(argument["pattern"]), argument["into"]

    def parts(value: Any) -> list[Any]:
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{value!r} is not text")
        found = pattern.split(value, len(into) - 1) if value is not None else []
        return [*found, *[None] * (len(into) - len(found))]

    # petl's own `split` stops the whole table at a NULL; its `unpack` does the work on guarded parts.
    split = petl.convert(
        table, column, _guarded(column, failures, parts, [None] * len(into)), pass_row=True, failonerror=True
    )
    return petl.unpack(split, column, into)


def _unpack_dict(table: Any, argument: dict[str, Any], failures: Failures) -> Any:
    column = argument["field"]

    def parse(value: Any) -> dict[str, Any]:
        found = json.loads(value, parse_float=Decimal) if isinstance(value, str) else value
        if found is not None and not isinstance(found, dict):
            raise ValueError("not a JSON object")
        return found or {}

    parsed = petl.convert(table, column, _guarded(column, failures, parse, {}), pass_row=True, failonerror=True)
    return petl.unpackdict(parsed, column, keys=argument["keys"], missing=None)


_STEPS: dict[str, Callable[[Any, Any, Failures], Any]] = {
    "select": _select, "rename": _rename, "convert": _convert, "add": _add, "cut": _cut, "cut_out": _cut_out,
    "move": _move, "fill": _fill, "split": _split, "unpack_dict": _unpack_dict,
}  # fmt: skip


def _conversion(wanted: Any, record: _Record) -> Change:
    if isinstance(wanted, dict):
        # The keys of a map are as YAML reads them; a database may hold 1 where the map says '1'.
        by_text = {str(key): value for key, value in wanted.items()}
        return lambda value: (
            wanted.get(value, by_text.get(str(value), value))
            if isinstance(value, (str, int, float, Decimal))
            else value
        )
    named = expressions.converter(wanted)
    if not isinstance(named, str):
        return lambda value: named(ChainMap({"value": value}, record))  # type: ignore[arg-type]  # it is only read
    if named in expressions.TEXT:
        change = expressions.TEXT[named]
        return lambda value: change(value) if isinstance(value, str) else value
    convert = fields.CONVERTERS[named]  # type: ignore[index]  # one of TYPES
    return lambda value: None if value is None else convert(value)


def _from_record(evaluate: expressions.Expression, record: _Record) -> Change:
    return lambda _: evaluate(record)


def _guarded(column: str, failures: Failures, work: Callable[[Any], Any], failed: Any) -> Any:
    """`work(value)`; a failure is kept with the row's origin, and nothing further is done for that row."""

    def guarded(value: Any, row: Any) -> Any:
        if row[ORIGIN] in failures:
            return failed
        try:
            return work(value)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is this record's failure and no other's
            failures[row[ORIGIN]] = f"field {column!r}: {failure or type(failure).__name__}"
            return failed

    return guarded


def _distinct(entity: Entity, operation: Operation, header: Header) -> None:
    double = next((name for name, times in Counter(header).items() if times > 1), None)
    if double is not None:
        raise EntityError(
            f"entity {entity.name!r}: transform {operation.name!r} makes a second column {double!r}; "
            "`convert` changes a column in place, `cut_out` removes one"
        )


def _require(entity: Entity, operation: Operation, header: Header) -> None:
    argument = operation.argument
    if operation.name in ("add", "select"):
        return
    needed = [argument["field"]] if operation.name in ("split", "unpack_dict") else list(argument)
    there_are = set(header)
    missing = [name for name in needed if name not in there_are]
    if missing:
        there = ", ".join(str(name) for name in header if name != ORIGIN)
        raise EntityError(
            f"entity {entity.name!r}: transform {operation.name!r} names the column {missing[0]!r}, which is not there; there are: {there}"
        )
