"""Semantic checks of a job, which a schema cannot express. The data may still be invalid elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import TemplateError

from engine.db import connect
from engine.db.templates import Templates
from engine.errors import Problem, SpecError
from engine.jobs import parameters, script
from engine.jobs.spec import project
from engine.jobs.spec.build import KINDS, _parameter
from engine.jobs.spec.schema import JOB
from engine.spec import expressions, rules
from engine.spec.patterns import Pattern, PatternError
from engine.spec.reader import Place
from engine.spec.rules import Rule
from engine.spec.subject import Subject
from engine.spec.suggest import did_you_mean

NAMES = frozenset({"params", "item", "index", "count", "steps", "run"})
"""What expressions and statements know."""


def _steps(subject: Subject) -> list[tuple[int, dict[Any, Any]]]:
    steps = subject.data.get("steps")
    return (
        [(number, one) for number, one in enumerate(steps) if isinstance(one, dict)] if isinstance(steps, list) else []
    )


def _connections(subject: Subject) -> Iterator[Problem]:
    """Unknown aliases, and steps without one where there are several."""
    try:
        inherited: Mapping[str, str] = project.load(subject.root).connections
    except SpecError:
        return  # the project file is shown with its own problems
    known = [*subject.mapping("connections"), *inherited]
    default = subject.mapping("defaults").get("connection")
    used: list[tuple[Place, Any]] = [(("defaults", "connection"), default)] if default is not None else []
    used += [
        (("steps", number, "connection"), one["connection"]) for number, one in _steps(subject) if "connection" in one
    ]
    if "connection" in subject.mapping("for_each"):
        used.append((("for_each", "connection"), subject.mapping("for_each")["connection"]))
    for place, alias in used:
        if isinstance(alias, str) and alias not in known:
            yield subject.document.problem(place, f"unknown connection {alias!r}{did_you_mean(alias, known)}")
    if default is None and len(set(known)) != 1:
        for number, one in _steps(subject):
            if "connection" not in one:
                what = "there is no connection" if not known else "there are several connections"
                yield subject.document.problem(
                    ("steps", number),
                    f"step {one.get('name', number)!r}: {what}; say `connection` here or in `defaults`",
                )


def _kinds(subject: Subject) -> Iterator[Problem]:
    """Each step has exactly one kind, and a name of its own."""
    names = Counter(one.get("name") for _, one in _steps(subject))
    for number, one in _steps(subject):
        kinds = [kind for kind in KINDS if kind in one]
        if len(kinds) != 1:
            said = "has no kind" if not kinds else f"has several kinds: {', '.join(kinds)}"
            yield subject.document.problem(
                ("steps", number), f"step {one.get('name', number)!r} {said}; a step has one of: {', '.join(KINDS)}"
            )
        name = one.get("name")
        if isinstance(name, str) and names[name] > 1:
            yield subject.document.problem(("steps", number, "name"), f"there are {names[name]} steps {name!r}")


def _items(subject: Subject) -> Iterator[Problem]:
    each = subject.data.get("for_each")
    if isinstance(each, dict) and ("query" in each) == ("items" in each):
        yield subject.document.problem(("for_each",), "`for_each` has either `query` or `items`")


def _expressions(subject: Subject) -> Iterator[Problem]:
    """Expressions that do not compile, or name what is not there."""
    each = subject.mapping("for_each")
    places: list[Place] = [("for_each", key) for key in ("where", "items") if key in each]
    lock = each.get("locked")
    places += [("for_each", "locked", key) for key in ("when", "by", "since") if isinstance(lock, dict) and key in lock]
    places += [("steps", number, "when") for number, one in _steps(subject) if "when" in one]
    texts = [(place, subject.text(place)) for place in places]
    for number, one in _steps(subject):
        arguments = one.get("arguments")
        for name in arguments if isinstance(arguments, dict) else ():
            where: Place = ("steps", number, "arguments", name)
            texts += [(where, piece) for piece in script.pieces(subject.text(where) or "")]
    key: Place = ("concurrency", "key")
    texts += (
        [(key, piece) for piece in script.pieces(subject.text(key) or "")] if subject.mapping("concurrency") else []
    )
    for place, text in texts:
        if text is None:
            continue
        try:
            expressions.compile_expression(text)
        except expressions.ExpressionError as failure:
            yield subject.document.problem(place, str(failure))
            continue
        for name in sorted(expressions.needed(text) - NAMES):
            yield subject.document.problem(
                place, f"the expression names {name!r}, which is not there{did_you_mean(name, NAMES)}"
            )


def _statements(subject: Subject) -> Iterator[Problem]:
    """SQL that is no template, and templates that are not there."""
    templates = Templates(subject.root, connect.guess_dialect("", subject.root))
    places: list[Place] = [("steps", number, kind) for number, one in _steps(subject) for kind in KINDS if kind in one]
    places += [("for_each", "query")] if "query" in subject.mapping("for_each") else []
    for place in places:
        text = subject.text(place)
        if text is None:
            continue
        try:
            if place[-1] != "procedure":
                templates.script(text)
        except TemplateError as failure:
            yield subject.document.problem(
                place, f"the template {text if text.endswith('.j2') else ''} {failure}".replace("  ", " ")
            )


def _parameters(subject: Subject) -> Iterator[Problem]:
    """Defaults and choices that are not of their type; patterns that do not compile."""
    for name, data in subject.mapping("parameters").items():
        place: Place = ("parameters", name)
        if not isinstance(data, dict) or not JOB.validator.evolve(schema=JOB.whole["$defs"]["parameter"]).is_valid(
            data
        ):
            continue
        try:
            Pattern(data["pattern"]) if "pattern" in data else None
        except PatternError as failure:
            yield subject.document.problem((*place, "pattern"), f"not a regular expression: {failure}")
            continue
        parameter = _parameter(str(name), data)
        if "default" in data:
            try:
                parameters.typed(parameter, data["default"])
            except ValueError as failure:
                yield subject.document.problem((*place, "default"), f"parameter {name!r}: the default {failure}")


RULES: tuple[Rule, ...] = (
    rules.missing_variables,
    rules.connections,
    rules.too_long(JOB),
    _connections,
    _kinds,
    _items,
    _expressions,
    _statements,
    _parameters,
)
