"""A ledger that knows nothing makes every record count as new: a run says so first, and does not send many of them by itself."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.faultapi import FaultAPI
from tests.project import Project


def ids(api: FaultAPI) -> int:
    return sum(len(request.records) for request in api.requests)


def test_a_first_run_says_that_every_record_counts_as_new_before_it_sends(project: Project, api: FaultAPI) -> None:
    project.users(20)
    project.entity()
    project.write()
    planned = project.cli("plan", project.file)
    assert "every record counts as new (20 due)" in planned.stdout
    ran = project.cli("run", project.file)
    assert ran.returncode == 0
    lines = ran.stderr.splitlines()
    told = next(at for at, line in enumerate(lines) if "every record counts as new: 20 due" in line)
    assert told < next(at for at, line in enumerate(lines) if "Users: started" in line)
    assert "log.db" in lines[told]
    # The second run has a ledger that knows them.
    assert "counts as new" not in project.cli("run", project.file).stderr


def test_a_typo_in_the_ledgers_path_does_not_send_thousands_of_records_again(project: Project, api: FaultAPI) -> None:
    project.users(5001)
    project.entity()
    project.run("--first-run")
    assert ids(api) == 5001
    project.spec["connections"]["log"] = "sqlite:///lgo.db"
    report = project.run(code=1)
    assert (report["status"], report["entities"], ids(api)) == ("incomplete", [], 5001)
    assert "5,001 due" in report["error"]
    assert "--first-run" in report["error"]
    # Asking again gives the same answer, although the tables stand there by now.
    assert project.run(code=1)["status"] == "incomplete"
    assert project.run("--limit", "5000")["entities"][0]["accepted"] == 5000


def test_a_spec_may_say_that_its_ledger_is_to_be_created(project: Project, api: FaultAPI) -> None:
    project.users(5001)
    project.entity()
    project.spec["ledger"] = {"create": True}
    assert project.run()["entities"][0]["accepted"] == 5001


def test_a_missing_folder_of_the_ledger_is_never_created(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    project.spec["connections"]["log"] = "sqlite:///vra/log.db"
    report = project.run(code=4)
    assert "vra" in report["error"]
    assert not (project.folder / "vra").exists()
    assert api.requests == []


@pytest.mark.parametrize("how", ["an empty file", "tables without rows"])
def test_a_ledger_that_was_there_and_is_empty_is_always_asked_for(project: Project, api: FaultAPI, how: str) -> None:
    project.users(3)
    project.entity()
    project.spec["ledger"] = {"create": True}
    project.run()
    ledger: Path = project.folder / "log.db"
    if how == "an empty file":
        ledger.unlink()
        ledger.touch()
    else:
        with sqlite3.connect(ledger) as connection:
            connection.execute("DELETE FROM TB_R_SYNC_TRACKING")
        connection.close()
    report = project.run(code=1)
    assert "was used before and knows no delivered record any more" in report["error"]
    assert ids(api) == 3
    assert project.run("--first-run")["entities"][0]["accepted"] == 3


def test_a_guard_stops_the_whole_run_before_the_first_byte(project: Project, api: FaultAPI) -> None:
    project.users(10, "Teams")
    project.users(10)
    project.entity("Teams")
    project.entity(guard={"max_records": 4, "max_share": "25%"})
    project.run()  # a first run sends everything; the guard is for what comes after it
    for table, count in (("Users", 5), ("Teams", 1)):
        project.fill(table, "Id INTEGER PRIMARY KEY, Name TEXT", [(n, "new") for n in range(11, 11 + count)])
    before = ids(api)
    report = project.run(code=1)
    assert (report["status"], report["entities"], ids(api)) == ("incomplete", [], before)
    assert "entity 'Users': 5 of 15 records are due; its guard allows 4" in report["error"]
    assert "0.25 of the source, 3" in report["error"]
    forced = project.run("--force")
    assert [entity["accepted"] for entity in forced["entities"]] == [1, 5]


def test_a_run_by_a_saved_plan_is_refused_when_what_is_due_has_changed(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity(guard={"max_records": 2})
    project.run()
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(4, "new")])
    project.write()
    saved = project.folder / "plan.json"
    assert project.cli("plan", project.file, "--save", saved).returncode == 0
    assert json.loads(saved.read_text())["entities"] == {"Users": {"rows": 4, "due": 1}}
    project.fill("Users", "Id", [(n, "new") for n in range(5, 8)])
    report = project.run("--plan", str(saved), "--force", code=1)
    assert "4 records are due now, 1 were when the plan was saved" in report["error"]
    with sqlite3.connect(project.folder / "source.db") as source:
        source.execute("DELETE FROM Users WHERE Id > 6")
    source.close()
    assert project.run("--plan", str(saved), "--force")["entities"][0]["accepted"] == 3  # within the guard
    (project.folder / "plan.json").write_text("[]")
    assert "not a saved plan" in project.run("--plan", str(saved), code=2)["problems"][0]["message"]
