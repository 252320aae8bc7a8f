"""The only way to the screen: every text without secrets and without characters that a terminal would obey."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import click
import orjson

from engine.observe.masks import masked
from engine.observe.printable import printable, printable_json

_EXACT = frozenset(
    {
        "id", "ids", "body", "name", "entity", "pipeline", "run_id", "batch", "batch_id", "open_batch", "idempotency_key",
        "forgotten", "not_tracked", "offered", "not_refused",
    }
)  # fmt: skip
"""Keys of documents whose values name something, or are what is sent: never the API's words, and of use only whole."""


def safe(text: str) -> str:
    """A text as it may be shown: one line, secrets masked."""
    return printable(masked(text))


def say(text: str = "", *, err: bool = False) -> None:
    """One line for people."""
    click.echo(safe(text), err=err)


_COLLECTED: ContextVar[list[Any] | None] = ContextVar("_COLLECTED", default=None)


@contextmanager
def collected() -> Iterator[list[Any]]:
    """What `say_json` is given inside, instead of being printed."""
    documents: list[Any] = []
    token = _COLLECTED.set(documents)
    try:
        yield documents
    finally:
        _COLLECTED.reset(token)


def say_exact(text: str, *, end: str = "\n") -> None:
    """A text of several lines: a pipe or a file gets it as it is, a terminal what it can show. The caller answers for secrets."""
    shown = text if not sys.stdout.isatty() else "\n".join(map(printable, text.split("\n")))
    click.echo(shown.encode() + end.encode(), nl=False)


def say_json(document: Any) -> None:
    """One JSON document on stdout, in UTF-8 whatever the console."""
    documents = _COLLECTED.get()
    if documents is not None:
        documents.append(document)
        return
    click.echo(json_text(document).encode())


def json_text(document: Any) -> str:
    """A document as JSON that may be shown."""
    made = orjson.dumps(_safe_values(document), default=str, option=orjson.OPT_INDENT_2)
    return printable_json(made.decode())


def _safe_values(value: Any, key: object = None) -> Any:
    if isinstance(value, dict):
        # A header may be called `id`; its value is no name.
        return {_whole(name): _safe_values(inner, None if key == "headers" else name) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe_values(inner, key) for inner in value]
    if isinstance(value, str):
        return _whole(value if key in _EXACT else masked(value))
    return value


def _whole(text: Any) -> Any:
    """What no UTF-8 can say (a lone surrogate of a broken name) as an escape."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text
