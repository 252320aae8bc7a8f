"""The statements of a step: rendered with their values bound, and taken apart at each `;`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import TemplateError

from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.db.templates import line_of
from engine.errors import DatabaseError


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
