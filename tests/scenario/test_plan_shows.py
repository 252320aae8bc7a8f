"""What `plan` shows: records to read, exact bytes, the statements, what is sorted for every page, and its exit code."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from engine.sync.read.sorting import base_table
from tests.conftest import fill
from tests.faultapi import FaultAPI
from tests.inprocess import Engine
from tests.project import Project


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_a_preview_shows_some_records_of_the_first_request_to_read_and_its_size(
    project: Project, engine: Engine
) -> None:
    """`--preview 2` of 1,000 records is two records on lines of their own, with the size of the whole; digits stay."""
    project.fill("Users", "Id INTEGER, Amount TEXT", [(n, "0.10000000000000000001") for n in range(1, 1001)])
    project.entity(fields={"Id": "int", "Amount": "decimal"}, body={"wrap": "items"})
    text = engine("plan", project.write(), "--preview", "2")
    assert '  "items": [\n    {\n      "Id": 1,\n      "Amount": 0.10000000000000000001\n    },' in text
    assert text.count('"Amount"') == 2
    assert "... and 998 more records" in text
    (entity,) = engine.json("plan", project.file, "--preview", "2")["entities"]
    (request,) = entity["requests"]
    assert f"body: {request['bytes']:,} bytes, 1,000 records" in text
    assert (request["records"], [record["Id"] for record in request["shown"]]) == (1000, [1, 2])
    assert "body" not in request


def test_full_shows_the_exact_bytes(project: Project, engine: Engine, api: FaultAPI) -> None:
    """`--full` prints the body on one line, byte for byte as the run sends it."""
    project.users(3)
    project.entity()
    text = engine("plan", project.write(), "--full")
    engine("run", project.file)
    assert api.requests[0].body.decode() in text.splitlines()


def test_sql_prints_the_first_and_a_next_page_with_their_values(
    project: Project, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--sql` prints what the database gets and each bound value; a secret in the SQL is masked."""
    monkeypatch.setenv("API_TOKEN", "tok-5ecret")
    project.spec["api"]["auth"] = {"bearer": "${API_TOKEN}"}
    project.users(7)
    project.entity(query="SELECT Id, Name FROM Users WHERE Name <> 'tok-5ecret'", page_size=5)
    text = engine("plan", project.write(), "--sql")
    assert "tok-5ecret" not in text
    first, following = re.findall(r"^Users: (?:first|next) page$\n(.*?)-- parameters: ([^\n]*)", text, re.M | re.S)
    assert "FROM Users WHERE Name <> '***'" in first[0]
    assert first[1] == "5"
    assert '("Id") > (?)' in following[0]
    assert following[1] == "5, 5"
    (entity,) = engine.json("plan", project.file, "--sql")["entities"]
    assert [(s["what"], s["parameters"]) for s in entity["statements"]] == [("first page", [5]), ("next page", [5, 5])]
    assert entity["due"] == 7


def test_sql_shows_the_statements_that_leave_delivered_records_out(project: Project, engine: Engine) -> None:
    """With `ids_first` the pages are of IDs, and the rows of what is due are read by their IDs."""
    project.users(3)
    project.entity(exclude="ids_first")
    engine("run", project.write())
    (entity,) = engine.json("plan", project.file, "--sql")["entities"]
    assert [s["what"] for s in entity["statements"]] == [
        "first page of IDs",
        "next page of IDs",
        "the rows of IDs that are due",
    ]
    assert "*" not in entity["statements"][0]["sql"].splitlines()[0]


def test_a_plan_with_records_to_reject_ends_with_1(project: Project, engine: Engine) -> None:
    """What a run would reject is found in CI by the exit code of `plan`."""
    project.fill("Users", "Id INTEGER, Level TEXT", [(1, "1"), (2, "two")])
    project.entity(fields={"Id": "int", "Level": "int"})
    assert "1 record to reject: field 'Level'" in engine("plan", project.write(), code=1)
    project.spec["entities"][0]["fields"] = {"Id": "int", "Level": "string"}
    engine("plan", project.write())


