"""Expressions over a record in Jinja's syntax, and the named conversions of `convert`. See docs/expressions.md."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_args

from jinja2 import TemplateSyntaxError
from jinja2.exceptions import SecurityError

from engine.sandbox.budget import weigh
from engine.spec.allowed import NotAllowed
from engine.spec.evaluate import Compiled, Scope
from engine.spec.field_types import FieldType
from engine.spec.null import Null

Expression = Callable[[Mapping[str, Any]], Any]
Condition = Callable[[Mapping[str, Any]], bool]

TYPES: tuple[FieldType, ...] = get_args(FieldType)
TEXT: dict[str, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper, "strip": str.strip}


class ExpressionError(ValueError):
    """The expression cannot be compiled, or fails for a record; the text says why."""


def compile_expression(text: str) -> Expression:
    """Compile an expression to a function of a record. Both raise `ExpressionError`."""
    compiled = _compiled(text)

    def evaluate(record: Mapping[str, Any]) -> Any:
        try:
            return _value(compiled, record, text)
        except Null as unknown:
            raise ExpressionError(f"expression {_shown(text)} fails: {unknown}") from None

    return evaluate


def compile_condition(text: str) -> Condition:
    """Compile an expression to a condition; unknown (NULL) counts as false. Both raise `ExpressionError`."""
    compiled = _compiled(text)

    def holds(record: Mapping[str, Any]) -> bool:
        try:
            return bool(_value(compiled, record, text))
        except Null:
            return False

    return holds


@lru_cache(maxsize=500)
def _compiled(text: str) -> Compiled:
    try:
        return Compiled(text)
    except (NotAllowed, SecurityError, TemplateSyntaxError) as failure:
        raise ExpressionError(f"bad expression {_shown(text)}: {str(failure).rstrip('.')}") from None
    except (RecursionError, ValueError, OverflowError, MemoryError) as failure:
        raise ExpressionError(f"bad expression {_shown(text)}: {type(failure).__name__}; it is too large") from None


def _value(compiled: Compiled, record: Mapping[str, Any], text: str) -> Any:
    try:
        value = compiled.evaluate(Scope(record))
        if isinstance(value, (list, tuple, dict)):
            weigh(value)
        return value
    except Null:
        raise
    except SecurityError as failure:
        raise ExpressionError(f"expression {_shown(text)} is not allowed: {failure}") from None
    except Exception as failure:  # noqa: BLE001 - whatever a filter raises is this record's failure
        raise ExpressionError(f"expression {_shown(text)} fails: {failure or type(failure).__name__}") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def variables(text: str) -> set[str]:
    """Return the names that an expression reads from its record; empty for an invalid one."""
    try:
        compiled = _compiled(text)
    except ExpressionError:
        return set()
    return compiled.needed | compiled.optional


def needed(text: str) -> set[str]:
    """Return the names that an expression requires: not those with a default or tested for presence. Empty for an invalid one."""
    try:
        return _compiled(text).needed
    except ExpressionError:
        return set()


def converter(text: str) -> str | Expression:
    """Return the known conversion that a text under `convert` names, or compile it as an expression over `value`."""
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
