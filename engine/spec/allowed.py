"""Checks at compile time which filters, tests and methods an expression may use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from jinja2 import filters, nodes, tests

from engine.sandbox import methods
from engine.sandbox.filters import FILTERS
from engine.sandbox.tests import TESTS
from engine.spec.suggest import did_you_mean


class NotAllowed(ValueError):
    """The expression uses something unknown or not allowed; the text lists alternatives."""


def check_filter(node: nodes.Filter) -> None:
    """Check a filter. Raises `NotAllowed` if it is unknown or cannot take these arguments."""
    name = node.name
    if name not in FILTERS:
        raise NotAllowed(_unknown("filter", name, filters.FILTERS, FILTERS))
    if node.node is None:
        raise NotAllowed(f"the filter {name!r} has nothing before it")
    _check_arguments("filter", node, FILTERS[name], 2)
    _check_named_inside(node)


def check_test(node: nodes.Test) -> None:
    """Check a test. Raises `NotAllowed` if it is unknown or cannot take these arguments."""
    if node.name not in TESTS:
        raise NotAllowed(_unknown("test", node.name, tests.TESTS, TESTS))
    _check_arguments("test", node, TESTS[node.name], 1)


def check_method(name: str) -> None:
    """Check a method name. Raises `NotAllowed` if no type has it."""
    if name not in methods.NAMES:
        raise NotAllowed(f"the method {name!r} is not allowed{did_you_mean(name, methods.NAMES)}")


def _unknown(what: str, name: str, of_jinja: Collection[str], there: Collection[str]) -> str:
    how = "is not allowed in expressions" if name in of_jinja else "is unknown"
    return f"the {what} {name!r} {how}{did_you_mean(name, there)}"


def _check_named_inside(node: nodes.Filter) -> None:
    """Check the filter or test that `map`, `select` and the like take by name."""
    by_attribute = node.name in ("selectattr", "rejectattr")
    if node.name not in ("map", "select", "reject") and not by_attribute:
        return
    args = node.args[1:] if by_attribute else node.args
    if not args:
        if node.name == "map" and [pair.key for pair in node.kwargs] != ["attribute"]:
            raise NotAllowed("`map` takes the name of a filter, or attribute='name'")
        return
    there: Collection[str] = FILTERS if node.name == "map" else TESTS
    named = args[0].value if isinstance(args[0], nodes.Const) else None
    if named not in there:
        what = "filter" if node.name == "map" else "test"
        raise NotAllowed(f"`{node.name}` takes the name of a {what}, not {named!r}{did_you_mean(named, there)}")


def _check_arguments(what: str, node: nodes.Filter | nodes.Test, function: Callable[..., Any], own: int) -> None:
    try:
        inspect.signature(function).bind(
            *[None] * (own + len(node.args)), **{str(pair.key): None for pair in node.kwargs}
        )
    except TypeError as failure:
        raise NotAllowed(f"the {what} {node.name!r}: {failure}") from None
    except ValueError:
        pass  # a built-in function without a signature
