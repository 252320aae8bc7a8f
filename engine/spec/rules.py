"""Semantic checks for every kind of document: variables, connection strings, durations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from engine.db import dsn
from engine.errors import ConnectionFailed, Problem
from engine.spec import durations
from engine.spec.reader import Place
from engine.spec.schema import Schema
from engine.spec.subject import Subject

Rule = Callable[[Subject], Iterator[Problem]]
"""One semantic check."""


def missing_variables(subject: Subject) -> Iterator[Problem]:
    """Warn of variables that are not set: the document cannot run, but may be valid."""
    for place, names in subject.found.missing.items():
        for name in names:
            message = f"the environment variable {name} is not set (nor in .env)"
            yield subject.document.problem(place, message, warning=True, unset=True)


def connections(subject: Subject) -> Iterator[Problem]:
    """Report connection strings that cannot be parsed."""
    for alias in subject.mapping("connections"):
        place: Place = ("connections", alias)
        text = subject.text(place)
        if text:
            try:
                if dsn.kind(text) == "adonet":
                    dsn.adonet_to_odbc(text)
            except ConnectionFailed as failure:
                yield subject.document.problem(place, f"connection {alias!r}: {failure}")


def too_long(schema: Schema) -> Rule:
    """Return a rule that reports durations over the maximum."""

    def rule(subject: Subject) -> Iterator[Problem]:
        for place, text in _texts(subject.data, ()):
            if schema.of(place).get("pattern") == durations.PATTERN and re.fullmatch(durations.PATTERN, text):
                problem = durations.too_long(text)
                if problem:
                    yield subject.document.problem(place, f"{place[-1]!r} {problem}")

    return rule


def _texts(data: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """Yield every text in the data with its place."""
    if isinstance(data, str):
        yield place, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from _texts(value, (*place, key))
