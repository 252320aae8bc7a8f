"""A source that is wrong, or holds what cannot be sent: one entity or one record is refused, the others arrive."""

from __future__ import annotations

import base64
import math
import sqlite3
from typing import Any

import pytest

from tests.faultapi import FaultAPI
from tests.project import Project, check_sums


def of(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [entity for entity in report["entities"] if entity["name"] == name]
    return dict(found)


def sent(api: FaultAPI, path: str = "/users") -> list[Any]:
    return [record for request in api.of(path) for record in request.records]


def add_good_neighbour(project: Project) -> None:
    """An entity after the bad one, that must run whatever happened."""
    project.users(2, "Good")
    project.entity("Good")


def check_neighbour(project: Project, api: FaultAPI, report: dict[str, Any]) -> None:
    assert [record["Id"] for record in sent(api, "/good")] == [1, 2]
    assert of(report, "Good")["error"] is None
    assert project.tracked("Good") == ["1", "2"]
    check_sums(report)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"query": "SELECT * FROM Absent"}, ["Absent"]),
        ({"query": "SELECT Id, Missing FROM Users"}, ["Missing"]),
        ({"query": "SELECT Name FROM Users"}, ["'Id'", "Name"]),
        ({"query": "SELECT * FROM Users", "id": "Nummer"}, ["'Nummer'", "Id, Name"]),
        ({"query": "SELECT Id, Name, Name AS name FROM Users"}, ["two columns", "AS"]),
        ({"query": "SELECT Id, Name FROM Users WHERE"}, ["syntax"]),
        ({"query": "SELECT Id, Name FROM Users", "connection": "gone"}, ["gone.db"]),
    ],
    ids=["table", "column", "id", "id-name", "double", "syntax", "file"],
)
def test_a_source_that_cannot_be_read_is_exit_4_and_the_next_entity_runs(
    project: Project, api: FaultAPI, keys: dict[str, Any], words: list[str]
) -> None:
    project.users(3)
    project.spec["connections"]["gone"] = "sqlite:///gone.db"
    project.entity(**keys)
    add_good_neighbour(project)
    report = project.run(code=4)
    assert report["status"] == "error"
    for word in words:
        assert word in of(report, "Users")["error"]
    assert api.of("/users") == []
    assert not (project.folder / "gone.db").exists()
    check_neighbour(project, api, report)


