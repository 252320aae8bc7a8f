"""The operators of expressions and SQL templates, charged to a budget."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from jinja2.exceptions import SecurityError

from engine.sandbox.budget import Budget, power, text, weigh, whole

_PLAIN: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "//": operator.floordiv, "%": operator.mod, "**": operator.pow,
}  # fmt: skip
SIGNS = frozenset(_PLAIN)
_SERIES = (str, bytes, bytearray, list, tuple)
_FORMAT = re.compile(r"%(?:[-+ 0#]{0,5}\d{0,3}(?:\.\d{0,2})?[sdifgGeExXo]|%)")
_WIDEST = 1100
"""Maximum characters that one `%` of a format adds to its value: a width has at most three digits, a precision two."""


def calculate(budget: Budget, sign: str, left: Any, right: Any) -> Any:
    """Compute `left sign right`. Raises `SecurityError` before it exceeds the budget."""
    if sign == "%" and isinstance(left, (str, bytes, bytearray)):
        return formatted(budget, left, right if isinstance(right, tuple) else (right,))
    if sign == "**" and isinstance(left, int) and isinstance(right, int):
        return power(left, right)
    whole(left)
    whole(right)
    if sign == "*":
        _check_repeated(budget, left, right)
    elif sign == "+" and isinstance(left, _SERIES) and isinstance(right, _SERIES):
        budget.take(len(left) + len(right))
    return whole(_PLAIN[sign](left, right))


def _check_repeated(budget: Budget, left: Any, right: Any) -> None:
    for series, times in ((left, right), (right, left)):
        if isinstance(series, _SERIES) and isinstance(times, int):
            budget.take(weigh(series) * max(times, 0))


def join(budget: Budget, parts: Sequence[Any], between: str = "") -> str:
    """Join parts to one text."""
    texts = [text(budget, part) for part in parts]
    budget.take(sum(map(len, texts)) + len(between) * max(len(texts) - 1, 0))
    return between.join(texts)


def formatted(budget: Budget, pattern: Any, values: Sequence[Any]) -> str:
    """Compute `pattern % values`, with limited widths. Raises `TypeError` for NULL among the values."""
    if not isinstance(pattern, str) or "%" in _FORMAT.sub("", pattern):
        raise SecurityError("a format takes %s, %d, %.2f and the like, with a width of at most three digits")
    if any(value is None for value in values):
        raise TypeError("a part of it is NULL")
    budget.take(len(pattern) + _WIDEST * pattern.count("%") + sum(weigh(value) for value in values))
    for value in values:
        if isinstance(value, (int, Decimal)):
            whole(value)
    return pattern % tuple(values)
