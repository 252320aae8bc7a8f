"""Traces columns from the SQL through `transform` to `fields`, and reports names that match no column.

Reports nothing where the columns are not known for certain. Names are compared without case: the engine spells a column
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
from engine.spec.patterns import PatternError
from engine.spec.reader import Document, Place
from engine.spec.subject import Subject
from engine.spec.suggest import did_you_mean
from engine.sync.model import Expressed, Operation
from engine.sync.spec import select_list
from engine.sync.spec.schema import SCHEMA
from engine.sync.spec.subject import entities
from engine.sync.spec.subject import place as place_of


def misspelt(subject: Subject) -> Iterator[Problem]:
    """Yield the names in each entity's `transform` and `fields` that match no column, where its SQL shows the columns."""
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
    """The places in the spec of an entity's checked parts."""

    entity: str
    transform: Place
    fields: Place


def check(
    document: Document,
    places: Places,
    operations: Sequence[Operation | None],
    fields: Sequence[str],
    source: Iterable[str] | None,
) -> Iterator[Problem]:
    """Check one entity as `misspelt` does. `source`: the columns of its SQL, None if unknown.

    An operation that is None makes them unknown until the next `cut`.
    """
    columns = _Columns(document, places.entity)
    columns.become(source)
    for number, operation in enumerate(operations):
        yield from columns.follow((*places.transform, number, operation.name if operation else ""), operation)
    for name in fields:
        if columns.lack(name):
            yield columns.problem((*places.fields, name), name, "`fields` names", at_key=True)


@dataclass(slots=True)
class _Columns:
    """The columns at one point of the transform, by case-folded name; None if unknown."""

    document: Document
    entity: str
    known: dict[str, str] | None = field(default=None)

    def become(self, names: Iterable[str] | None) -> None:
        self.known = None if names is None else {name.casefold(): name for name in names}

    def lack(self, name: str) -> bool:
        return self.known is not None and name.casefold() not in self.known

    def problem(self, place: Place, name: str, what: str, *, at_key: bool = False) -> Problem:
        message = f"entity {self.entity!r}: {what} the column {name!r}, which is not there{did_you_mean(name, (self.known or {}).values())}"
        return self.document.problem(place, message, at_key=at_key)

    def follow(self, place: Place, operation: Operation | None) -> Iterator[Problem]:
        """Yield the problems of one operation, then apply it to the columns."""
        if operation is None:
            self.known = None
            return
        for named in operation.columns():
            if self.lack(named.column):
                what = f"transform {operation.name!r} names"
                yield self.problem((*place, *named.at), named.column, what, at_key=named.at_key)
        for expressed in operation.expressions():
            yield from self._expression((*place, *expressed.at), operation.name, expressed)
        if self.known is not None or operation.names_all:
            self.become(operation.after(list((self.known or {}).values())))

    def _expression(self, place: Place, name: str, expressed: Expressed) -> Iterator[Problem]:
        also = {word.casefold() for word in expressed.also}
        for word in sorted(word for word in expressions.needed(expressed.text) if word.casefold() not in also):
            if self.lack(word):
                found = self.problem(place, word, f"the expression of {name!r} names")
                line, column = _word(self.document, place, word, (found.line, found.column))
                yield Problem(found.file, line, column, found.message)


def _word(document: Document, place: Place, word: str, start: tuple[int, int]) -> tuple[int, int]:
    """Return the position of an expression's word in the file; that of the expression if the word is not found."""
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


def _sound(name: str, argument: Any) -> Operation | None:
    """Return the operation; None if it breaks the schema or its pattern does not compile, which is reported elsewhere."""
    if not _operation().is_valid({name: argument}):
        return None
    from engine.sync.shape import operations  # noqa: PLC0415 - petl only for a spec that has a `transform`

    try:
        return operations.make(name, argument)
    except PatternError:
        return None


@cache
def _operation() -> Any:
    return Draft202012Validator(SCHEMA.whole["$defs"]["operation"])


def _steps(transform: Any) -> list[Operation | None]:
    """Return the operations; None for each that is invalid."""
    steps = transform if isinstance(transform, list) else []
    return [_sound(*next(iter(step.items()))) if isinstance(step, dict) and len(step) == 1 else None for step in steps]


def _texts(names: Any) -> list[str]:
    return [name for name in names if isinstance(name, str)] if isinstance(names, (dict, list)) else []


def _source(
    subject: Subject, templates: Templates, index: int, entity: dict[Any, Any], merged: dict[Any, Any]
) -> list[str] | None:
    """Return the columns of an entity's SQL, if its SELECT list shows them."""
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
    """Return True if a dialect has its own template of this name: which one is used is not known here."""
    return any((subject.root / "templates" / "sql").glob(f"*/{name}")) if "*" not in name else True


def _beginning(templates: Templates, source: str) -> str:
    """Return the query's text up to the first Jinja statement, with each expression as `?`."""
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
