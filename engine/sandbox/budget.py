"""The budget of one evaluation: output is charged before memory is allocated for it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from jinja2.exceptions import SecurityError

LARGEST = 1_000_000
"""Maximum characters, items and steps of one evaluation, over all of its operations."""
_DIGITS = 1000
_BITS = 3322
"""Bits of a number of `_DIGITS` digits."""


class Budget:
    """The remaining budget of one evaluation of an expression, or one rendering of a template."""

    __slots__ = ("left", "most")

    def __init__(self, most: int = LARGEST) -> None:
        self.left = self.most = most

    def take(self, size: int) -> None:
        """Charge for output before it is made. Raises `SecurityError` if the budget is exceeded."""
        self.left -= size
        if self.left < 0:
            raise SecurityError(f"it would make more than {self.most:,} characters, items or steps")

    def made(self, value: str) -> str:
        """Charge for a text that is made already, and return it; only for texts not much longer than their input."""
        self.take(len(value))
        return value


def weigh(value: Any) -> int:
    """Return the characters, digits and items of a value, nested ones included. Raises `SecurityError` above `LARGEST`."""
    size, pending = 0, [value]
    while pending:
        part = pending.pop()
        if isinstance(part, (str, bytes, bytearray, range)):
            size += len(part)
        elif isinstance(part, (list, tuple)):
            size += len(part)
            pending.extend(part)
        elif isinstance(part, Mapping):
            size += 2 * len(part)
            pending.extend(part)
            pending.extend(part.values())
        elif isinstance(part, Decimal):
            size += abs(part.adjusted()) if part.is_finite() else 3
        else:
            size += 20
        if size > LARGEST:
            raise SecurityError(f"a value of more than {LARGEST:,} characters or items")
    return size


def text(budget: Budget, value: Any) -> str:
    """Convert a value to text. Raises `TypeError` for NULL."""
    if isinstance(value, str):
        return value
    if value is None:
        raise TypeError("a part of it is NULL")
    budget.take(weigh(value))
    return str(value)


def whole(value: Any) -> Any:
    """Return a value unchanged. Raises `SecurityError` for a number of more digits than any database holds."""
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise SecurityError(f"a number of more than {_DIGITS:,} digits")
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) > _DIGITS:
        raise SecurityError(f"a number of more than {_DIGITS:,} digits")
    return value


def power(base: int, exponent: int) -> int:
    """Raise a whole number to a power. Raises `SecurityError` if the result would exceed the limit of `whole`."""
    if abs(exponent) * base.bit_length() > _BITS:
        raise SecurityError(f"a number of more than {_DIGITS:,} digits")
    return base**exponent  # type: ignore[no-any-return]  # a float where the exponent is negative
