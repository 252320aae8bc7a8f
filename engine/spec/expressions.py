"""Sandboxed Jinja expressions over a record, and the named conversions of `convert`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from jinja2 import StrictUndefined, TemplateSyntaxError, meta
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.model import FieldType

Expression = Callable[[Mapping[str, Any]], Any]

_LARGEST = 100_000
"""Characters or digits that an operation of an expression may make."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Refuses what would take the machine down: an expression serves one record."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and _size(left) * _size(right) > _LARGEST:
            raise SecurityError("the product would be too large")
        if operator == "**" and (abs(right) > 1000 or _size(left) * abs(right) > _LARGEST):
            raise SecurityError("the power would be too large")
        if operator == "%" and isinstance(left, str) and re.search(r"\d{5}|\*", left):
            raise SecurityError("the format would be too wide")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(getattr(obj, "__self__", None), (str, bytes)) and any(
            _size(value, width=True) > _LARGEST for value in args
        ):
            raise SecurityError("the text would be too long")
        return super().call(context, obj, *args, **kwargs)


def _size(value: Any, *, width: bool = False) -> int:
    """Characters of a text, items of a list, digits of a number (or, as a width, the number itself)."""
    if isinstance(value, (str, bytes, list, tuple)):
        return 1 if width else len(value)
    if isinstance(value, int):
        return abs(value) if width else max(1, int(value).bit_length() // 3)
    return 1


def _center(value: str, width: int = 80) -> str:
    if width > _LARGEST:
        raise SecurityError("the text would be too long")
    return str(value).center(width)


_ENVIRONMENT = _Sandbox(undefined=StrictUndefined, autoescape=False)
_ENVIRONMENT.filters = {**_ENVIRONMENT.filters, "center": _center}

TYPES: tuple[FieldType, ...] = get_args(FieldType)
TEXT: dict[str, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper, "strip": str.strip}


class ExpressionError(ValueError):
    """The expression cannot be compiled, or fails for a record; the text says why."""


def compile_expression(text: str) -> Expression:
    """An expression as a function of a record. Raises `ExpressionError`, when compiled and when called."""
    try:
        compiled = _ENVIRONMENT.compile_expression(text, undefined_to_none=False)
    except TemplateSyntaxError as failure:
        unknown = re.search(r"No (?:filter|test) named '([^']*)'", failure.message or "")
        near = (
            difflib.get_close_matches(unknown[1], [*_ENVIRONMENT.filters, *_ENVIRONMENT.tests], n=1) if unknown else []
        )
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ExpressionError(f"bad expression {_shown(text)}: {str(failure.message).rstrip('.')}{hint}") from None
    except (RecursionError, ValueError, OverflowError, MemoryError) as failure:
        raise ExpressionError(f"bad expression {_shown(text)}: {type(failure).__name__}; it is too large") from None

    def evaluate(record: Mapping[str, Any]) -> Any:
        try:
            value = compiled(record)
            if isinstance(value, StrictUndefined):
                str(value)
            return value
        except SecurityError as failure:
            raise ExpressionError(f"expression {_shown(text)} is not allowed: {failure}") from None
        except Exception as failure:  # noqa: BLE001 - whatever a filter raises is this record's failure
            raise ExpressionError(f"expression {_shown(text)} fails: {failure or type(failure).__name__}") from None

    return evaluate


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def variables(text: str) -> set[str]:
    """The names that an expression takes from its record."""
    try:
        return meta.find_undeclared_variables(_ENVIRONMENT.parse("{{ " + text + " }}"))
    except (TemplateSyntaxError, RecursionError, ValueError):
        return set()


def converter(text: str) -> str | Expression:
    """What a text under `convert` names: one of the known conversions, or an expression over `value`."""
    if text in TYPES or text in TEXT:
        return text
    if text.isidentifier() and text != "value":
        near = difflib.get_close_matches(text, [*TYPES, *TEXT], n=1)
        hint = (
            f"; did you mean {near[0]!r}?"
            if near
            else f"; there are: {', '.join([*TYPES, *TEXT])}, or an expression over `value`"
        )
        raise ExpressionError(f"unknown conversion {text!r}{hint}")
    return compile_expression(text)
