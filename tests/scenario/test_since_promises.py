"""`changed_since` against odd values, changed specs, people and accidents: no record depends on it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.conftest import fill
from tests.crash.test_spread import workers_of
from tests.faultapi import FaultAPI, answer, slow, when
from tests.project import Project
from tests.scenario.test_since import age_full_check, setup, table, users, watermark


def execute(project: Project, sql: str) -> None:
    with sqlite3.connect(project.folder / "source.db") as connection:
        connection.execute(sql)
    connection.close()


def values(project: Project, *found: Any, overlap: Any = "15m", first: int = 1) -> None:
    """Users with these values in a column without a type, and the entity that looks at it."""
    project.fill("Users", "Id INTEGER PRIMARY KEY, ModifiedOn", enumerate(found, first))
    if not project.spec["entities"]:
        project.entity(changed_since={"column": "ModifiedOn", "overlap": overlap}, fields={"Id": "int"})


# Contents that nobody knows: what is learned too late is taken for delivered, and the change never goes out.


def test_a_switch_to_resend_changed_learns_every_content(project: Project, api: FaultAPI) -> None:
    setup(project)["resend"] = "changed"
    project.run()
    execute(project, "UPDATE Users SET Name = 'new', ModifiedOn = '2026-06-02 10:00:00' WHERE Id = 4")
    assert users(project.run())["accepted"] == 1


def test_after_a_baseline_every_content_is_learned(project: Project, api: FaultAPI) -> None:
    setup(project, resend="changed")
    table(project, (50, "2020-01-01 00:00:00"))
    assert project.cli("baseline", project.file, "Users", "--yes").returncode == 0
    project.run()
    execute(project, "UPDATE Users SET Name = 'new', ModifiedOn = '2026-06-02 10:00:00' WHERE Id = 50")
    assert users(project.run())["accepted"] == 1


def test_other_fields_make_other_contents_of_all_records(project: Project, api: FaultAPI) -> None:
    setup(project, resend="changed")["fields"] = {"Id": "int", "Name": "string"}
    assert users(project.run())["accepted"] == 20


# Another source, another ledger


def test_another_value_in_the_sql_is_another_source(project: Project, api: FaultAPI) -> None:
    table(project, (1, "2026-05-20 08:00:00"), (2, "2020-05-20 08:00:00"))
    entity = project.entity(query="SELECT * FROM Users WHERE Id <> {{ 2 }}", changed_since={"column": "ModifiedOn"})
    assert users(project.run())["accepted"] == 1
    entity["query"] = "SELECT * FROM Users WHERE Id <> {{ 3 }}"
    assert users(project.run())["accepted"] == 1


def test_another_tracking_table_has_everything_read(project: Project, api: FaultAPI) -> None:
    setup(project)
    project.spec["ledger"] = {"tracking_table": "TB_R_ANOTHER"}
    assert users(project.run("--first-run"))["accepted"] == 20


def test_pipelines_that_share_a_ledger_have_watermarks_of_their_own(project: Project, api: FaultAPI) -> None:
    setup(project)
    other = project.folder / "pipelines" / "other.yaml"
    other.write_text(yaml.safe_dump({**project.spec, "name": "other"}), encoding="utf-8")

    def run_other() -> dict[str, Any]:
        return users(json.loads(project.cli("run", other, "--format", "json").stdout))

    assert run_other()["excluded"] == 20
    table(project, (100, "2026-06-01 00:00:00"))
    api.script("/users", answer(422), answer())
    assert run_other()["rejected"] == 1
    assert users(project.run())["waiting"] == 1
    assert project.cli("retry", other, "Users").returncode == 0
    assert users(project.run())["accepted"] == 1
    assert project.cli("forget", project.file, "Users", "5").returncode == 0
    assert run_other()["accepted"] == 1


# People, while a run goes on and otherwise


@pytest.mark.parametrize("full", [True, False])
def test_a_record_forgotten_during_a_run_is_due_in_the_next(project: Project, api: FaultAPI, full: bool) -> None:
    setup(project)
    if full:
        age_full_check(project, 169)
    table(project, (100, "2026-06-01 00:00:00"))
    api.script("/users", slow(2), answer())
    project.write()
    process = project.popen("run", project.file, "--format", "json")
    while len(api.of("/users")) < 2:
        assert process.poll() is None
    assert project.cli("forget", project.file, "Users", "3").returncode == 0
    process.communicate(timeout=30)
    found = users(project.run())
    assert (found["read"], found["accepted"]) == (21, 1)


def test_why_does_not_promise_the_next_run_for_what_it_will_not_read(project: Project, api: FaultAPI) -> None:
    setup(project)
    table(project, (50, "2020-01-01 00:00:00"))
    asked = project.cli("why", project.file, "Users", "50")
    assert asked.returncode == 0, asked.stderr
    assert users(project.run())["accepted"] == 0
    assert "the next run sends it" not in asked.stdout
    assert "the next run that reads it sends it" in asked.stdout


@pytest.mark.parametrize("act", ["plan", "status", "why", "forget", "retry", "baseline"])
def test_a_ledger_of_an_older_version_serves_everybody(project: Project, api: FaultAPI, act: str) -> None:
    setup(project)
    with sqlite3.connect(project.folder / "log.db") as connection:
        connection.execute("DROP TABLE TB_R_SYNC_WATERMARK")
    connection.close()
    rest = {"plan": [], "status": [], "retry": ["Users"], "baseline": ["Users", "--yes"]}.get(act, ["Users", "3"])
    done = project.cli(act, project.file, *rest)
    assert done.returncode == 0, done.stderr
    assert users(project.run())["read"] == 20


# Accidents


def test_a_dead_worker_does_not_hide_a_record_that_rests(project: Project, api: FaultAPI) -> None:
    table(project, *((number, f"2026-05-{number:02} 08:00:00") for number in range(1, 21)))
    project.entity(changed_since={"column": "ModifiedOn"}, batch_size=1)
    bad = when(lambda request: request.records[0]["Id"] == 1, answer(422))
    api.script("/users", bad)
    assert users(project.run(code=1))["rejected"] == 1
    table(project, *((number, "2026-06-01 00:00:00") for number in range(21, 61)))
    api.script("/users", when(lambda request: request.records[0]["Id"] > 30, slow(0.3), bad))
    process = project.popen("run", project.file, "--workers", "2", "--format", "json")
    while len(project.tracked()) < 31:
        assert process.poll() is None
    time.sleep(1.2)  # the worker of the first part has ended it by now
    os.kill(workers_of(process)[0], signal.SIGKILL)
    output, errors = process.communicate(timeout=120)
    assert "given out again" in errors
    found = users(json.loads(output))
    assert (found["waiting"], process.returncode, watermark(project)) == (1, 0, None), errors


def test_rows_without_an_id_and_repeated_ones_hold_the_watermark(project: Project, api: FaultAPI) -> None:
    first = [(number, f"2026-05-{number:02} 08:00:00") for number in range(1, 21)]
    project.fill("Users", "Id INTEGER, ModifiedOn TEXT", first)
    project.entity(changed_since={"column": "ModifiedOn", "overlap": "24h"}, page_size=7)
    project.run()
    late = [(None, "2026-06-01"), (30, "2026-06-02"), (30, "2026-06-03"), (3, "2026-06-03")]
    project.fill("Users", "Id INTEGER, ModifiedOn TEXT", late)
    for accepted, rejected, code in ((1, 2, 1), (0, 2, 0)):
        found = users(project.run(code=code))
        assert (found["accepted"], found["rejected"]) == (accepted, rejected)
        assert watermark(project) == "2026-05-20 08:00:00"


# Values


@pytest.mark.parametrize(
    ("before", "late", "overlap"),
    [
        ("2026-05-20T08:00:00", "2026-05-20 09:00:00", "15m"),
        ("2026-05-20 08:00", "2026-05-20 07:45", "15m"),
        ("2026-05-20 08:00", "2026-05-20 08:00", "0s"),
        ("2026-05-20T08", "2026-05-20T07", "1h"),
        (" 2026-05-20 08:00:00", " 2026-05-20 09:00:00", "15m"),
        ("2026-05-20 08:00:00.5", "2026-05-20 08:00:00.25", "250ms"),
        ("2026-05-20 08:00:00Z", "2026-05-20 07:45:00Z", "15m"),
        ("2026-05-20T23:00:00+07:00", "2026-05-20T17:00:00+00:00", "15m"),
        ("2026-10-25T02:59:00+02:00", "2026-10-25T02:10:00+01:00", "15m"),
        ("2026-05-20", "2026-05-19", "15m"),
        ("20260520T080000", "20260520T074500", "15m"),
        (1000, 999.5, 5),
        ("0001-01-01 00:00:00", "0001-01-01 00:00:00", "15m"),
        (float("inf"), float("inf"), 5),
    ],
)
def test_a_value_within_the_overlap_is_read_in_whatever_shape(
    project: Project, api: FaultAPI, before: Any, late: Any, overlap: Any
) -> None:
    values(project, before, overlap=overlap)
    assert users(project.run())["accepted"] == 1
    values(project, late, first=100)
    assert users(project.run())["accepted"] == 1
    assert project.cli("status", project.file).returncode == 0


def test_a_time_in_the_far_future_does_not_hide_the_present(project: Project, api: FaultAPI) -> None:
    values(project, "2026-05-20 08:00:00", "9999-12-31 00:00:00")
    project.run()
    values(project, "2026-05-21 08:00:00", first=10)
    assert users(project.run())["accepted"] == 1


@pytest.mark.parametrize("now", ["'2026-05-20 08:10:00'", "1779264000"])
def test_when_the_greatest_value_falls_everything_is_read(project: Project, api: FaultAPI, now: str) -> None:
    values(project, "2026-05-20 08:00:00", "2062-05-20 08:00:00")
    project.run()
    execute(project, f"UPDATE Users SET ModifiedOn = {now} WHERE Id = 2")
    values(project, "2026-05-21 08:00:00", first=10)
    assert users(project.run())["accepted"] == 1


def test_a_watermark_of_another_kind_than_the_column_is_no_error(project: Project, api: FaultAPI) -> None:
    values(project, 1000, 2000, overlap=5)
    project.run()
    execute(project, "UPDATE Users SET ModifiedOn = '2026-05-20 08:00:00'")
    values(project, "2026-05-21 08:00:00", first=10)
    project.spec["entities"][0]["changed_since"]["overlap"] = "15m"
    assert users(project.run(code=None))["accepted"] == 1


@pytest.mark.parametrize("found", [[], [None, None]])
def test_a_source_without_a_value_is_read_whole_and_has_no_watermark(
    project: Project, api: FaultAPI, found: list[Any]
) -> None:
    values(project, *found)
    project.run()
    status = json.loads(project.cli("status", project.file, "--format", "json").stdout)["entities"][0]
    values(project, "2020-01-01 00:00:00", first=10)
    assert users(project.run())["accepted"] == 1
    assert status["watermark"] is None


# Other databases


@pytest.mark.parametrize(
    ("dialect", "kind", "before", "late", "overlap"),
    [
        ("postgresql", "NUMERIC(38)", "9" * 30, "9" * 26 + "8999", 1000),
        ("postgresql", "DOUBLE PRECISION", "'NaN'", "'NaN'", 1),
        ("postgresql", "DATE", "'2026-05-20'", "'2026-05-19'", "15m"),
        ("postgresql", "BYTEA", "'\\x0010'", "'\\x000b'", 5),
        ("mysql", "DATETIME(6)", "'2026-05-20 08:00:00.123456'", "'2026-05-20 07:45:00.123456'", "15m"),
        ("mysql", "VARCHAR(40)", "'2026-05-20T08:00:00'", "'2026-05-20T07:45:00'", "15m"),
        ("mysql", "VARBINARY(8)", "X'0010'", "X'000b'", 5),
    ],
)
def test_the_end_of_the_overlap_is_read_in_other_databases(
    project: Project,
    api: FaultAPI,
    database: Callable[[str], str],
    dialect: str,
    kind: str,
    before: str,
    late: str,
    overlap: Any,
) -> None:
    text = database(dialect)
    project.spec["connections"]["default"] = text
    fill(text, f"CREATE TABLE Users (Id INTEGER PRIMARY KEY, V {kind})", f"INSERT INTO Users VALUES (1, {before})")
    project.entity(changed_since={"column": "v", "overlap": overlap}, fields={"Id": "int"})
    assert users(project.run())["accepted"] == 1
    fill(text, f"INSERT INTO Users VALUES (2, {late})")
    assert users(project.run())["accepted"] == 1
    assert project.cli("status", project.file).returncode == 0


@pytest.mark.parametrize(
    ("before", "late", "zones"),
    [
        ("2026-05-20 01:00Z", "2026-05-20 02:00Z", ("Asia/Jakarta", "UTC")),
        ("2026-10-25 00:59Z", "2026-10-25 01:10Z", ("Europe/Berlin", "Europe/Berlin")),
    ],
)
def test_times_with_a_zone_do_not_depend_on_that_of_the_session(
    project: Project, api: FaultAPI, database: Callable[[str], str], before: str, late: str, zones: tuple[str, str]
) -> None:
    text = project.spec["connections"]["default"] = database("postgresql")
    fill(
        text, "CREATE TABLE Users (Id INTEGER PRIMARY KEY, M TIMESTAMPTZ)", f"INSERT INTO Users VALUES (1, '{before}')"
    )
    project.entity(changed_since={"column": "M"})
    assert users(project.run(env={"PGTZ": zones[0]}))["accepted"] == 1
    fill(text, f"INSERT INTO Users VALUES (2, '{late}')")
    assert users(project.run(env={"PGTZ": zones[1]}))["accepted"] == 1


def test_another_schema_is_another_source(project: Project, api: FaultAPI, database: Callable[[str], str]) -> None:
    text = project.spec["connections"]["default"] = database("postgresql")
    for schema, id_, moment in (("a", 1, "2026-05-20"), ("b", 2, "2026-05-01")):
        fill(text, f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.Users (Id INTEGER PRIMARY KEY, M TIMESTAMP)")
        fill(text, f"INSERT INTO {schema}.Users VALUES ({id_}, '{moment}')")
    project.entity(changed_since={"column": "M"})
    for schema in ("a", "b"):
        assert users(project.run(env={"PGOPTIONS": f"-c search_path={schema}"}))["accepted"] == 1
