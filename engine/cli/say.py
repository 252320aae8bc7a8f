"""The only way to the screen: every text without secrets and without characters that a terminal would obey."""

from __future__ import annotations

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


def say_json(document: Any) -> None:
    """One JSON document on stdout, in UTF-8 whatever the console."""
    made = orjson.dumps(_safe_values(document), default=str, option=orjson.OPT_INDENT_2)
    click.echo(printable_json(made.decode()).encode())


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
