"""Follows the columns from the SQL through `transform` to `fields`, and finds names that no column has.

Where the columns cannot be known for certain nothing is said. Names are compared without case: the engine spells a column
as the spec does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import TemplateError, nodes
from jsonschema import Draft202012Validator

from engine.db import connect
from engine.db.templates import PAGE, Templates, wrap
from engine.errors import Problem
from engine.spec import expressions
from engine.spec.patterns import Pattern, PatternError
from engine.spec.reader import Document, Place
from engine.spec.subject import Subject
from engine.spec.suggest import did_you_mean
from engine.sync.spec import select_list
from engine.sync.spec.schema import SCHEMA
from engine.sync.spec.subject import entities
from engine.sync.spec.subject import place as place_of

Step = tuple[str, Any]
"""One operation of `transform`: its name and its argument as written."""


def misspelt(subject: Subject) -> Iterator[Problem]:
    """Names in the `transform` and the `fields` of each entity that no column has, as far as its SQL shows its columns."""
    templates = Templates(subject.root, connect.guess_dialect("", subject.root))
    for index, entity, merged in entities(subject):
        known = _source(subject, templates, index, entity, merged)
        transform = merged.get("transform")
        places = Places(
            str(entity.get("name", index)),
            place_of(subject, index, entity, "transform"),
            place_of(subject, index, entity, "fields"),
        )
        yield from check(subject.document, places, _steps(transform), _texts(merged.get("fields")), known)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the spec has what is checked of an entity."""

    entity: str
    transform: Place
    fields: Place


def check(
    document: Document, places: Places, steps: Sequence[Step], fields: Sequence[str], source: Iterable[str] | None
) -> Iterator[Problem]:
    """The same for one entity. `source` are the columns of its SQL; None where they are not known."""
    columns = _Columns(document, places.entity)
    columns.become(source)
    for number, (name, argument) in enumerate(steps):
        yield from columns.follow((*places.transform, number, name), name, argument)
    for name in fields:
        if columns.lack(name):
            yield columns.problem((*places.fields, name), name, "`fields` names", at_key=True)


@dataclass(slots=True)
class _Columns:
    """The columns at one point of the transform, by their folded names; None where they are not known."""

    document: Document
    entity: str
    known: dict[str, str] | None = field(default=None)

    def become(self, names: Iterable[str] | None) -> None:
        self.known = None if names is None else {name.casefold(): name for name in names}

    def change(self, gone: Iterable[str], come: Iterable[str]) -> None:
        if self.known is not None:
            left = {name.casefold() for name in gone}
            self.become([*(name for folded, name in self.known.items() if folded not in left), *come])

    def lack(self, name: str) -> bool:
        return self.known is not None and name.casefold() not in self.known

    def problem(self, place: Place, name: str, what: str, *, at_key: bool = False) -> Problem:
        message = f"entity {self.entity!r}: {what} the column {name!r}, which is not there{did_you_mean(name, (self.known or {}).values())}"
        return self.document.problem(place, message, at_key=at_key)

    def follow(self, place: Place, name: str, argument: Any) -> Iterator[Problem]:
        """What is wrong with one operation; then the columns are those after it."""
        if not _sound(name, argument):
            self.become(None)  # what is wrong with it is said elsewhere
        elif name == "select":
            yield from self._expression(place, name, argument)
        elif name == "add":
            for column, text in argument.items():
                yield from self._expression((*place, column), name, text)
                self.change((), [str(column)])
        elif name in ("split", "unpack_dict"):
            yield from self._named((*place, "field"), name, argument["field"], at_key=False)
            self.change([argument["field"]], argument["into" if name == "split" else "keys"])
        elif name in ("cut", "cut_out"):
            for number, column in enumerate(argument):
                yield from self._named((*place, number), name, column, at_key=False)
            self.change(argument, ())
            if name == "cut":
                self.become(argument)
        else:
            yield from self._mapping(place, name, argument)

    def _mapping(self, place: Place, name: str, argument: dict[Any, Any]) -> Iterator[Problem]:
        """`rename`, `convert`, `move`, `fill`: the keys are columns."""
        for column in _texts(argument):
            yield from self._named((*place, column), name, column, at_key=True)
            text = argument[column]
            if name == "convert" and isinstance(text, str) and not text.isidentifier():
                yield from self._expression((*place, column), name, text, also={"value"})
        if name == "rename":
            self.change(_texts(argument), argument.values())

    def _named(self, place: Place, name: str, column: str, *, at_key: bool) -> Iterator[Problem]:
        if self.lack(column):
            yield self.problem(place, column, f"transform {name!r} names", at_key=at_key)

    def _expression(
        self, place: Place, name: str, text: str, also: frozenset[str] | set[str] = frozenset()
    ) -> Iterator[Problem]:
        for word in sorted(expressions.needed(text) - also):
            if self.lack(word):
                found = self.problem(place, word, f"the expression of {name!r} names")
                line, column = _word(self.document, place, word, (found.line, found.column))
                yield Problem(found.file, line, column, found.message)


