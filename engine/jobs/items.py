"""The items of a run: read once at its start, each with a key of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.db.connection import Connection
from engine.errors import DatabaseError, EntityError, SourceError
from engine.jobs import script
from engine.jobs.model import ForEach
from engine.jobs.values import Values
from engine.spec import expressions

_LONGEST = 255
ONLY = ""
"""The key of the only item of a job without `for_each`."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item: its key in the store, what people read, and its values by column."""

    key: str
    label: str
    values: Mapping[str, Any]


def read(each: ForEach | None, connect: Callable[[str | None], Connection], known: Mapping[str, Any]) -> list[Item]:
    """The items, in order. `known` is what expressions see: `params`, `run`.

    Raises `SourceError` where they cannot be read, and `EntityError` for a key that is NULL, too long or there twice.
    """
    if each is None:
        return [Item(ONLY, "", Values((), ()))]
    where = expressions.compile_condition(each.where) if each.where else None
    found: dict[str, Item] = {}
    for number, values in enumerate(_values(each, connect, known), 1):
        try:
            taken = where is None or where({**known, "item": values})
        except expressions.ExpressionError as failure:
            raise EntityError(f"`for_each.where` fails for row {number}: {failure}") from failure
        if taken:
            made = _item(each, values, number)
            if made.key in found:
                raise EntityError(
                    f"`for_each` gives the key {made.key!r} twice; the column {each.key!r} must be unique"
                )
            found[made.key] = made
    return list(found.values())


def _values(
    each: ForEach, connect: Callable[[str | None], Connection], known: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    if each.items is not None:
        try:
            entries = expressions.compile_expression(each.items)(known)
        except expressions.ExpressionError as failure:
            raise EntityError(f"`for_each.items` fails: {failure}") from failure
        if not isinstance(entries, (list, tuple)):
            raise EntityError(f"`for_each.items` gives {type(entries).__name__} instead of a list")
        yield from (Values(("value",), (entry,)) for entry in entries)
        return
    assert each.query is not None, "the schema and its rules ask for one of the two"  # noqa: S101
    connection = connect(each.connection)
    try:
        (statement,) = script.statements(connection, each.query, known)
        found = connection.execute(statement)
    except DatabaseError as failure:
        raise SourceError(f"the items cannot be read: {failure}") from failure
    for row in found.rows:
        yield Values(found.columns, row)


def _item(each: ForEach, values: Mapping[str, Any], number: int) -> Item:
    for name in (each.key, each.label or each.key):
        if name not in values:
            raise EntityError(f"`for_each` has no column {name!r}; there are: {', '.join(values)}")
    key = values[each.key]
    if key is None:
        raise EntityError(f"row {number} of `for_each` has no key: the column {each.key!r} is NULL")
    if not str(key) or len(str(key)) > _LONGEST:
        raise EntityError(
            f"the key of row {number} of `for_each` has {len(str(key))} characters; 1 to {_LONGEST} are stored"
        )
    label = values[each.label or each.key]
    return Item(str(key), str(key if label is None else label)[:400], values)
