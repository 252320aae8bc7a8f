"""Fast path for whole columns: one whose values all have their type already, the usual case, is not converted one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.identity import canonical_guids
from engine.spec.field_types import FieldType
from engine.sync.model import Field
from engine.sync.shape.fields import CONVERTERS, natural

Values = Sequence[Any]
Convert = Callable[[Any], Any]
Quick = Callable[[Values], Values | None]
"""Fast path: the column as it is sent, or None where each value must be checked by itself."""


def converter(field: Field | None) -> Convert:
    """Return the converter of a field's values, or of values without a contract. The converter raises `ValueError`."""
    if field is None:
        return natural
    convert, nullable = CONVERTERS[field.type], field.nullable

    def checked(value: Any) -> Any:
        if value is not None:
            return convert(value)
        if nullable:
            return None
        raise ValueError("is NULL, which its type does not allow (`?` would)")

    return checked


def column(field: Field | None) -> Callable[[Values], Values]:
    """Return the same conversion as `converter`, for all values of a column."""
    convert = converter(field)
    quick, nullable = (_QUICK.get(field.type), field.nullable) if field else (_natural, True)

    def whole(values: Values) -> Values:
        found = quick(values) if quick else None
        if found is None and quick and nullable and None in values:
            present = quick([value for value in values if value is not None])
            if present is not None:
                following = iter(present)
                return [None if value is None else next(following) for value in values]
        return [convert(value) for value in values] if found is None else found

    return whole


def _text(values: Values) -> Values | None:
    try:
        joined = "".join(values)
        return values if joined.isascii() or joined.encode() else None
    except (TypeError, UnicodeEncodeError):
        return None


def _integers(values: Values) -> Values | None:
    return values if set(map(type, values)) <= {int} else None


def _natural(values: Values) -> Values | None:
    types = set(map(type, values))
    if types == {str}:
        return _text(values)
    return values if types <= {int, bool} else None


_QUICK: dict[FieldType, Quick] = {"string": _text, "guid": canonical_guids, "int": _integers}
