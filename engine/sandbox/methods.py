"""The allowed attributes and methods of a record's values, by type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from jinja2 import UndefinedError
from jinja2.exceptions import SecurityError

from engine.sandbox.budget import Budget
from engine.sandbox.operators import join

Method = Callable[..., Any]
"""Takes the budget, the value, and the arguments."""

_DATE_FORMAT = re.compile(r"(?:[^%]|%-?[A-Za-z%])*")
_ENCODINGS = ("utf-8", "utf-16-le", "latin-1", "cp1252", "ascii")


def _plain(method: Callable[..., Any]) -> Method:
    """Wrap a method whose result is not much longer than its value."""

    def call(budget: Budget, value: Any, *args: Any, **named: Any) -> Any:
        budget.take(len(value))
        return method(value, *args, **named)

    return call


def _padded(method: Callable[..., Any]) -> Method:
    def call(budget: Budget, value: str, width: int, *fill: str) -> str:
        budget.take(max(len(value), width))
        made: str = method(value, width, *fill)
        return made

    return call


def _fixed(method: Callable[..., Any]) -> Method:
    """Wrap a method whose result is short, whatever the value."""
    return lambda _budget, value, *args, **named: method(value, *args, **named)


def _listed(method: Callable[[Any], Any]) -> Method:
    def call(budget: Budget, value: Any) -> list[Any]:
        budget.take(len(value))
        return list(method(value))

    return call


def replace(budget: Budget, value: str, old: str, new: str, count: int = -1) -> str:
    """`str.replace`, charged before the result is made."""
    times = value.count(old)
    times = times if count < 0 else min(times, count)
    budget.take(len(value) + times * max(len(new) - len(old), 0))
    return value.replace(old, new, count)


def _join(budget: Budget, between: str, parts: list[str]) -> str:
    return join(budget, list(parts), between)


def _strftime(_budget: Budget, value: Any, form: str) -> str:
    if len(form) > 200 or not _DATE_FORMAT.fullmatch(form):
        raise SecurityError("strftime takes %Y, %m, %d, %H and the like, without widths, in at most 200 characters")
    made: str = value.strftime(form)
    return made


def _decode(budget: Budget, value: bytes, encoding: str = "utf-8") -> str:
    if encoding.lower() not in _ENCODINGS:
        raise SecurityError(f"decode takes {', '.join(_ENCODINGS)}")
    budget.take(len(value))
    return value.decode(encoding)


_SAME_LENGTH = (
    "lower", "upper", "strip", "lstrip", "rstrip", "title", "capitalize", "swapcase", "casefold", "split", "rsplit", "splitlines",
    "startswith", "endswith", "find", "rfind", "index", "rindex", "count", "partition", "rpartition", "removeprefix", "removesuffix",
    "isdigit", "isalpha", "isalnum", "isnumeric", "isdecimal", "isspace", "islower", "isupper", "istitle", "isascii",
)  # fmt: skip
_TEXT: dict[str, Method] = {
    **{name: _plain(getattr(str, name)) for name in _SAME_LENGTH},
    **{name: _padded(getattr(str, name)) for name in ("ljust", "rjust", "center", "zfill")},
    "replace": replace,
    "join": _join,
}
_DAY: dict[str, Method] = {
    **{name: _fixed(getattr(date, name)) for name in ("isoformat", "weekday", "isoweekday", "replace")},
    "strftime": _strftime,
}
_MOMENT: dict[str, Method] = {
    **{
        name: _fixed(getattr(datetime, name))
        for name in ("isoformat", "weekday", "isoweekday", "replace", "date", "time", "timestamp")
    },
    "strftime": _strftime,
}
_METHODS: tuple[tuple[Any, dict[str, Method]], ...] = (
    (str, _TEXT),
    ((bytes, bytearray), {"hex": _plain(lambda value: value.hex()), "decode": _decode}),
    (datetime, _MOMENT),
    (date, _DAY),
    (time, {"isoformat": _fixed(time.isoformat), "strftime": _strftime}),
    (timedelta, {"total_seconds": _fixed(timedelta.total_seconds)}),
    (dict, {"get": _fixed(dict.get), **{name: _listed(getattr(dict, name)) for name in ("keys", "values", "items")}}),
    ((list, tuple), {"index": _fixed(lambda value, item: value.index(item)), "count": _fixed(lambda value, item: value.count(item))}),
)  # fmt: skip
NAMES = frozenset(name for _, methods in _METHODS for name in methods)
"""All methods of all types."""

_CALENDAR = frozenset({"year", "month", "day"})
_CLOCK = frozenset({"hour", "minute", "second", "microsecond"})
_ATTRIBUTES: tuple[tuple[Any, frozenset[str]], ...] = (
    (datetime, _CALENDAR | _CLOCK),
    (date, _CALENDAR),
    (time, _CLOCK),
    (timedelta, frozenset({"days", "seconds"})),
    (UUID, frozenset({"hex"})),
)


def method(value: Any, name: str) -> Method:
    """Return the method of a value. Raises `SecurityError` if its type has none of this name."""
    for kind, methods in _METHODS:
        if isinstance(value, kind) and name in methods:
            return methods[name]
    raise SecurityError(f"a value of type {type(value).__name__} has no method {name!r} here")


def attribute(value: Any, name: str) -> Any:
    """Return `value.name`: an entry of a mapping, or an attribute of a date, a time or a UUID. Raises `UndefinedError`."""
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        raise UndefinedError(f"the mapping has no entry {name!r}")
    fields = getattr(
        type(value), "__dataclass_fields__", ()
    )  # what the engine itself passes to templates, such as `key`
    if name in fields or any(isinstance(value, kind) and name in names for kind, names in _ATTRIBUTES):
        return getattr(value, name)
    raise UndefinedError(f"a value of type {type(value).__name__} has no attribute {name!r}")


def element(value: Any, key: Any) -> Any:
    """Return `value[key]`. Raises `UndefinedError` if there is none."""
    try:
        return value[key]
    except LookupError:
        raise UndefinedError(f"there is no element {key!r}") from None


def path(value: Any, names: str | int) -> Any:
    """Return the value at a dotted path such as `address.lines.0`."""
    for part in str(names).split("."):
        value = element(value, int(part)) if part.isdigit() else attribute(value, part)
    return value


def of_value(called: Any) -> tuple[Any, str] | None:
    """Return the value and the name of a bound built-in method; None for any other callable."""
    owner = getattr(called, "__self__", None)
    known = isinstance(
        owner, tuple(kind for kinds, _ in _METHODS for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
    )
    return (owner, str(getattr(called, "__name__", ""))) if known else None
