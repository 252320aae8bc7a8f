"""The tests (`value is defined`) that expressions and SQL templates may use."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from jinja2 import tests as jinja


def _number(value: Any) -> Any:
    """Return the value if it is a number; on text, `%` would format."""
    if not isinstance(value, (int, float, Decimal)):
        raise TypeError(f"a number is needed, not a value of type {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text is needed, not a value of type {type(value).__name__}")
    return value


_OF_JINJA = (
    "defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string", "mapping", "sequence",
    "iterable", "in", "==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", ">=", "ge", "<", "lt", "lessthan", "<=", "le",
)  # fmt: skip
TESTS: dict[str, Callable[..., Any]] = {
    **{name: jinja.TESTS[name] for name in _OF_JINJA},  # type: ignore[misc]  # Jinja types them as plain functions
    "divisibleby": lambda value, number: bool(_number(value) % _number(number) == 0),
    "even": lambda value: bool(_number(value) % 2 == 0),
    "odd": lambda value: bool(_number(value) % 2 == 1),
    "lower": lambda value: _text(value).islower(),
    "upper": lambda value: _text(value).isupper(),
}
