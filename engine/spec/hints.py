"""Suggests corrections for malformed values and for YAML syntax errors."""

from __future__ import annotations

import re
from typing import Any

import yaml

from engine.observe.printable import printable

_DURATION = "(ms|s|m|h)$"
_DAYS = re.compile(r"([0-9]{1,6}) ?d(ays?)?")
_NUMBER = re.compile(r"[0-9]{1,12}([.][0-9]{1,6})?")
_SHORT = re.compile(r"([0-9]{1,12}(?:[.][0-9]{1,6})?) *(ms|s|m|h)")
_VARIABLE = re.compile(r"([A-Za-z_-]{1,64}): {0,8}(\$\{[^{}]{1,200}\})")
_LONGEST = 500
"""Characters of a line that are examined."""


def for_value(name: str, part: dict[str, Any], instance: Any) -> str | None:
    """Return how to write the value of a key; None if there is no hint for it. `part` is the key's schema."""
    if str(part.get("pattern", "")).endswith(_DURATION):
        return _duration(instance)
    match name:
        case "daily_at":
            return "write a time of day from 00:00 to 23:59, such as 02:00"
        case "token_url":
            return "write https://...: the client's secret is sent there"
        case "base_url" if isinstance(instance, str):
            return _with_scheme(url(instance))
    return None


def _with_scheme(shown: str) -> str:
    host, _, port = shown.partition("/")[0].partition(":")
    if "://" in shown or not re.fullmatch(r"[A-Za-z0-9.-]+", host) or not re.fullmatch(r"[0-9]*", port):
        return "write https://... (or http:// for this machine)"
    return f"write {'http' if host == 'localhost' or host.startswith('127.') else 'https'}://{shown}"


def _duration(instance: Any) -> str:
    text = str(instance).strip().lower()
    if _NUMBER.fullmatch(text):
        return f"write {text}s (a duration is a number with ms, s, m or h)"
    if days := _DAYS.fullmatch(text):
        return f"write {int(days[1]) * 24}h"
    if short := _SHORT.fullmatch(text):
        return f"write {short[1]}{short[2]}"
    return "write a number with ms, s, m or h, such as 30s"


def url(text: str) -> str:
    """Return a URL for display: shortened, without user information and query."""
    shown = text.rpartition("@")[2].partition("?")[0]
    return printable(shown if len(shown) <= 60 else shown[:57] + "...")


def for_yaml(failure: yaml.MarkedYAMLError, lines: list[str]) -> tuple[str, Any]:
    """Describe a YAML syntax error; returns the message and the mark of its position."""
    said, context = failure.problem or "", failure.context or ""
    here, began = failure.problem_mark or failure.context_mark, failure.context_mark or failure.problem_mark
    line = lines[here.line][:_LONGEST] if here is not None and here.line < len(lines) else ""
    since = f", which begins in line {began.line + 1}" if began is not None else ""
    column = here.column if here is not None else 0
    if "\t" in line[: column + 1]:
        return "a tab; YAML is indented with spaces", here
    if "flow" in context and (variable := _VARIABLE.search(line)):
        return f'a variable inside {{ }} must stand in quotes; quote it: {variable[1]}: "{variable[2]}"', here
    if "mapping values are not allowed" in said:
        if ": " in line[:column]:
            return "not YAML: a second `: ` in one line; put a value that holds one in quotes", here
        return (
            "not YAML: this line is indented further than the line before it, which has its value already; align them",
            here,
        )
    if "expected key" in said or "expected <block end>" in said or "expected '-' indicator" in said:
        what = "keys of its mapping" if "block mapping" in context else "items of its list"
        return f"not YAML: this line is indented differently from the {what}{since}; align them", here
    if "could not find expected ':'" in said:
        return "not YAML: this line is no `key: value`; a colon and a blank belong between the two", began
    if "unexpected end of stream" in said and "quoted" in context:
        return "not YAML: this quote is never closed", began
    if "cannot start any token" in said and column < len(line):
        return f"not YAML: a text that begins with {line[column]} stands in quotes", here
    if "flow" in context and "expected ','" in said and began is not None:
        opened = "[" if "sequence" in context else "{"
        return f"not YAML: the `{opened}` of line {began.line + 1} is never closed, or a comma is missing in it", here
    return f"not YAML: {said}{f' {context}' if context else ''}", here
