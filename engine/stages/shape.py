"""Turns source rows into records: the transforms of the spec, then the record contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from petl.util.base import Table

from engine.errors import EntityError
from engine.identity import is_canonical_guid
from engine.model import Entity, Field, Rejection
from engine.stages import transform
from engine.stages.counts import Counts
from engine.stages.exclude import Reject
from engine.stages.fields import CONVERTERS, natural
from engine.stages.origin import ORIGIN


class Records(Table):  # type: ignore[misc]  # petl has no types
    """A petl table with the origin and exactly the fields of the contract, in order, converted."""

    def __init__(self, due: Any, entity: Entity, reject: Reject, counts: Counts) -> None:
        self._due, self._entity, self._reject, self._counts = due, entity, reject, counts

    def __iter__(self) -> Iterator[Sequence[Any]]:
        # The header is asked for at every step; the rows below it are read once.
        rows = iter(transform.apply(transform.Once(self._due), self._entity, self._counts))
        header = [str(name) for name in next(rows)]
        names, positions, converters = _contract(self._entity, header)
        yield (ORIGIN, *names)
        origin_at = header.index(ORIGIN)
        for row in rows:
            origin = row[origin_at]
            if origin.failure is None:
                try:
                    yield (origin, *[convert(row[at]) for convert, at in zip(converters, positions, strict=True)])
                    continue
                except (ValueError, IndexError, RecursionError):
                    origin.fail(_first_broken(row, names, positions, converters))
            origin.leave()
            self._reject(Rejection(origin.id, origin.failure))


def records(due: Any, entity: Entity, *, reject: Reject, counts: Counts | None = None) -> Records:
    """The records of a petl table with an origin column. One that breaks its contract goes to `reject` with the reason.

    Iterating raises `EntityError` when a column that the spec names is not there.
    """
    return Records(due, entity, reject, counts or Counts())


def _contract(entity: Entity, header: list[str]) -> tuple[list[str], list[int], list[Callable[[Any], Any]]]:
    if entity.fields is None:
        positions = [position for position, name in enumerate(header) if name != ORIGIN]
        return [header[position] for position in positions], positions, [natural] * len(positions)
    missing = [field.name for field in entity.fields if field.name not in header]
    if missing:
        there = ", ".join(name for name in header if name != ORIGIN)
        names = ", ".join(repr(name) for name in missing)
        raise EntityError(f"entity {entity.name!r}: no column gives the field {names}; there are: {there}")
    converters = [_converter(field) for field in entity.fields]
    return [field.name for field in entity.fields], [header.index(field.name) for field in entity.fields], converters


def _converter(field: Field) -> Callable[[Any], Any]:
    """What a field does with a value. Most values are in order already, and one look must tell: there are millions."""
    convert = CONVERTERS[field.type]

    def checked(value: Any) -> Any:
        if value is not None:
            return convert(value)
        if field.nullable:
            return None
        raise ValueError("is NULL, which its type does not allow (`?` would)")

    if field.type == "string":
        return lambda value: value if type(value) is str and value.isascii() else checked(value)
    if field.type == "int":
        return lambda value: value if type(value) is int else checked(value)
    if field.type == "guid":
        return lambda value: value if is_canonical_guid(value) else checked(value)
    return checked


def _first_broken(
    row: Sequence[Any], names: list[str], positions: list[int], converters: list[Callable[[Any], Any]]
) -> str:
    for name, position, convert in zip(names, positions, converters, strict=True):
        try:
            convert(row[position])
        except IndexError:
            return f"field {name!r}: the row is too short"
        except ValueError as failure:
            return f"field {name!r}: {failure}"
        except RecursionError:
            return f"field {name!r}: the value is nested too deeply"
    raise AssertionError("a row that failed converts now")  # pragma: no cover - converters are pure
