"""SQL templates end, and stay small, whatever they ask for; what is over the bound is an error at its line."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from engine.db.dialect import Dialect
from engine.db.templates import PageRequest, RunFacts, Templates
from engine.sync.spec.load import examine
from tests.project import Project

ATTACKS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops that choose nothing": "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "loops over one list": "{% set all = range(99999) | list %}{% for a in all %}{% for b in all if false %}{% endfor %}{% endfor %}",
    "a long output": "{% for a in range(90000) %}, " + "x" * 1000 + "{% endfor %}",
    "a long output in a macro": "{% macro m() %}" + "x" * 1000 + "{% endmacro %}{% for a in range(90000) %}{% set b = m() %}{% endfor %}",
    "a recursive macro": "{% macro m(n) %}{{ m(n - 1) }}{{ m(n - 1) }}{% endmacro %}{% set x = m(1) %}",
    "a macro that doubles": "{% macro m(n) %}{% for a in range(2 if n else 0) %}{% set b = m(n - 1) %}{% endfor %}{% endmacro %}{% set x = m(60) %}",
    "a recursive loop": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "a text that doubles": "{% set n = namespace(t='x') %}{% for a in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "a text that is added": "{% set n = namespace(t='x') %}{% for a in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "a list that doubles": "{% set n = namespace(t=[1]) %}{% for a in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "a block that doubles": "{% set n = namespace(t='x') %}{% for a in range(60) %}{% set t %}{{ (n.t ~ n.t) | identifier }}{% endset %}{% set n.t = t %}{% endfor %}",
    "text that is searched": "{% set t = 'x' * 400000 %}{% for a in range(99999) %}{% if 'y' in t %}{% endif %}{% endfor %}",
    "text that is cut": "{% set t = 'x' * 400000 %}{% for a in range(99999) %}{% set b = t[1:] %}{% endfor %}",
    "text that is tested": "{% set t = 'x' * 400000 %}{% for a in range(99999) %}{% if t is lower %}{% endif %}{% endfor %}",
    "many identifiers": "{% set t = 'x' * 400000 %}{% for a in range(99999) %}, {{ t | identifier }}{% endfor %}",
    "a format": "{% set t = '%999999999d' | format(1) %}",
    "a format sign": "{% set t = '%999999999d' % 1 %}",
    "a format test": "{% if '%999999999d' is odd %}{% endif %}",
    "a format method": "{% set t = '{:>999999999}'.format(1) %}",
    "a format map": "{% set t = '{a:>999999999}'.format_map({'a': 1}) %}",
    "a product": "{% set t = 'x' * 10**9 %}",
    "a power": "{% set t = 10 ** (10 ** 9) %}",
    "indent": "{% set t = 'x' | indent(999999999, true) %}",
    "batch": "{% set t = [1] | batch(999999999, 0) | list %}",
    "slice": "{% set t = [1] | slice(999999999) | list %}",
    "lipsum": "{% set t = lipsum(n=100000) %}",
    "center": "{% set t = 'x' | center(999999999) %}",
    "ljust": "{% set t = 'x'.ljust(999999999) %}",
    "expandtabs": "{% set t = '\t'.expandtabs(999999999) %}",
    "translate": "{% set t = ('x' * 9999).translate({120: 'y' * 99999}) %}",
    "replace": "{% set t = ('x' * 99999).replace('', 'x' * 99999) %}",
    "join": "{% set t = range(99999) | join('x' * 99999) %}",
    "constants that are folded": "{% if ('x' | center(900000)) %}{% endif %}" * 500,
    "a range": "{% set t = range(10 ** 12) | list %}",
    "an include of itself": "{% include 'users.sql.j2' %}{% include 'users.sql.j2' %}",
}  # fmt: skip


def _write(project: Project, attack: str, *, first: str = "\n\n") -> Path:
    project.template(
        "users.sql.j2",
        "{% extends 'page.sql.j2' %}{% block query %}" + first + f"{attack}\nSELECT Id FROM Users{{% endblock %}}",
    )
    project.entity(sql="users.sql.j2")
    return project.write()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_validate_ends_and_names_the_line_of_what_a_template_asks_for(project: Project, attack: str) -> None:
    """In-process: memory and processor time are those of the whole check."""
    spec = _write(project, attack)
    examine(spec)  # whatever a first look imports is no cost of the template
    tracemalloc.start()
    began = time.process_time()
    try:
        (problem,) = examine(spec).problems
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 200_000_000
    assert time.process_time() - began < 20
    assert problem.severity == "error"
    assert problem.file.endswith("users.sql.j2")
    assert "template" in problem.message
    if "itself" not in problem.message:
        assert problem.line == 3, problem
    assert len(problem.message) < 2000


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
def test_every_command_says_so_and_ends(project: Project, command: str) -> None:
    project.users(3)
    spec = _write(project, ATTACKS["nested loops"])
    finished = project.cli(command, spec, timeout=60)
    assert finished.returncode == 2
    said = finished.stdout + finished.stderr
    assert "users.sql.j2:3:" in said
    assert "it would make more than 1,000,000 characters, items or steps" in said


def test_a_template_that_asks_for_too_much_at_a_later_page_fails_its_entity_with_the_line(project: Project) -> None:
    """What `validate` cannot know: the text depends on what was read."""
    project.users(3)
    project.entity(sql="users.sql.j2", page_size=2)
    project.template(
        "users.sql.j2",
        "{% extends 'page.sql.j2' %}{% block query %}\n{% if after == 2 %}\n"
        + ATTACKS["nested loops"]
        + "{% endif %}\nSELECT Id FROM Users{% endblock %}",
    )
    project.spec["api"]["base_url"] = "http://127.0.0.1:9"
    report = project.run(code=4)
    assert "line 3 of users.sql.j2" in report["entities"][0]["error"]
    assert "1,000,000" in report["entities"][0]["error"]


@pytest.mark.parametrize(
    ("text", "expected", "parameters"),
    [
        ("SELECT Id, {{ 'No' ~ 'Reg' }} FROM T", "SELECT Id, ? FROM T", ("NoReg",)),
        (
            "{% for c in ['A', 'B'] %}{{ c | identifier }}{% if not loop.last %}, {% endif %}{% endfor %}",
            '"A", "B"',
            (),
        ),
        ("{{ entity.lower() }} {{ entity | upper }} {{ 'a-b'.split('-')[1] }}", "? ? ?", ("users", "USERS", "b")),
        ("{{ run.started.year }} {{ run.started.strftime('%Y') }}", "? ?", (2026, "2026")),
        ("{{ '%05d' % 7 }} {{ 2 ** 10 + 7 // 2 }}", "? ?", ("00007", 1027)),
        ("{% set n = namespace(i=0) %}{% for x in range(5) %}{% set n.i = n.i + x %}{% endfor %}{{ n.i }}", "?", (10,)),
        ("{% macro m(x) %}({{ x | identifier }}){% endmacro %}{{ m('A') | length }}", "?", (5,)),
        ("{{ (key | map(attribute='name') | list)[0] }}", "?", ("Id",)),
        ("{{ missing | default('x') }}{% if missing is not defined %}y{% endif %}", "?y", ("x",)),
        ("{{ [1, 2, 3][1:] | sum }}{% if 1 < 2 <= 2 and 'a' in 'abc' %}y{% endif %}", "?y", (5,)),
    ],
)
def test_what_templates_need_is_there(tmp_path: Path, text: str, expected: str, parameters: tuple[object, ...]) -> None:
    from datetime import datetime

    found = Templates(tmp_path, _sqlite(tmp_path))
    request = PageRequest("Users", RunFacts("r", datetime(2026, 1, 1), None), 10, ("Id",))
    statement = found.page(None, text + "{# after limit #}{% if limit %}{% endif %}", request)
    assert (statement.text, statement.parameters) == (expected, parameters)


def _sqlite(root: Path) -> Dialect:
    from engine.db import connect

    return connect.guess_dialect("sqlite:///x.db", root)


def test_thousands_of_rows_that_are_looked_for_are_no_attack(tmp_path: Path) -> None:
    from datetime import datetime

    names = ("A", "B", "C")
    request = PageRequest(
        "Users", RunFacts("r", datetime(2026, 1, 1), None), 10, names, find=tuple((n, n, n) for n in range(30_000))
    )
    statement = Templates(tmp_path, _sqlite(tmp_path)).page(None, "SELECT A, B, C FROM T", request)
    assert len(statement.parameters) == 90_000
