"""How `plan` shows a request (some of its records, or the exact bytes) and the statements that read the source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

from engine.cli.say import say, say_exact
from engine.db.statement import Statement
from engine.observe.masks import masked
from engine.observe.printable import printable_json
from engine.observe.words import count
from engine.sync.plan import EntityPlan, Request


def request_json(request: Request, records: int, *, full: bool) -> dict[str, Any]:
    """Return a request as JSON: its exact bytes as text under `body`, or its first records under `shown`."""
    head = {
        "method": request.method, "url": request.url, "headers": dict(request.headers),
        "bytes": len(request.body), "records": request.records,
    }  # fmt: skip
    return head | ({"body": request.body.decode()} if full else {"shown": _first(request.body, records)[0]})


def show_request(request: Request, records: int, *, full: bool) -> None:
    """Print a request as text."""
    say()
    say(f"{request.method} {request.url}")
    for name, value in request.headers.items():
        say(f"{name}: {value}")
    say()
    say(f"body: {count(len(request.body), 'byte')}, {count(request.records, 'record')}")
    if full:
        say_exact(request.body.decode())
        return
    _, document = _first(request.body, records)
    say_exact(printable_json(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()))
    if request.records > records:
        say(f"... and {count(request.records - records, 'more record')}")


def _first(body: bytes, wanted: int) -> tuple[list[Any], Any]:
    """Return the first records of a body, and the body with only these. Numbers keep every digit."""

    def exact(text: str) -> orjson.Fragment:
        return orjson.Fragment(text.encode())

    document = json.loads(body, parse_float=exact, parse_int=exact)
    if isinstance(document, dict):
        ((key, records),) = document.items()
        return records[:wanted], {key: records[:wanted]}
    return document[:wanted], document[:wanted]


def statements_json(made: EntityPlan) -> list[dict[str, Any]]:
    """Return the statements of an entity with their parameters, in order."""
    return [
        {"what": what, "sql": masked(statement.text), "parameters": [_plain(value) for value in statement.parameters]}
        for what, statement in made.statements
    ]


def show_statements(made: EntityPlan) -> None:
    """Print the statements of an entity; the parameters fill the `?` in order."""
    for what, statement in made.statements:
        say()
        say(f"{made.name}: {what}")
        for line in _lines(statement):
            say(line)


def _lines(statement: Statement) -> Iterator[str]:
    for line in masked(statement.text).splitlines():
        if line.strip():
            yield line.rstrip()
    values = ", ".join(repr(_plain(value)) for value in statement.parameters)
    yield f"-- parameters: {values}" if values else "-- no parameters"


def _plain(value: Any) -> Any:
    """Return a parameter as a JSON value, with secrets masked."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return masked(value.hex() if isinstance(value, (bytes, bytearray)) else str(value))
