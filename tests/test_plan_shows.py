"""What `plan` shows: records to read, exact bytes, the statements, what is sorted for every page, and its exit code."""

from __future__ import annotations

import re

import pytest

from tests.faultapi import FaultAPI
from tests.inprocess import Engine
from tests.project import Project


@pytest.fixture
def engine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(capsys, monkeypatch)


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