ROWS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) INSERT INTO Jobs SELECT i, 'd' || i, 'x' FROM n",
    "postgresql": "INSERT INTO Jobs SELECT i, 'd' || i, 'x' FROM generate_series(1, {rows}) AS n(i)",
    "mysql": "INSERT INTO Jobs SELECT seq, CONCAT('d', seq), 'x' FROM seq_1_to_{rows}",
}
DATABASES = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.odbc),
    pytest.param("mysql", marks=pytest.mark.odbc),
]


@pytest.mark.parametrize("dialect", DATABASES)
def test_a_source_without_an_index_on_the_id_is_pointed_out_with_the_index(
    project: Project, engine: Engine, database: Callable[[str], str], dialect: str
) -> None:
    """`plan` and `validate --connect` say that every page is sorted, with the CREATE INDEX; with the index they say nothing."""
    text = database(dialect)
    fill(
        text,
        "CREATE TABLE Jobs (Emp INTEGER NOT NULL, Dept VARCHAR(20) NOT NULL, Name VARCHAR(20))",
        ROWS[dialect].format(rows=12_000),
    )
    project.spec["connections"]["default"] = text
    project.entity("Jobs", id=["Emp", "Dept"], query="SELECT j.Emp, j.Dept, j.Name FROM Jobs j WHERE j.Name = 'x'")
    (entity,) = engine.json("plan", project.write())["entities"]
    create = re.search(r"run (CREATE INDEX .*)", entity["sorts"])
    assert create is not None
    assert create[1].casefold() == "create index ix_jobs_emp_dept on jobs (emp, dept)"
    problems = engine.json("validate", project.file, "--connect")["problems"]
    (warning,) = [problem for problem in problems if "CREATE INDEX" in problem["message"]]
    assert warning["severity"] == "warning"
    # Of a view only the sort is certain.
    fill(text, "CREATE VIEW Work AS SELECT Emp, Dept, Name FROM Jobs")
    project.spec["entities"][0]["query"] = "SELECT * FROM Work"
    (entity,) = engine.json("plan", project.write())["entities"]
    assert "sorts the whole source" in entity["sorts"]
    assert "CREATE" not in entity["sorts"]
    fill(text, create[1])
    (entity,) = engine.json("plan", project.file)["entities"]
    assert entity["sorts"] is None


def test_a_small_table_that_is_sorted_is_not_worth_a_word(project: Project, engine: Engine) -> None:
    project.fill("Users", "Id INTEGER, Name TEXT", [(n, "x") for n in range(9_999)])
    project.entity()
    assert engine.json("plan", project.write())["entities"][0]["sorts"] is None
    project.fill("Users", "Id INTEGER, Name TEXT", [(9_999, "x")])
    assert "CREATE INDEX IX_Users_Id ON Users (Id)" in engine("plan", project.file)


PAGE = "SELECT * FROM (\n{query}\n\n) AS page_\nORDER BY Id"


@pytest.mark.parametrize(
    ("query", "table"),
    [
        ("SELECT * FROM dbo.Users", "dbo.Users"),
        ("select Id, Name from Users as u where u.Name = 'FROM x'", "Users"),
        ("SELECT Code AS Id, Name FROM Users", None),
        ("SELECT Id FROM Users u JOIN Orgs o ON o.Id = u.Id", None),
        ("SELECT Id FROM Users, Orgs", None),
        ("SELECT Id FROM Users UNION SELECT Id FROM Orgs", None),
        ("SELECT LOWER(Id) FROM Users", None),
        ("SELECT Id FROM (SELECT Id FROM Users) AS u", None),
    ],
)
def test_an_index_is_only_named_where_table_and_column_are_certain(query: str, table: str | None) -> None:
    assert base_table(PAGE.format(query=query), ("Id",)) == table
