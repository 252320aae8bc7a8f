"""NULL in expressions: an operation on it has no value, and a condition on it is unknown.

As in SQL's three-valued logic (ISO 9075-2, section 6.39), `and`, `or` and chained comparisons still have a result where the
other side alone decides it. `==`, `!=`, `in` a list and `is` compare NULL as a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import nodes

Evaluate = Callable[[Any], Any]
"""A part of an expression, as a function of the evaluation's `Scope`."""


class Null(Exception):
    """An operation met NULL; the text says what is NULL."""


def present(value: Any, name: str) -> Any:
    """Return the value. Raises `Null` if it is NULL."""
    if value is None:
        raise Null(f"{name} is NULL")
    return value


def none_of(values: Sequence[Any], names: Sequence[str]) -> None:
    """Check that no value is NULL. Raises `Null` for the first one that is."""
    for value, name in zip(values, names, strict=False):
        present(value, name)


def decided(left: Evaluate, right: Evaluate, *, by: bool) -> Evaluate:
    """Build `left or right` (a true side decides) or `left and right` (a false one does); a side may be unknown."""

    def decide(scope: Any) -> Any:
        try:
            first = left(scope)
        except Null as unknown:
            second = right(scope)
            if bool(second) is by:
                return second
            raise unknown from None
        return first if bool(first) is by else right(scope)

    return decide


def compared(holds: Callable[[Any, Any], Any], left: Any, right: Any, names: Sequence[str]) -> bool:
    """Return whether a comparison holds. Raises `Null` if it is unknown."""
    try:
        return bool(holds(left, right))
    except TypeError:
        none_of((left, right), names)
        raise


def written(node: nodes.Node) -> str:
    """Return a part of an expression as text, close to how its author wrote it."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        return f"{written(node.node)}.{node.attr}"
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return f"{written(node.node)}[{node.arg.value!r}]"
    if isinstance(node, nodes.Filter) and node.node:
        return f"{written(node.node)} | {node.name}"
    if isinstance(node, nodes.Const):
        return "none" if node.value is None else repr(node.value)
    return "a part of it"