def test_a_field_that_no_column_gives_is_exit_1_and_the_next_entity_runs(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity(fields={"Id": "int", "Salary": "int"})
    add_good_neighbour(project)
    report = project.run(code=1)
    assert "'Salary'" in of(report, "Users")["error"]
    assert api.of("/users") == []
    check_neighbour(project, api, report)


def test_an_empty_source_sends_nothing_and_is_a_success(project: Project, api: FaultAPI) -> None:
    project.users(0)
    project.entity()
    report = project.run(code=0)
    assert api.requests == []
    assert (of(report, "Users")["read"], of(report, "Users")["calls"]) == (0, 0)
    assert report["status"] == "delivered"
    check_sums(report)


def check_one_refused(
    project: Project, api: FaultAPI, good: list[Any], words: list[str], rejected: int = 1
) -> dict[str, Any]:
    """Run: these IDs arrive and are tracked, the bad ones are refused with the words, and again next time."""
    add_good_neighbour(project)
    report = project.run(code=1)
    assert report["status"] == "incomplete"
    entity = of(report, "Users")
    assert sorted(str(record["Id"]) for record in sent(api)) == sorted(map(str, good))
    assert sorted(project.tracked()) == sorted(map(str, good))
    assert (entity["accepted"], entity["rejected"]) == (len(good), rejected)
    reasons = " | ".join(project.rejects().values())
    for word in words:
        assert word in reasons
    check_neighbour(project, api, report)
    again = project.run()
    assert (of(again, "Users")["rejected"], of(again, "Users")["rejected_before"]) == (rejected, rejected)
    assert len(sent(api)) == len(good), "a record was sent again"
    check_sums(again)
    return report


def test_a_null_id_is_rejected_alone(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER, Name TEXT", [(1, "a"), (None, "b"), (3, "c")])
    project.entity()
    check_one_refused(project, api, [1, 3], ["NULL"])


def test_of_a_duplicate_id_the_first_is_sent_and_the_other_is_named(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id TEXT, Name TEXT", [("1", "a"), ("2", "first"), ("2 ", "second"), ("3", "c")])
    project.entity()
    add_good_neighbour(project)
    report = project.run(code=1)
    assert [record["Name"] for record in sent(api)] == ["a", "first", "c"]
    assert project.tracked() == ["1", "2", "3"]
    assert "same canonical form" in project.rejects()['raw:"2 "']
    check_neighbour(project, api, report)


@pytest.mark.parametrize("id_", ["x" * 300, "", "   "], ids=["long", "empty", "blank"])
def test_an_id_that_cannot_be_one_is_rejected_alone(project: Project, api: FaultAPI, id_: str) -> None:
    project.fill("Users", "Id TEXT, Name TEXT", [("1", "a"), (id_, "b"), ("3", "c")])
    project.entity()
    check_one_refused(project, api, ["1", "3"], ["300"] if len(id_) == 300 else ["empty"])


def test_an_id_with_a_nul_is_rejected_alone(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id TEXT, Name TEXT", [("1", "a"), ("x\0y", "b"), ("x\0z", "b"), ("3", "c")])
    project.entity()
    check_one_refused(project, api, ["1", "3"], [], rejected=2)


def test_awkward_text_arrives_as_it_is(project: Project, api: FaultAPI) -> None:
    words = [
        "\N{GRINNING FACE}", "x'y", 'x"y', "a\nb\r\n\tc", "\\", "'; DROP TABLE Users; --", "{{ 7 * 7 }}", "a\0b",
        "\u2028", "", " ", "NULL", "x" * 100_000,
    ]  # fmt: skip
    project.fill("Users", "Id TEXT PRIMARY KEY, Name TEXT", [(f"{n} {w[:50]}".rstrip(), w) for n, w in enumerate(words)
                                                            if "\0" not in w] + [("nul", "a\0b")])  # fmt: skip
    project.entity(page_size=3)
    report = project.run()
    assert sorted(record["Name"] for record in sent(api)) == sorted(words)
    assert sorted(project.tracked()) == sorted(record["Id"] for record in sent(api))
    check_sums(report)
    project.run()
    assert len(sent(api)) == len(words)


def test_text_that_is_not_unicode_is_rejected_alone(project: Project, api: FaultAPI) -> None:
    project.users(5)
    with sqlite3.connect(project.folder / "source.db") as connection:
        connection.execute("UPDATE Users SET Name = CAST(x'EDA080' AS TEXT) WHERE Id = 3")
    connection.close()
    project.entity(page_size=2)
    report = check_one_refused(project, api, [1, 2, 4, 5], ["'Name'", "Unicode"])
    assert of(report, "Users")["read"] == 5
    assert set(project.rejects()) == {"3"}


def test_an_id_that_is_not_unicode_is_rejected_alone(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id TEXT, Name TEXT", [(f"k{n}", "a") for n in range(5)])
    with sqlite3.connect(project.folder / "source.db") as connection:
        connection.execute("UPDATE Users SET Id = CAST(x'6B32EDA080' AS TEXT) WHERE Id = 'k2'")
    connection.close()
    project.entity()
    check_one_refused(project, api, ["k0", "k1", "k3", "k4"], ["Unicode"])


def test_an_id_that_is_not_unicode_at_the_end_of_a_page_is_rejected_alone(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id TEXT, Name TEXT", [(f"k{n}", "a") for n in range(6)])
    with sqlite3.connect(project.folder / "source.db") as connection:
        connection.execute("UPDATE Users SET Id = CAST(x'6B32EDA080' AS TEXT) WHERE Id = 'k2'")
    connection.close()
    project.entity(page_size=3)
    check_one_refused(project, api, ["k0", "k1", "k3", "k4", "k5"], ["Unicode"])


@pytest.mark.parametrize("fields", [None, {"Id": "int", "Amount": "float?"}, {"Id": "int", "Amount": "decimal?"}])
def test_an_infinity_is_rejected_alone_and_a_nan_that_sqlite_holds_as_null_is_not(
    project: Project, api: FaultAPI, fields: dict[str, str] | None
) -> None:
    rows = [(1, 1.5), (2, math.inf), (3, -math.inf), (4, math.nan), (5, 2.5)]
    project.fill("Users", "Id INTEGER PRIMARY KEY, Amount REAL", rows)
    project.entity(**({"fields": fields} if fields else {}))
    check_one_refused(project, api, [1, 4, 5], ["'Amount'", "inf"], rejected=2)
    assert {record["Id"]: record["Amount"] for record in sent(api)} == {1: 1.5, 4: None, 5: 2.5}


def test_a_value_that_breaks_its_contract_is_rejected_with_the_field_and_the_value(
    project: Project, api: FaultAPI
) -> None:
    rows = [(1, "2026-01-02", "5"), (2, "yesterday", "5"), (3, None, "5"), (4, "2026-01-02 03:04:05", "five")]
    project.fill("Users", "Id INTEGER PRIMARY KEY, Since TEXT, Level TEXT", rows)
    project.entity(fields={"Id": "int", "Since": "datetime", "Level": "int"})
    check_one_refused(project, api, [1], ["'Since'", "yesterday", "NULL", "'Level'", "five"], rejected=3)
    assert sent(api) == [{"Id": 1, "Since": "2026-01-02T00:00:00", "Level": 5}]


def test_a_blob_is_base64_where_it_may_be_and_else_breaks_the_contract(project: Project, api: FaultAPI) -> None:
    rows = [(1, b"\x00\xff"), (2, "text")]
    project.fill("Users", "Id INTEGER PRIMARY KEY, Photo BLOB", rows)
    project.fill("Other", "Id INTEGER PRIMARY KEY, Photo BLOB", rows)
    project.entity()
    project.entity("Other", fields={"Id": "int", "Photo": "string"})
    report = project.run(code=1)
    assert [record["Photo"] for record in sent(api)] == [base64.b64encode(b"\x00\xff").decode(), "text"]
    assert [record["Id"] for record in sent(api, "/other")] == [2]
    assert set(project.rejects("Other")) == {"1"}
    check_sums(report)


def test_a_failure_in_a_later_page_keeps_what_was_delivered_before(project: Project, api: FaultAPI) -> None:
    project.users(6)
    # The fifth row makes the database itself fail.
    project.entity(query="SELECT Id, abs(CASE Id WHEN 5 THEN -9223372036854775808 ELSE Id END) AS N FROM Users",
                   page_size=2, batch_size=2)  # fmt: skip
    add_good_neighbour(project)
    report = project.run(code=4)
    assert [record["Id"] for record in sent(api)] == [1, 2, 3, 4]
    assert project.tracked() == ["1", "2", "3", "4"]
    assert "overflow" in of(report, "Users")["error"]
    check_neighbour(project, api, report)


def test_a_source_that_is_not_a_database_is_exit_4(project: Project, api: FaultAPI) -> None:
    (project.folder / "source.db").write_text("this is no database, but long enough to be looked at" * 10)
    project.entity()
    report = project.run(code=4)
    assert "not a database" in of(report, "Users")["error"]
    assert api.requests == []
