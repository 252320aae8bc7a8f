"""The statements of a step: rendered with their values bound, and taken apart at each `;`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import TemplateError

from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.db.templates import line_of
from engine.errors import DatabaseError
from engine.spec import expressions


def statements(connection: Connection, text: str, context: Mapping[str, Any]) -> list[Statement]:
    """The statements of a template or of inline SQL. Raises `DatabaseError` where the template fails, with its line."""
    try:
        whole = connection.templates.render(connection.templates.script(text), context)
    except TemplateError as failure:
        raise DatabaseError(f"the SQL template fails: {failure}{line_of(failure)}") from failure
    return list(split(whole)) if ";" in whole.text else [whole]


def split(whole: Statement) -> Iterator[Statement]:
    """Cut statements apart, each with its own parameters; what stands in quotes or comments is left alone."""
    import sqlparse  # noqa: PLC0415 - only where there is more than one statement

    at = 0
    for parsed in sqlparse.parse(whole.text):
        tokens: list[Any] = list(parsed.flatten())  # type: ignore[no-untyped-call]
        wanted = sum(token.ttype in sqlparse.tokens.Name.Placeholder and token.value == "?" for token in tokens)
        text = str(parsed).strip().rstrip(";").strip()
        if text and any(
            not token.is_whitespace and token.ttype not in sqlparse.tokens.Comment for token in parsed.tokens
        ):
            yield Statement(text, whole.parameters[at : at + wanted])
        at += wanted
    if at != len(whole.parameters):
        raise DatabaseError(
            f"the statements have {at} places for {len(whole.parameters)} values: a value stands where none can be bound"
        )


def pieces(text: str) -> list[str]:
    """The expressions in a value of a spec."""
    return [piece.strip() for piece in _parts(text)[1::2]]


def _parts(text: str) -> list[str]:
    """Text and expressions in turn; text is first and last."""
    parts, at = [], 0
    while (start := text.find("{{", at)) >= 0 and (end := text.find("}}", start + 2)) >= 0:
        parts += [text[at:start], text[start + 2 : end]]
        at = end + 2
    return [*parts, text[at:]]


def value(text: Any, context: Mapping[str, Any]) -> Any:
    """A value of a spec: one that is a single `{{ ... }}` keeps its type, other text has its expressions filled in; what is no text stays.

    Raises `DatabaseError` where an expression fails.
    """
    if not isinstance(text, str):
        return text
    parts = _parts(text)
    try:
        if len(parts) == 3 and not parts[0].strip() and not parts[2].strip():
            return expressions.compile_expression(parts[1].strip())(context)
        return "".join(
            piece if at % 2 == 0 else _shown(expressions.compile_expression(piece.strip())(context))
            for at, piece in enumerate(parts)
        )
    except expressions.ExpressionError as failure:
        raise DatabaseError(str(failure)) from failure


def _shown(found: Any) -> str:
    return "" if found is None else str(found)
