"""Sandboxed Jinja expressions over a record, and the named conversions of `convert`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.model import FieldType

Expression = Callable[[Mapping[str, Any]], Any]

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)

TYPES: tuple[FieldType, ...] = ("guid", "string", "int", "float", "decimal", "bool", "date", "datetime", "binary")
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
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ExpressionError(f"bad expression {_shown(text)}: {failure.message}{hint}") from None
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
        except (
            TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
            RecursionError,
            MemoryError,
        ) as failure:
            raise ExpressionError(f"expression {_shown(text)} fails: {failure}") from None

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
