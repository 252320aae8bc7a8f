"""The filters that expressions and SQL templates may use. Each takes the budget, the value, and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

from jinja2 import Environment, Undefined, UndefinedError
from jinja2 import filters as jinja
from jinja2.exceptions import SecurityError
from jinja2.utils import htmlsafe_json_dumps

from engine.sandbox import operators
from engine.sandbox.budget import Budget, text, weigh, whole
from engine.sandbox.methods import path, replace
from engine.sandbox.tests import TESTS

Filter = Callable[..., Any]

TAKE_NULL = frozenset({"default", "d", "tojson"})
"""The filters that accept NULL; any other has no value for it."""
_PLAIN = Environment()  # noqa: S701 - no template is rendered with it; some filters of Jinja ask for its policies


def _default(_: Budget, value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    return default_value if isinstance(value, Undefined) or (boolean and not value) else value


def _worded(change: Callable[..., str]) -> Filter:
    """Wrap a text filter whose result is not much longer than its value."""
    return lambda budget, value, *args, **named: budget.made(change(text(budget, value), *args, **named))


def _center(budget: Budget, value: Any, width: int = 80) -> str:
    budget.take(max(width, 0))
    return text(budget, value).center(width)


def _replace(budget: Budget, value: Any, old: Any, new: Any, count: int = -1) -> str:
    return replace(budget, text(budget, value), text(budget, old), text(budget, new), -1 if count is None else count)


def _truncate(budget: Budget, value: Any, *args: Any, **named: Any) -> str:
    return budget.made(jinja.do_truncate(_PLAIN, text(budget, value), *args, **named))


def _escape(budget: Budget, value: Any) -> str:
    return budget.made(str(jinja.do_forceescape(text(budget, value))))


def _urlencode(budget: Budget, value: Any) -> str:
    weigh(value)
    return budget.made(str(jinja.do_urlencode(value)))


def _tojson(budget: Budget, value: Any) -> str:
    weigh(value)
    return budget.made(str(htmlsafe_json_dumps(value)))


def _format(budget: Budget, value: Any, *args: Any) -> str:
    return operators.formatted(budget, value, args)


def _join(budget: Budget, value: Any, between: Any = "", attribute: str | None = None) -> str:
    return operators.join(budget, _items(budget, value, attribute), text(budget, between))


def _items(budget: Budget, value: Any, attribute: str | int | None = None) -> list[Any]:
    """Return the items of a list (the characters of a text, the keys of a mapping), or one attribute of each."""
    if isinstance(value, (str, bytes, list, tuple, dict, range)):
        budget.take(len(value))
        return list(value) if attribute is None else [path(item, attribute) for item in value]
    raise UndefinedError(f"a value of type {type(value).__name__} is not a list")


def _length(_: Budget, value: Any) -> int:
    return len(value)


def _first(_: Budget, value: Any) -> Any:
    return _end(value, 0)


def _last(_: Budget, value: Any) -> Any:
    return _end(value, -1)


def _end(value: Any, at: int) -> Any:
    if not len(value):
        raise UndefinedError("there is no item: it is empty")
    return value[at] if not isinstance(value, dict) else list(value)[at]


def _pairs(budget: Budget, value: dict[Any, Any]) -> list[Any]:
    budget.take(len(value))
    return list(value.items())


def _reverse(budget: Budget, value: Any) -> Any:
    items = _items(budget, value)[::-1]
    return "".join(items) if isinstance(value, str) else items


def _folded(attribute: str | int | None, case_sensitive: bool) -> Callable[[Any], Any]:
    def key(item: Any) -> Any:
        found = item if attribute is None else path(item, attribute)
        if found is None:
            raise TypeError("an item is NULL")
        return found.lower() if isinstance(found, str) and not case_sensitive else found

    return key


def _sort(
    budget: Budget, value: Any, reverse: bool = False, case_sensitive: bool = False, attribute: str | int | None = None
) -> list[Any]:
    return sorted(_items(budget, value), key=_folded(attribute, case_sensitive), reverse=reverse)


def _unique(budget: Budget, value: Any, case_sensitive: bool = False, attribute: str | int | None = None) -> list[Any]:
    key = _folded(attribute, case_sensitive)
    firsts: dict[Any, Any] = {}
    for item in _items(budget, value):
        firsts.setdefault(key(item), item)
    return list(firsts.values())


def _extreme(choose: Callable[..., Any]) -> Filter:
    def extreme(budget: Budget, value: Any, case_sensitive: bool = False, attribute: str | int | None = None) -> Any:
        items = _items(budget, value)
        if not items:
            raise UndefinedError("there is no item: it is empty")
        return choose(items, key=_folded(attribute, case_sensitive))

    return extreme


def _sum(budget: Budget, value: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    total = start
    for item in _items(budget, value, attribute):
        if not isinstance(item, (int, float, Decimal, timedelta)):
            raise TypeError(f"sum adds numbers, not a value of type {type(item).__name__}")
        total = operators.calculate(budget, "+", total, item)
    return total


def _map(budget: Budget, value: Any, name: str | None = None, *args: Any, **named: Any) -> list[Any]:
    if name is None:
        return _items(budget, value, named["attribute"])
    change, items = known(name), _items(budget, value)
    if name not in TAKE_NULL and any(item is None for item in items):
        raise TypeError("an item is NULL")
    return [change(budget, item, *args, **named) for item in items]


def _chosen(*, keep: bool, by_attribute: bool) -> Filter:
    """`select`, `reject`, `selectattr`, `rejectattr`: by truth, or by a test with arguments."""

    def chosen(budget: Budget, value: Any, *args: Any) -> list[Any]:
        attribute, args = (args[0], args[1:]) if by_attribute else (None, args)
        test = TESTS[args[0]] if args else None
        budget.take(len(value) * sum(len(arg) for arg in args[1:] if isinstance(arg, (str, list, tuple, dict))))
        kept: Iterator[Any] = (
            item
            for item in _items(budget, value)
            for found in (item if attribute is None else path(item, attribute),)
            if bool(test(found, *args[1:]) if test else found) is keep
        )
        return list(kept)

    return chosen


def _wordcount(budget: Budget, value: Any) -> int:
    return jinja.do_wordcount(budget.made(text(budget, value)))


def _int(_: Budget, value: Any, default: int = 0, base: int = 10) -> Any:
    return whole(jinja.do_int(whole(value), default, base))


def _float(_: Budget, value: Any, default: float = 0.0) -> float:
    return jinja.do_float(value, default)


def _round(_: Budget, value: Any, precision: int = 0, method: Any = "common") -> Any:
    if abs(precision) > 30:
        raise SecurityError("round takes a precision of at most 30")
    return whole(jinja.do_round(whole(value), precision, method))


def known(name: str) -> Filter:
    """Return the filter with a name. Raises `SecurityError` if it is not allowed."""
    try:
        return FILTERS[name]
    except KeyError:
        raise SecurityError(f"the filter {name!r} is not allowed") from None


FILTERS: dict[str, Filter] = {
    "abs": lambda _, value: abs(value), "capitalize": _worded(str.capitalize), "center": _center, "count": _length,
    "d": _default, "default": _default, "e": _escape, "escape": _escape, "first": _first, "float": _float, "format": _format,
    "int": _int, "items": _pairs, "join": _join, "last": _last, "length": _length, "list": _items, "lower": _worded(str.lower),
    "map": _map, "max": _extreme(max), "min": _extreme(min), "reject": _chosen(keep=False, by_attribute=False),
    "rejectattr": _chosen(keep=False, by_attribute=True), "replace": _replace, "reverse": _reverse, "round": _round,
    "select": _chosen(keep=True, by_attribute=False), "selectattr": _chosen(keep=True, by_attribute=True), "sort": _sort,
    "string": text, "sum": _sum, "title": _worded(jinja.do_title), "tojson": _tojson, "trim": _worded(str.strip),
    "truncate": _truncate, "unique": _unique, "upper": _worded(str.upper), "urlencode": _urlencode,
    "wordcount": _wordcount,
}  # fmt: skip
