"""The operations of `transform`: the columns each needs and yields, and its petl table. Only this module knows their names.

It imports petl, which takes a fifth of a short run's start: import it only for a spec that has a `transform`.
"""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import petl

from engine.spec import expressions
from engine.spec.patterns import Pattern
from engine.sync.model import Expressed, Named
from engine.sync.read.block import ORIGIN, Header
from engine.sync.shape import fields
from engine.sync.shape.rows import Failures, Given, Record

Change = Callable[[Any], Any]
"""What an operation does with one value of the row that its `Record` shows."""


def make(name: str, argument: Any) -> Operation:
    """Return an operation of a spec that passed the schema. Raises `PatternError` for a pattern that does not compile."""
    return _KINDS[name](argument)


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of `transform`, with its argument as written."""

    argument: Any
    name: ClassVar[str]
    names_all: ClassVar[bool] = False
    """True if the resulting columns do not depend on the given ones."""

    def __post_init__(self) -> None:
        """Check what the schema cannot express."""

    def columns(self) -> Iterator[Named]:
        """Yield the required columns, each with its place below the operation."""
        yield from ()

    def expressions(self) -> Iterator[Expressed]:
        """Yield the expressions, each with its place below the operation."""
        yield from ()

    def after(self, names: Sequence[str]) -> list[str]:
        """Return the resulting columns, in any order."""
        return list(names)

    def table(self, given: Given, failures: Failures) -> Any:
        """Return the petl table of the operation. A record that fails is added to `failures` and stays in the table."""
        raise NotImplementedError


class _ByColumn(Operation):
    """An operation whose argument has columns as its keys."""

    __slots__ = ()

    def columns(self) -> Iterator[Named]:
        for column in self.argument:
            if isinstance(column, str):
                yield Named((column,), column, at_key=True)


class Rename(_ByColumn):
    """Rename columns."""

    __slots__ = ()
    name = "rename"

    def after(self, names: Sequence[str]) -> list[str]:
        return [*_without(names, self.argument), *self.argument.values()]

    def table(self, given: Given, failures: Failures) -> Any:  # noqa: ARG002 - nothing fails
        return petl.rename(given, self.argument)


class Convert(_ByColumn):
    """Change columns in place: by a type, a map or an expression."""

    __slots__ = ()
    name = "convert"

    def expressions(self) -> Iterator[Expressed]:
        for column, text in self.argument.items():
            if isinstance(text, str) and not text.isidentifier():
                yield Expressed((column,), text, frozenset({"value"}))

    def table(self, given: Given, failures: Failures) -> Any:
        record = Record(given.header)
        steps = [
            (column, given.header.index(column), _conversion(wanted, record))
            for column, wanted in self.argument.items()
        ]
        return _mapped(given, given.header, steps, record, failures)


class Fill(_ByColumn):
    """Replace NULL by a value."""

    __slots__ = ()
    name = "fill"

    def table(self, given: Given, failures: Failures) -> Any:
        steps = [(column, given.header.index(column), _filling(value)) for column, value in self.argument.items()]
        return _mapped(given, given.header, steps, Record(given.header), failures)


class Move(_ByColumn):
    """Move columns to other positions."""

    __slots__ = ()
    name = "move"

    def table(self, given: Given, failures: Failures) -> Any:  # noqa: ARG002 - nothing fails
        names = list(given.header)
        for column, position in self.argument.items():
            names.remove(column)
            names.insert(position + 1, column)  # the origin stays first
        return petl.cut(given, *names)


class Add(Operation):
    """Add columns, each by an expression that sees those before it."""

    __slots__ = ()
    name = "add"

    def expressions(self) -> Iterator[Expressed]:
        made: frozenset[str] = frozenset()
        for column, text in self.argument.items():
            yield Expressed((column,), text, made)
            made |= {str(column)}

    def after(self, names: Sequence[str]) -> list[str]:
        return [*names, *map(str, self.argument)]

    def table(self, given: Given, failures: Failures) -> Any:
        header = (*given.header, *self.argument)
        record, first = Record(header), len(given.header)
        steps = [
            (column, at, _from_record(expressions.compile_expression(text), record))
            for at, (column, text) in enumerate(self.argument.items(), first)
        ]
        return _mapped(given, header, steps, record, failures)


class Select(Operation):
    """Keep the records for which an expression holds."""

    __slots__ = ()
    name = "select"

    def expressions(self) -> Iterator[Expressed]:
        yield Expressed((), self.argument)

    def table(self, given: Given, failures: Failures) -> Any:
        holds, record = expressions.compile_condition(self.argument), Record(given.header)
        origin = given.header.index(ORIGIN)

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


class _OfColumns(Operation):
    """An operation whose argument is a list of columns."""

    __slots__ = ()

    def columns(self) -> Iterator[Named]:
        for number, column in enumerate(self.argument):
            yield Named((number,), column, at_key=False)


class Cut(_OfColumns):
    """Keep only these columns."""

    __slots__ = ()
    name, names_all = "cut", True

    def after(self, names: Sequence[str]) -> list[str]:  # noqa: ARG002 - what was there before does not matter
        return list(self.argument)

    def table(self, given: Given, failures: Failures) -> Any:  # noqa: ARG002 - nothing fails
        return petl.cut(given, ORIGIN, *self.argument)


class CutOut(_OfColumns):
    """Remove these columns."""

    __slots__ = ()
    name = "cut_out"

    def after(self, names: Sequence[str]) -> list[str]:
        return _without(names, self.argument)

    def table(self, given: Given, failures: Failures) -> Any:  # noqa: ARG002 - nothing fails
        return petl.cutout(given, *self.argument)


class _OfField(Operation):
    """An operation that splits one column into several."""

    __slots__ = ()
    into: ClassVar[str]

    def columns(self) -> Iterator[Named]:
        yield Named(("field",), self.argument["field"], at_key=False)

    def after(self, names: Sequence[str]) -> list[str]:
        return [*_without(names, [self.argument["field"]]), *self.argument[self.into]]


class Split(_OfField):
    """Split text into columns at a pattern."""

    __slots__ = ()
    name, into = "split", "into"

    def __post_init__(self) -> None:
        Pattern(self.argument["pattern"])

    def table(self, given: Given, failures: Failures) -> Any:
        column, pattern, into = self.argument["field"], Pattern(self.argument["pattern"]), self.argument["into"]

        def parts(value: Any) -> list[Any]:
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{value!r} is not text")
            found = pattern.split(value, len(into) - 1) if value is not None else []
            return [*found, *[None] * (len(into) - len(found))]

        # petl's own `split` fails for the whole table at a NULL; so convert with a guard, then `unpack`.
        guarded = _guarded(column, failures, parts, [None] * len(into))
        return petl.unpack(petl.convert(given, column, guarded, pass_row=True, failonerror=True), column, into)


class UnpackDict(_OfField):
    """Turn the keys of a JSON object into columns."""

    __slots__ = ()
    name, into = "unpack_dict", "keys"

    def table(self, given: Given, failures: Failures) -> Any:
        column = self.argument["field"]

        def parse(value: Any) -> dict[str, Any]:
            found = json.loads(value, parse_float=Decimal) if isinstance(value, str) else value
            if found is not None and not isinstance(found, dict):
                raise ValueError("not a JSON object")
            return found or {}

        parsed = petl.convert(given, column, _guarded(column, failures, parse, {}), pass_row=True, failonerror=True)
        return petl.unpackdict(parsed, column, keys=self.argument["keys"], missing=None)


_KINDS = {kind.name: kind for kind in (Select, Rename, Convert, Add, Cut, CutOut, Move, Fill, Split, UnpackDict)}


def _without(names: Iterable[str], gone: Iterable[Any]) -> list[str]:
    left = {name.casefold() for name in gone if isinstance(name, str)}
    return [name for name in names if name.casefold() not in left]


def _mapped(
    given: Given, header: Header, steps: list[tuple[str, int, Change]], record: Record, failures: Failures
) -> Any:
    """Change several columns in one pass over the rows; each step sees the results of those before it.

    A failure is recorded under the row's origin, and the rest of that row is skipped.
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


def _filling(filling: Any) -> Change:
    return lambda value: filling if value is None else value


def _conversion(wanted: Any, record: Record) -> Change:
    if isinstance(wanted, dict):
        # The keys of a map have YAML's types; a database may hold 1 where the map has '1'.
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


def _from_record(evaluate: expressions.Expression, record: Record) -> Change:
    return lambda _: evaluate(record)


def _guarded(column: str, failures: Failures, work: Callable[[Any], Any], failed: Any) -> Any:
    """Call `work(value)`; a failure is recorded under the row's origin, and the rest of that row is skipped."""

    def guarded(value: Any, row: Any) -> Any:
        if row[ORIGIN] in failures:
            return failed
        try:
            return work(value)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is this record's failure and no other's
            failures[row[ORIGIN]] = f"field {column!r}: {failure or type(failure).__name__}"
            return failed

    return guarded
