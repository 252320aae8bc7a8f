"""Faults that were found once, each with the way it showed itself."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from engine.db import dsn
from engine.runs.times import Schedule, latest_missed
from tests.conftest import absent
from tests.faultapi import FaultAPI, answer
from tests.project import Project, check_sums

GUID = "aa6f0e0c-0000-4000-8000-00000000000{}"
MARS = (
    "data source=127.0.0.1,9;initial catalog=MDM;user id=u;password=sesam-1;MultipleActiveResultSets=True;"
    "TrustServerCertificate=True;Application Name=job;Connect Timeout=2"
)


def test_two_forms_of_one_id_in_different_pages_are_one_record(project: Project, api: FaultAPI) -> None:
    ids = [GUID.format(1).upper(), GUID.format(2).upper(), GUID.format(1), GUID.format(3)]
    project.fill("Users", "Id TEXT PRIMARY KEY, Name TEXT", [(id_, "n") for id_ in ids])
    project.entity(page_size=2, batch_size=10)
    report = project.run(code=1)
    check_sums(report)
    assert report["entities"][0]["rejected"] == 1
    assert len(project.tracked()) == report["entities"][0]["accepted"] == 3
    assert "twice" in project.rejects()[GUID.format(1)]


def test_a_dropped_record_does_not_stand_in_the_way_of_another_of_its_id(project: Project, api: FaultAPI) -> None:
    project.fill(
        "Users", "Id TEXT PRIMARY KEY, Active INT", [(GUID.format(1).upper(), 0), ("B", 1), (GUID.format(1), 1)]
    )
    project.entity(page_size=2, batch_size=10, transform=[{"select": "Active == 1"}])
    report = project.run()
    assert (report["entities"][0]["dropped"], report["entities"][0]["accepted"]) == (1, 2)


@pytest.mark.parametrize("options", [["--limit", "1"], ["--entity", "Users"]])
def test_a_partial_run_is_no_last_success_for_templates(project: Project, api: FaultAPI, options: list[str]) -> None:
    project.users(3)
    project.users(1, "Orgs")
    project.entity()
    # A template that only reads what is newer than the last success would lose what that run left out.
    project.entity("Orgs", query="SELECT Id FROM Orgs WHERE {% if run.last_success %}1 = 0{% else %}1 = 1{% endif %}")
    project.run(*options)
    assert project.ledger("SELECT Status FROM TB_R_SYNC_RUN") == [("partial",)]
    report = project.run()
    assert report["entities"][1]["read"] == 1


def test_a_template_may_extend_a_base_of_the_users_own_that_extends_the_page(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.template(
        "base.sql.j2",
        '{% extends "page.sql.j2" %}{% block query %}SELECT * FROM {% block table %}{% endblock %}{% endblock %}',
    )
    project.template("users.sql.j2", '{% extends "base.sql.j2" %}{% block table %}Users{% endblock %}')
    project.entity(sql="users.sql.j2", page_size=2)
    file = project.write()
    assert project.cli("validate", file, "--connect").returncode == 0
    assert project.cli("plan", file).returncode == 0
    assert project.run()["entities"][0]["accepted"] == 3


def test_an_endpoint_that_two_entities_share_is_left_for_both(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.users(1, "Others")
    project.entity(endpoint="/in")
    project.entity("Others", endpoint="/in")
    api.script("/in", answer(401))
    project.run(code=1)
    assert len(api.of("/in")) == 1


def test_strings_of_the_replaced_job_reach_mssql_python_without_odbc(project: Project, tmp_path: Path) -> None:
    try:
        import mssql_python  # noqa: F401 - is it there
    except ImportError as failure:
        absent(f"mssql-python ({failure})")
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "pyodbc.py").write_text("raise ImportError('libodbc.so.2: not here')")
    project.spec["connections"]["default"] = MARS
    project.entity()
    finished = project.cli("run", project.write(), env={"PYTHONPATH": f"{fake}:{project.env()['PYTHONPATH']}"})
    assert finished.returncode == 4, finished.stderr
    assert "cannot connect" in finished.stdout + finished.stderr
    assert "sesam-1" not in finished.stdout + finished.stderr


def test_a_quote_at_the_beginning_of_an_odbc_value_is_a_character_like_others() -> None:
    text = 'Driver={X};Server=h;PWD="abc'
    assert dsn.split(text).get("pwd") == '"abc'
    assert dsn.secrets(text) == ['"abc']


def test_the_repeated_hour_has_no_missed_time_that_was_served() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    plan = Schedule(None, "30 2 * * *", berlin, "once")
    served = datetime(2026, 10, 24, 2, 30, tzinfo=berlin)
    now = datetime(2026, 10, 25, 2, 7, tzinfo=berlin, fold=1)
    missed = latest_missed(plan, served, now)
    assert missed == datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=0)


def test_a_six_field_cron_line_is_refused(project: Project) -> None:
    project.entity()
    project.spec["schedule"] = {"cron": "0 0 0 1 1 *"}
    finished = project.cli("validate", project.write())
    assert finished.returncode == 2
    assert "6 fields" in finished.stdout


@pytest.mark.parametrize("query", ["DELETE FROM Users", "SELECT 1; DROP TABLE Users"])
def test_sql_that_is_not_one_select_is_refused(project: Project, query: str) -> None:
    project.entity(query=query)
    finished = project.cli("validate", project.write())
    assert finished.returncode == 2
    assert "not one SELECT" in finished.stdout


@pytest.mark.parametrize(
    "query",
    [
        "SELECT Id FROM Users; COMMIT",
        "SELECT Id FROM Users; DELETE FROM Users",
        "COMMIT; SELECT 1",
        "SELECT Id FROM Users WHERE Id > {{ after or 0 }} ORDER BY Id LIMIT {{ limit }}; COMMIT",
    ],
)
def test_a_second_statement_of_whatever_length_is_no_source(project: Project, query: str) -> None:
    project.users(1)
    project.entity(query=query)
    finished = project.cli("validate", project.write())
    assert finished.returncode == 2
    assert "not one SELECT" in finished.stdout


def test_a_semicolon_at_the_end_of_the_only_statement_is_none_of_a_second(project: Project) -> None:
    project.users(1)
    project.entity(query="SELECT Id FROM Users ;")
    assert "not one SELECT" not in project.cli("validate", project.write()).stdout
