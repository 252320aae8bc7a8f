"""The items of a run: read once at its start, each with a key of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.db.connection import Connection
from engine.errors import DatabaseError, EntityError, RunRefused, SourceError
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
    locked: str | None = None
    """Who has locked it and since when, in words; None where nobody has."""


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
            made = _item(each, values, number, known)
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


def _item(each: ForEach, values: Mapping[str, Any], number: int, known: Mapping[str, Any]) -> Item:
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
    name = str(key if label is None else label)[:400]
    return Item(str(key), name, values, _locked(each, name, {**known, "item": values}))


def _locked(each: ForEach, label: str, known: Mapping[str, Any]) -> str | None:
    lock = each.locked
    try:
        if lock is None or not expressions.compile_condition(lock.when)(known):
            return None
        by = expressions.compile_expression(lock.by)(known) if lock.by else None
        since = expressions.compile_expression(lock.since)(known) if lock.since else None
    except expressions.ExpressionError as failure:
        raise EntityError(f"`for_each.locked` fails for {label!r}: {failure}") from failure
    whom = f" by {by}" if by is not None else ""
    return f"{each.noun} {label!r} is locked{whom}{f' since {str(since)[:19]}' if since is not None else ''}"


def refuse_locked(found: list[Item], each: ForEach | None) -> None:
    """Raises `RunRefused` that names every locked item and who has it, where the job does not skip them."""
    locked = [item.locked for item in found if item.locked]
    if locked and each and each.locked and not each.locked.skip:
        more = f" (and {len(locked) - 5} more)" if len(locked) > 5 else ""
        raise RunRefused("; ".join(locked[:5]) + more + "; nothing was begun")
