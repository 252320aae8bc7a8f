"""Which rows are read: whole pages, IDs first, or what the source's own server leaves out. The outcome is the same."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import fill
from tests.faultapi import FaultAPI
from tests.project import Project, check_sums

WAYS = ["lookup", "ids_first", "in_database"]


def add(project: Project, *ids: int, file: str = "source.db") -> None:
    with sqlite3.connect(project.folder / file) as connection:
        connection.executemany("INSERT INTO Users VALUES (?, 'new')", [(id_,) for id_ in ids])
    connection.close()


def planned(project: Project) -> dict[str, Any]:
    project.write()
    found: dict[str, Any] = json.loads(project.cli("plan", project.file, "--format", "json").stdout)["entities"][0]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_every_way_sends_what_is_due_and_counts_the_same(project: Project, api: FaultAPI, way: str) -> None:
    project.spec["connections"]["log"] = "sqlite:///source.db"
    project.users(50)
    project.entity(page_size=7, batch_size=5, exclude=way)
    project.run()
    add(project, 1000, 51, 0, -5)
    plan = planned(project)
    assert (plan["exclude"], plan["in_source"], plan["tracked"], plan["due"]) == (way, 54, 50, 4)
    before = len(api.requests)
    (users,) = project.run()["entities"]
    assert (users["read"], users["excluded"], users["accepted"]) == (54, 50, 4)
    sent = [record["Id"] for request in api.requests[before:] for record in request.records]
    assert sent == [-5, 0, 51, 1000]


def test_the_engine_chooses_the_cheapest_way_that_is_open(project: Project, api: FaultAPI) -> None:
    project.users(5)
    entity = project.entity()
    assert planned(project)["exclude"] == "lookup"
    project.run()
    assert planned(project)["exclude"] == "ids_first"
    entity["resend"] = "changed"
    assert planned(project)["exclude"] == "lookup"
    entity["resend"] = "once"
    project.spec["connections"]["log"] = "sqlite:///source.db"
    assert planned(project)["exclude"] == "lookup", "there is no tracking table to look at yet"
    project.run()
    assert planned(project)["exclude"] == "in_database"


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"exclude": "in_database"}, "visible_as"),
        ({"exclude": "ids_first", "resend": "changed"}, "resend"),
        ({"exclude": "in_database", "id": ["Id", "Name"]}, "several columns"),
    ],
)
def test_a_way_that_is_not_open_is_an_error_that_says_why(
    project: Project, api: FaultAPI, keys: dict[str, Any], why: str
) -> None:
    project.users(3)
    project.entity(**keys)
    report = project.run(code=1)
    assert why in report["entities"][0]["error"]
    assert api.requests == []


@pytest.mark.parametrize("way", WAYS)
def test_records_that_wait_or_rest_are_not_sent_by_any_way(project: Project, api: FaultAPI, way: str) -> None:
    from tests.faultapi import answer, when

    project.spec["connections"]["log"] = "sqlite:///source.db"
    project.users(20)
    project.entity(batch_size=5, page_size=6, exclude=way)
    bad = when(lambda request: any(record["Id"] == 7 for record in request.records), answer(422), answer())
    api.script("/users", bad)
    project.run(code=1)
    add(project, 21)
    report = project.run()
    (users,) = report["entities"]
    assert (users["excluded"], users["waiting"], users["accepted"]) == (19, 1, 1)
    check_sums(report)
    # Its content changes: it is due at once, whichever way its row is found.
    with sqlite3.connect(project.folder / "source.db") as connection:
        connection.execute("UPDATE Users SET Name = 'mended' WHERE Id = 7")
    connection.close()
    api.script("/users", answer())
    assert project.run()["entities"][0]["accepted"] == 1


@pytest.mark.parametrize("way", ["lookup", "ids_first"])
def test_guids_and_composite_keys_by_every_way(project: Project, api: FaultAPI, way: str) -> None:
    rows = [(f"{number:08X}-0000-4000-8000-00000000000A", "a" if number % 2 else "B ", number) for number in range(30)]
    project.fill("Users", "Id TEXT, Kind TEXT, N INTEGER", rows)
    project.entity(id=["Id", "Kind"], page_size=4, exclude=way)
    assert project.run()["entities"][0]["accepted"] == 30
    project.fill("Users", "Id TEXT, Kind TEXT, N INTEGER", [("0000000f-0000-4000-8000-00000000000A", "zz", 1)])
    (users,) = project.run()["entities"]
    assert (users["read"], users["excluded"], users["accepted"]) == (31, 30, 1)


def test_ids_first_refuses_rows_without_an_id_and_repeated_ones_as_ever(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER, Name TEXT", [(number, "x") for number in range(1, 21)])
    project.entity(page_size=50, exclude="ids_first")
    project.run()
    project.fill("Users", "Id INTEGER, Name TEXT", [(None, "nobody"), (99, "one"), (99, "two")])
    report = project.run(code=1)
    (users,) = report["entities"]
    assert (users["accepted"], users["rejected"], users["excluded"]) == (1, 2, 20)
    check_sums(report)


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_the_server_leaves_out_what_stands_in_its_tracking_table(
    project: Project, api: FaultAPI, database: Callable[[str], str], dialect: str
) -> None:
    text = database(dialect)
    project.spec["connections"] = {"default": text, "log": text}
    fill(text, "CREATE TABLE Users (Id CHAR(36) PRIMARY KEY, Name VARCHAR(50))")
    guids = [f"{number:08x}-0000-4000-8000-00000000000a" for number in range(40)]
    fill(text, *[f"INSERT INTO Users VALUES ('{guid.upper()}', 'n')" for guid in guids])
    project.entity(page_size=7, batch_size=10, fields={"Id": "guid", "Name": "string"})
    assert project.run()["entities"][0]["accepted"] == 40
    assert planned(project)["exclude"] == "in_database"
    fill(text, "INSERT INTO Users VALUES ('0000000f-1111-4000-8000-00000000000a', 'n')")
    (users,) = project.run()["entities"]
    assert (users["read"], users["excluded"], users["accepted"]) == (41, 40, 1)
