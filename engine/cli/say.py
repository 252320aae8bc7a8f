"""All screen output goes through here: secrets are masked, terminal control characters escaped."""

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
"""JSON keys whose values are not masked: names, IDs and what is sent. They hold no API text, and are useless in part."""


def safe(text: str) -> str:
    """Return the text as one printable line, with secrets masked."""
    return printable(masked(text))


def say(text: str = "", *, err: bool = False) -> None:
    """Print one line."""
    click.echo(safe(text), err=err)


_COLLECTED: ContextVar[list[Any] | None] = ContextVar("_COLLECTED", default=None)


@contextmanager
def collected() -> Iterator[list[Any]]:
    """Collect the documents given to `say_json` in this context instead of printing them."""
    documents: list[Any] = []
    token = _COLLECTED.set(documents)
    try:
        yield documents
    finally:
        _COLLECTED.reset(token)


def say_exact(text: str, *, end: str = "\n") -> None:
    """Print text of several lines: unchanged to a pipe or file, escaped on a terminal. The caller masks secrets."""
    shown = text if not sys.stdout.isatty() else "\n".join(map(printable, text.split("\n")))
    click.echo(shown.encode() + end.encode(), nl=False)


def say_json(document: Any) -> None:
    """Print one JSON document on stdout, always in UTF-8."""
    documents = _COLLECTED.get()
    if documents is not None:
        documents.append(document)
        return
    click.echo(json_text(document).encode())


def json_text(document: Any) -> str:
    """Return a document as JSON, with secrets masked and control characters escaped."""
    made = orjson.dumps(_safe_values(document), default=str, option=orjson.OPT_INDENT_2)
    return printable_json(made.decode())


def _safe_values(value: Any, key: object = None) -> Any:
    if isinstance(value, dict):
        # A header may be named `id`; its value is masked all the same.
        return {_whole(name): _safe_values(inner, None if key == "headers" else name) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe_values(inner, key) for inner in value]
    if isinstance(value, str):
        return _whole(value if key in _EXACT else masked(value))
    return value


def _whole(text: Any) -> Any:
    """Escape what UTF-8 cannot encode: a lone surrogate of a broken name."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text
