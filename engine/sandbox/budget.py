"""The bound of one evaluation: what it makes is counted before memory is taken for it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from jinja2.exceptions import SecurityError

LARGEST = 1_000_000
"""Characters, items and steps that one evaluation may make, all of its operations together."""
_DIGITS = 1000
_BITS = 3322
"""Bits of a number of so many digits."""


class Budget:
    """What is left to one evaluation of an expression, or one rendering of a template."""

    __slots__ = ("left", "most")

    def __init__(self, most: int = LARGEST) -> None:
        self.left = self.most = most

    def take(self, size: int) -> None:
        """Count what is about to be made. Raises `SecurityError` when it is too much."""
        self.left -= size
        if self.left < 0:
            raise SecurityError(f"it would make more than {self.most:,} characters, items or steps")

    def made(self, value: str) -> str:
        """A text that was made and cannot be much longer than what it was made of."""
        self.take(len(value))
        return value


def weigh(value: Any) -> int:
    """Characters, digits and items of a value, those inside included. Raises `SecurityError` above `LARGEST`."""
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
    """A value as text. Raises `TypeError` for NULL."""
    if isinstance(value, str):
        return value
    if value is None:
        raise TypeError("a part of it is NULL")
    budget.take(weigh(value))
    return str(value)


def whole(value: Any) -> Any:
    """A number as it is. Raises `SecurityError` for a whole number of more digits than any database holds."""
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise SecurityError(f"a number of more than {_DIGITS:,} digits")
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) > _DIGITS:
        raise SecurityError(f"a number of more than {_DIGITS:,} digits")
    return value


def power(base: int, exponent: int) -> int:
    """A whole number raised to another, if the result is a number that `whole` takes."""
    if abs(exponent) * base.bit_length() > _BITS:
        raise SecurityError(f"a number of more than {_DIGITS:,} digits")
    return base**exponent  # type: ignore[no-any-return]  # a float where the exponent is negative
