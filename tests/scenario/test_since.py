"""`changed_since`: most runs read only what changed lately, and no record depends on it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import fill
from tests.faultapi import FaultAPI, answer, when
from tests.project import Project, check_sums

COLUMNS = "Id INTEGER PRIMARY KEY, Name TEXT, ModifiedOn TEXT"


def table(project: Project, *rows: tuple[int, str | None]) -> None:
    project.fill("Users", COLUMNS, [(id_, f"name {id_}", moment) for id_, moment in rows])


def setup(project: Project, count: int = 20, **keys: Any) -> dict[str, Any]:
    """Users of the days of May 2026, and an entity that looks at when they changed; one run has sent them."""
    table(project, *((number, f"2026-05-{number:02} 08:00:00") for number in range(1, count + 1)))
    entity = project.entity(changed_since={"column": "ModifiedOn", "overlap": "24h"}, page_size=7, **keys)
    assert project.run()["entities"][0]["accepted"] == count
    return entity


def users(report: dict[str, Any]) -> dict[str, Any]:
    check_sums(report)
    found: dict[str, Any] = report["entities"][0]
    return found


def watermark(project: Project) -> Any:
    rows = project.ledger("SELECT Watermark FROM TB_R_SYNC_WATERMARK WHERE EntityType = 'Users'")
    return json.loads(rows[0][0])[1] if rows and rows[0][0] else None


def age_full_check(project: Project, hours: int) -> None:
    with sqlite3.connect(project.folder / "log.db") as connection:
        connection.execute(
            "UPDATE TB_R_SYNC_WATERMARK SET FullCheckOn = strftime('%Y-%m-%d %H:%M:%f', 'now', ?)", (f"-{hours} hours",)
        )
    connection.close()


@pytest.mark.parametrize("way", ["lookup", "ids_first", "in_database"])
def test_a_later_run_reads_what_changed_and_the_overlap(project: Project, api: FaultAPI, way: str) -> None:
    project.spec["connections"]["log"] = "sqlite:///source.db"
    setup(project, exclude=way)
    table(project, (100, "2026-05-20 09:30:00"), (101, "2026-06-01 00:00:00"))
    found = users(project.run())
    # 19 and 20 are within a day of the watermark, and delivered.
    assert (found["read"], found["excluded"], found["accepted"]) == (4, 2, 2)
    assert users(project.run())["read"] == 1, "the newest itself"


def test_run_says_since_when_it_read_and_nothing_where_it_read_everything(project: Project, api: FaultAPI) -> None:
    table(project, *((number, f"2026-05-{number:02} 08:00:00") for number in range(1, 4)))
    project.entity(changed_since={"column": "ModifiedOn", "overlap": "24h"})
    whole = project.cli("run", project.write())
    assert whole.returncode == 0
    assert "changed_since" not in whole.stdout
    lately = project.cli("run", project.file)
    assert lately.returncode == 0
    assert "Users: only what changed since 2026-05-02 was read (`changed_since`)" in lately.stdout


def test_the_first_run_and_one_after_the_time_of_the_full_check_read_everything(
    project: Project, api: FaultAPI
) -> None:
    setup(project)
    table(project, (50, "2020-01-01 00:00:00"))  # inserted with an old time: the hint does not see it
    assert users(project.run())["read"] == 2
    age_full_check(project, 167)
    assert users(project.run())["read"] == 2
    age_full_check(project, 169)
    found = users(project.run())
    assert (found["read"], found["accepted"]) == (21, 1)
    assert users(project.run())["read"] == 2, "and then it is a hint again"


def test_a_row_without_a_time_is_always_read(project: Project, api: FaultAPI) -> None:
    setup(project)
    table(project, (60, None))
    assert users(project.run())["accepted"] == 1
    assert users(project.run())["excluded"] == 3


def test_whatever_is_left_behind_holds_the_watermark(project: Project, api: FaultAPI) -> None:
    setup(project, batch_size=1)
    table(project, (101, "2026-06-01 00:00:00"), (102, "2026-07-01 00:00:00"))
    bad = when(lambda request: request.records[0]["Id"] == 101, answer(500), answer())
    api.script("/users", bad)
    project.spec["api"]["in_doubt_statuses"] = []
    found = users(project.run(code=1))
    assert (found["accepted"], found["failed"]) == (1, 1)
    assert watermark(project) == "2026-05-20 08:00:00"
    api.script("/users", answer())
    assert users(project.run())["accepted"] == 1
    assert watermark(project) == "2026-07-01 00:00:00"


@pytest.mark.parametrize("how", ["limit", "contract", "refused", "doubt"])
def test_nothing_incomplete_moves_the_watermark(project: Project, api: FaultAPI, how: str) -> None:
    entity = setup(project)
    table(project, (101, "2026-06-01 00:00:00"), (102, "2026-07-01 00:00:00"))
    options: list[str] = []
    code = 1
    match how:
        case "limit":
            options, code = ["--limit", "1"], 0
        case "contract":
            entity["fields"] = {"Id": "int", "Name": "string", "ModifiedOn": "int"}
        case "refused":
            api.script("/users", answer(422))
        case "doubt":
            api.script("/users", answer(502))
            project.spec["api"]["in_doubt"] = "hold"
    project.run(*options, code=code)
    assert watermark(project) == "2026-05-20 08:00:00"


@pytest.mark.parametrize("change", ["query", "transform", "column"])
def test_another_sql_is_another_source_and_is_read_whole(project: Project, api: FaultAPI, change: str) -> None:
    entity = setup(project)
    match change:
        case "query":
            entity["query"] = "SELECT * FROM Users WHERE Id > 0"
        case "transform":
            entity["transform"] = [{"select": "Id > 0"}]
        case "column":
            entity["query"] = "SELECT *, ModifiedOn AS Other FROM Users"
            entity["changed_since"] = {"column": "Other"}
    assert users(project.run())["read"] == 20
    assert users(project.run())["read"] < 20


@pytest.mark.parametrize("act", ["forget", "retry"])
def test_a_person_who_frees_a_record_has_everything_read_again(project: Project, api: FaultAPI, act: str) -> None:
    setup(project)
    arguments = ["3"] if act == "forget" else []
    done = project.cli(act, project.file, "Users", *arguments)
    assert done.returncode == 0, done.stderr
    found = users(project.run())
    assert (found["read"], found["accepted"]) == (20, 1 if act == "forget" else 0)


def test_changed_records_are_sent_again_though_little_is_read(project: Project, api: FaultAPI) -> None:
    setup(project, resend="changed")
    with sqlite3.connect(project.folder / "source.db") as connection:
        connection.execute("UPDATE Users SET Name = 'new', ModifiedOn = '2026-06-02 10:00:00' WHERE Id = 4")
    connection.close()
    found = users(project.run())
    assert (found["read"], found["accepted"]) == (3, 1)
    assert api.requests[-1].records == [{"Id": 4, "Name": "new", "ModifiedOn": "2026-06-02 10:00:00"}]


def test_workers_share_what_changed(project: Project, api: FaultAPI) -> None:
    setup(project)
    table(project, *((number, f"2026-06-01 00:{number % 60:02}:00") for number in range(200, 240)))
    found = users(project.run("--workers", "2"))
    assert (found["read"], found["excluded"], found["accepted"]) == (42, 2, 40)
    assert users(project.run("--workers", "2"))["read"] == 40


@pytest.mark.parametrize(
    ("values", "overlap", "read"), [((1000, 2000, 3000), 500, 1), ((10.5, 20.5, 30.5), 11, 2), ((1, 2, 3), 0, 1)]
)
def test_a_column_of_numbers_has_a_number_as_its_overlap(
    project: Project, api: FaultAPI, values: tuple[float, ...], overlap: int, read: int
) -> None:
    project.fill("Users", "Id INTEGER PRIMARY KEY, V NUMERIC", enumerate(values, 1))
    project.entity(changed_since={"column": "V", "overlap": overlap})
    project.run()
    assert users(project.run())["read"] == read


def test_a_rowversion_is_eight_bytes_that_count(project: Project, api: FaultAPI) -> None:
    rows = [(number, (2**40 + number).to_bytes(8, "big")) for number in range(1, 31)]
    project.fill("Users", "Id INTEGER PRIMARY KEY, V BLOB", rows)
    project.entity(changed_since={"column": "V", "overlap": 10}, fields={"Id": "int"})
    project.run()
    assert users(project.run())["read"] == 11


def test_a_rowversion_below_the_overlap_goes_back_to_zero_and_no_further(project: Project, api: FaultAPI) -> None:
    rows = [(number, number.to_bytes(8, "big")) for number in range(5)]
    project.fill("Users", "Id INTEGER PRIMARY KEY, V BLOB", rows)
    project.entity(changed_since={"column": "V", "overlap": 10}, fields={"Id": "int"})
    project.run()
    assert users(project.run())["read"] == 5


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"column": "Nope"}, ["'Nope'", "changed_since", "Id, Name, ModifiedOn"]),
        ({"column": "Id"}, ["'Id'", "a number, such as `overlap: 1000`"]),
        ({"column": "ModifiedOn", "overlap": 5}, ["a duration, such as `overlap: 15m`"]),
    ],
)
def test_a_column_that_cannot_serve_is_an_error_of_the_entity_and_of_validate(
    project: Project, api: FaultAPI, keys: dict[str, Any], words: list[str]
) -> None:
    table(project, (1, "2026-05-01 08:00:00"))
    project.entity(changed_since=keys)
    error = project.run(code=None)["entities"][0]["error"]
    assert all(word in error for word in words), error
    assert api.requests == []
    checked = project.cli("validate", project.file, "--connect")
    assert checked.returncode != 0
    assert all(word in checked.stdout for word in words), checked.stdout


def test_values_that_are_no_times_have_everything_read_and_a_warning(project: Project, api: FaultAPI) -> None:
    table(project, (1, "2026-05-01 08:00:00"))
    project.entity(changed_since={"column": "Name"})
    project.write()
    done = project.cli("run", project.file)
    assert done.returncode == 0
    assert "cannot go back from 'name 1'" in done.stderr
    assert users(project.run())["read"] == 1
    checked = project.cli("validate", project.file, "--connect")
    assert (checked.returncode, "cannot go back from 'name 1'" in checked.stdout) == (2, True)


def test_sql_that_pages_itself_cannot_be_narrowed(project: Project, api: FaultAPI) -> None:
    table(project, (1, "2026-05-01 08:00:00"))
    query = (
        "SELECT * FROM Users {% if after is not none %}WHERE Id > {{ after }}{% endif %} ORDER BY Id LIMIT {{ limit }}"
    )
    project.entity(query=query, changed_since={"column": "ModifiedOn"})
    assert "pages itself" in project.run(code=2)["problems"][0]["message"]


def test_plan_and_status_say_how_far_the_source_was_read(project: Project, api: FaultAPI) -> None:
    setup(project)
    planned = json.loads(project.cli("plan", project.file, "--format", "json").stdout)["entities"][0]
    assert (planned["since"], planned["in_source"]) == ("2026-05-19", 2)
    assert "only what changed since 2026-05-19 is read" in project.cli("plan", project.file).stdout
    status = json.loads(project.cli("status", project.file, "--format", "json").stdout)["entities"][0]
    assert status["watermark"] == "2026-05-20 08:00:00"
    assert status["full_check"]
    assert "delivered up to 2026-05-20 08:00:00" in project.cli("status", project.file).stdout


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_times_and_numbers_of_other_databases(
    project: Project, api: FaultAPI, database: Callable[[str], str], dialect: str
) -> None:
    text = database(dialect)
    project.spec["connections"] = {"default": text, "log": text}
    fill(text, "CREATE TABLE Users (Id INTEGER PRIMARY KEY, ModifiedOn TIMESTAMP(6) NULL, V DECIMAL(20, 3))")
    fill(text, *[f"INSERT INTO Users VALUES ({n}, '2026-05-{n:02} 08:00:00.123456', {n}.5)" for n in range(1, 21)])
    entity = project.entity(changed_since={"column": "ModifiedOn", "overlap": "24h"}, page_size=6)
    assert users(project.run())["accepted"] == 20
    fill(
        text, "INSERT INTO Users VALUES (50, '2026-06-01 00:00:00', 51.5)", "INSERT INTO Users VALUES (51, NULL, 52.5)"
    )
    found = users(project.run())
    assert (found["read"], found["excluded"], found["accepted"]) == (4, 2, 2)
    entity["changed_since"] = {"column": "V", "overlap": 1}
    assert users(project.run())["read"] == 22
    assert users(project.run())["read"] == 2
