"""No regular expression of the engine takes more than linear time, whatever it is given."""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import yaml

from engine.db import templates
from engine.demo import faults
from engine.http import page, reasons
from engine.spec.environment import interpolate
from engine.spec.reader import Document
from engine.sync.send import post
from tests.project import ROOT

LENGTH = 100_000
CALLS = {"compile", "search", "match", "fullmatch", "sub", "split", "findall", "finditer"}
SEARCHED_WITH_CARE = {r"\$\$(?=\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}"}
"""Its caller gives it no text without an end; the function is tested below."""
UNITS = [
    *" \t\n\0aA0_.;:'\"<>()[]{}$%=-/\\,é",
    "${a:-", "{{", "{% ", "No filter named '", "<a object at 0x", "[Errno 1", "(_ssl.c:1", ";driver ", "a.", ":1", "<title",
]  # fmt: skip


def in_code() -> Iterator[tuple[str, str, str]]:
    """Every pattern that is written out in a call of `re`: where, what, with which function."""
    for file in sorted((ROOT / "engine").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.func.attr in CALLS
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                how = "fullmatch" if node.func.attr in ("match", "fullmatch") else "search"
                yield f"{file.relative_to(ROOT)}:{node.lineno}", str(node.args[0].value), how


def in_data(data: Any, where: str) -> Iterator[tuple[str, str, str]]:
    """Every `pattern` of a JSON Schema."""
    if isinstance(data, dict):
        if isinstance(data.get("pattern"), str):
            yield where, data["pattern"], "search"
        for inner in data.values():
            yield from in_data(inner, where)
    elif isinstance(data, list):
        for inner in data:
            yield from in_data(inner, where)


def patterns() -> dict[str, tuple[str, str]]:
    found = {f"{where} {pattern}": (pattern, how) for where, pattern, how in in_code()}
    schema = json.loads((ROOT / "schema" / "pipeline.schema.json").read_bytes())
    for where, pattern, how in [*in_data(schema, "schema"), *in_data(faults.SCHEMA, "faults")]:
        found[f"{where} {pattern}"] = (pattern, how)
    for file in sorted((ROOT / "templates" / "sql").glob("*/dialect.yaml")):
        pattern = yaml.safe_load(file.read_text(encoding="utf-8"))["drivers"]
        found[f"{file.parent.name} {pattern}"] = (pattern, "search")
    return found


PATTERNS = patterns()


def quick(run: Callable[[str], object], unit: str) -> None:
    """Time of this thread alone, so that a busy machine changes nothing. A short text first: a bad one would not come back."""
    for length, seconds in ((5_000, 0.1), (LENGTH, 1.0)):
        for text in ((unit * length)[:length], (unit * length)[:length] + "\0", "x" + (unit * length)[:length] + "!"):
            began = time.thread_time()
            run(text)
            taken = time.thread_time() - began
            assert taken < seconds, f"{taken:.2f} s for {length} characters of {unit!r}"


def test_the_patterns_of_the_code_are_found() -> None:
    assert len(PATTERNS) > 30
    assert any("engine/http" in where for where in PATTERNS)


@pytest.mark.parametrize(
    "where", [name for name, (pattern, _) in PATTERNS.items() if pattern not in SEARCHED_WITH_CARE]
)
def test_a_pattern_takes_linear_time_on_100000_characters_of_its_worst_letter(where: str) -> None:
    pattern, how = PATTERNS[where]
    compiled = re.compile(pattern, re.IGNORECASE)
    run = compiled.fullmatch if how == "fullmatch" else compiled.search
    letters = sorted({letter for letter in pattern if letter not in "\\^*+?|"} | {"a", "0", " "})[:8]
    for unit in [*UNITS, *letters, *("".join(pair) for pair in product(letters, repeat=2))]:
        quick(run, unit)


def _interpolated(text: str) -> object:
    document = Document("x")
    document.data = {"a": "${" + text}
    return interpolate(document, {})


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "the reason of a failed call": lambda text: reasons.plain([OSError(text)]),
    "the title of a page": lambda text: page.title(b"<html>" + text.encode()),
    "variables of a spec": _interpolated,
    "whether SQL pages itself": templates.pages_itself,
    "Retry-After": lambda text: post.retry_after(post.Answer(429, {"Retry-After": text}, b"", 0.0), _RUN),
}
_RUN: Any = post.RunContext.start()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_reads_text_from_outside_takes_linear_time(name: str) -> None:
    for unit in UNITS:
        quick(FUNCTIONS[name], unit)


@pytest.mark.parametrize(
    ("source", "itself"),
    [
        ("SELECT after, limit FROM t", False),
        ("SELECT 1 {{ after }}", True),
        ("{% if after is not none %}", True),
        ("{{ x }} after {{ y }} limit", False),
        ("{{ x } after }}", False),
        ("{{ {'a': 1} }} {{ limit }}", True),
        ("{%- extends 'page.sql.j2' %}", True),
        ("{{ afterwards }}", False),
        ("}{%limit", True),
    ],
)
def test_sql_that_pages_itself_is_told_from_what_does_not(source: str, itself: bool) -> None:
    assert templates.pages_itself(source) is itself
    assert (re.search(r"\{%-?\s*extends\b|\{[{%][^}]*\b(after|limit)\b", source) is not None) is itself