def _word(document: Document, place: Place, word: str, start: tuple[int, int]) -> tuple[int, int]:
    """Where a word of an expression stands in the file; the expression's own place where it cannot be seen."""
    text = document.raw.get(place, "")
    line, column = start
    pattern = re.compile(rf"(?<![\w.]){re.escape(word)}(?!\w)")
    for number in range(line, line + text.count("\n") + 2 + (place in document.block_scalars)):
        if number > len(document.lines):
            break
        match = pattern.search(document.lines[number - 1], column - 1 if number == line else 0)
        if match and (number > line or place not in document.block_scalars):
            return number, match.start() + 1
    return start


def _sound(name: str, argument: Any) -> bool:
    """True for an operation as the schema has it, with a pattern that compiles."""
    if not _operation().is_valid({name: argument}):
        return False
    try:
        return name != "split" or bool(Pattern(argument["pattern"]))
    except PatternError:
        return False


@cache
def _operation() -> Any:
    return Draft202012Validator(SCHEMA.whole["$defs"]["operation"])


def _steps(transform: Any) -> list[Step]:
    """The operations, if each is one key with its argument."""
    steps = transform if isinstance(transform, list) else []
    return [next(iter(step.items())) if isinstance(step, dict) and len(step) == 1 else ("", None) for step in steps]


def _texts(names: Any) -> list[str]:
    return [name for name in names if isinstance(name, str)] if isinstance(names, (dict, list)) else []


def _source(
    subject: Subject, templates: Templates, index: int, entity: dict[Any, Any], merged: dict[Any, Any]
) -> list[str] | None:
    """The columns of an entity's SQL, where its SELECT list shows them."""
    name, query = merged.get("sql"), merged.get("query")
    what = "sql" if isinstance(name, str) else "query"
    if (name is None) == (query is None) or place_of(subject, index, entity, what) in subject.found.missing:
        return None
    try:
        if isinstance(name, str):
            if _of_a_dialect(subject, name):
                return None
            query, _, _ = templates.environment.loader.get_source(templates.environment, name)  # type: ignore[union-attr]
        elif isinstance(query, str):
            query = wrap(query)
        return select_list.columns(_beginning(templates, str(query)))
    except (TemplateError, OSError, ValueError, RecursionError):
        return None


def _of_a_dialect(subject: Subject, name: str) -> bool:
    """True where a dialect has a template of its own by this name: which one will be used is not known here."""
    return any((subject.root / "templates" / "sql").glob(f"*/{name}")) if "*" not in name else True


def _beginning(templates: Templates, source: str) -> str:
    """The query's text up to the first thing that depends on a value; each value in it as `?`."""
    tree = templates.environment.parse(source)
    body: Sequence[nodes.Node] = tree.body
    extended = list(tree.find_all(nodes.Extends))
    if extended:
        blocks = [block for block in tree.find_all(nodes.Block) if block.name == "query"]
        if len(extended) != 1 or getattr(extended[0].template, "value", None) != PAGE or len(blocks) != 1:
            return ""
        body = blocks[0].body
    text = ""
    for node in body:
        if isinstance(node, nodes.Output):
            text += "".join(part.data if isinstance(part, nodes.TemplateData) else "?" for part in node.nodes)
        elif not isinstance(node, nodes.ExprStmt):
            break
    return text
