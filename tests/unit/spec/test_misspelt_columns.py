"""Names in `transform` and `fields` that no column has are found before anything runs, each at its word; nothing else is."""

from __future__ import annotations

import json

import pytest

from engine.sync.spec.load import examine
from engine.sync.spec.select_list import columns
from tests.project import ROOT, Project

HEAD = """version: 1
name: sync
connections: {{ default: "sqlite:///source.db", log: "sqlite:///log.db" }}
api: {{ base_url: "http://127.0.0.1:9" }}
entities:
  - name: Users
    endpoint: /users
    query: {query}
"""
PLAIN = "SELECT Id, Name, u.Built AS built FROM Users u"


def found(project: Project, rest: str, query: str = PLAIN) -> list[tuple[str, str]]:
    """The text at each problem's place, and its message."""
    project.write(HEAD.format(query=query) + rest)
    lines = project.file.read_text().splitlines()
    return [
        (lines[problem.line - 1][problem.column - 1 :], problem.message) for problem in examine(project.file).problems
    ]


@pytest.mark.parametrize(
    ("rest", "at", "near"),
    [
        ('    transform:\n      - add: { label: "nam ~ Id" }\n', "nam ~ Id", "'Name'"),
        ("    transform:\n      - add:\n          label: |\n            Id ~\n            nam\n", "nam", "'Name'"),
        ('    transform:\n      - select: "Id > 1 and bilt > 2000"\n', "bilt > 2000", "'built'"),
        ('    transform:\n      - convert: { Name: "value ~ bilt" }\n', "bilt", "'built'"),
        ("    transform:\n      - convert: { Nmae: upper }\n", "Nmae: upper", "'Name'"),
        ("    transform:\n      - rename: { Nmae: N }\n", "Nmae: N", "'Name'"),
        ("    transform:\n      - cut: [Id, Nmae]\n", "Nmae]", "'Name'"),
        ("    transform:\n      - cut_out: [Nmae]\n", "Nmae]", "'Name'"),
        ("    transform:\n      - move: { Nmae: 0 }\n", "Nmae: 0", "'Name'"),
        ("    transform:\n      - fill: { Nmae: 0 }\n", "Nmae: 0", "'Name'"),
        ("    transform:\n      - split: { field: Nmae, pattern: ' ', into: [A] }\n", "Nmae,", "'Name'"),
        ("    transform:\n      - unpack_dict: { field: Nmae, keys: [A] }\n", "Nmae,", "'Name'"),
        ("    fields: { Id: int, Nmae: string }\n", "Nmae: string", "'Name'"),
        ("    transform: [{ rename: { Name: Full } }, { add: { A: Name } }]\n", "Name } }]", "there are"),
        (
            "    transform: [{ split: { field: Name, pattern: ' ', into: [First, Last] } }, { add: { A: Lst } }]\n",
            "Lst",
            "'Last'",
        ),
        ("    transform: [{ add: { Label: Id } }, { select: Labl }]\n", "Labl", "'Label'"),
    ],
)
def test_a_misspelt_column_is_an_error_at_its_word(project: Project, rest: str, at: str, near: str) -> None:
    ((place, message),) = found(project, rest)
    assert place.startswith(at)
    assert near in message
    assert "Users" in message


def test_columns_are_followed_from_a_cut_on_even_where_the_sql_does_not_show_them(project: Project) -> None:
    ((place, message),) = found(
        project, "    transform: [{ cut: [Id, Name] }, { select: Nmae }]\n", "SELECT * FROM Users"
    )
    assert place.startswith("Nmae")
    assert "did you mean 'Name'" in message


@pytest.mark.parametrize(
    ("rest", "query"),
    [
        ("    transform: [{ add: { A: nam } }]\n", "SELECT * FROM Users"),
        ("    transform: [{ add: { A: nam } }]\n", "SELECT Id, u.* FROM Users u"),
        ("    transform: [{ add: { A: nam } }]\n", "SELECT Id, COUNT(*) FROM Users"),
        ("    transform: [{ add: { A: nam } }]\n", "SELECT Id, Name Nam FROM Users"),
        ("    transform: [{ add: { A: nam } }]\n", "SELECT Id{% if dialect == 'x' %}, nam{% endif %} FROM Users"),
        ("    transform: [{ add: { A: nam } }]\n", "\"{% include 'page/top.sql.j2' %} SELECT Id FROM Users\""),
        ("    transform: [{ add: { A: \"ID ~ NAME ~ Built\" } }]\n", PLAIN),
        ("    transform: [{ add: { A: \"nam | default('x')\", B: '1 if nam is defined else 0' } }]\n", PLAIN),
        ("    transform: [{ add: { A: \"'nam' ~ Name\" } }, { select: A }]\n", PLAIN),
        ("    transform: [{ convert: { Name: \"value | upper\" } }, { convert: { Name: { nam: x } } }]\n", PLAIN),
        ("    transform: [{ rename: { Name: B, built: Name } }, { select: B and Name }]\n", PLAIN),
        ("    transform: [{ unpack_dict: { field: Name, keys: [City] } }, { fill: { City: '-' } }]\n    fields: { Id: int, City: string }\n", PLAIN),
        ("    fields: { id: int, name: string, BUILT: int }\n", PLAIN),
    ],
)  # fmt: skip
def test_where_there_is_doubt_nothing_is_said(project: Project, rest: str, query: str) -> None:
    messages = [message for _, message in found(project, rest, json.dumps(query) if query[0] != '"' else query)]
    assert not [message for message in messages if "which is not there" in message]


def test_the_job_itself_is_silent() -> None:
    problems = examine(ROOT / "pipelines" / "sync.yaml", {}).problems
    assert not [problem for problem in problems if "which is not there" in problem.message]


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT Id, t.NoReg, [No Reg], \"X\" FROM T t", ["Id", "NoReg", "No Reg", "X"]),
        ("SELECT DISTINCT Id, CAST(a AS INT) AS b, 'a, FROM' AS c FROM T", ["Id", "b", "c"]),
        ("WITH x AS (SELECT y FROM z) SELECT Id /* , no */, (SELECT 1) AS one FROM x", ["Id", "one"]),
        ("SELECT Id, ? AS p FROM T UNION SELECT a, b FROM U", ["Id", "p"]),
        ("SELECT TOP 5 Id FROM T", None), ("SELECT Id, a + b FROM T", None), ("SELECT CAST(a AS INT) FROM T", None),
        ("SELECT x = Id FROM T", None), ("SELECT NULL FROM T", None), ("VALUES (1)", None), ("SELECT Id", None), ("", None),
    ],
)  # fmt: skip
def test_a_select_list_is_read_where_it_is_beyond_doubt(sql: str, names: list[str] | None) -> None:
    assert columns(sql) == names


def test_connect_knows_the_columns_of_a_star(project: Project) -> None:
    """One look at the database; each word at its place, and nothing twice."""
    project.users(1)
    project.write(
        HEAD.format(query="SELECT * FROM Users")
        + '    transform:\n      - add: { label: "Id ~ Nmae" }\n    fields: { Id: int, lable: string }\n'
    )
    finished = project.cli("validate", project.file, "--connect", "--format", "json")
    assert finished.returncode == 2
    problems = [problem for problem in json.loads(finished.stdout)["problems"] if problem["severity"] == "error"]
    assert [(problem["line"], problem["column"]) for problem in problems] == [(10, 29), (11, 24)]
    assert "did you mean 'Name'" in problems[0]["message"]
    assert "did you mean 'label'" in problems[1]["message"]
