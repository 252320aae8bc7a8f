"""The history of verdicts, how `why` searches a large ledger, the indexes it needs, `prune`, and long lists of rejects."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine import context
from engine.cli import rejects as rejects_cli
from engine.db.statement import Statement
from engine.sync.ledger import carried, prune
from engine.sync.ledger import rejects as reject_table
from engine.sync.ledger.tables import Tables
from engine.sync.model import Rejection
from tests.builders import ledger_spec, open_ledger
from tests.conftest import fill as run_sql
from tests.faultapi import FaultAPI, answer, when
from tests.ledgers import ledger_on
from tests.project import ROOT, Project
from tests.scenario.test_why import DIALECTS, execute, fill, said, why

SPEC = ledger_spec()
RESULTS = {"path": "items", "id": "Id", "accepted": "status == 'ok'", "reason": "error"}
LONG_AGO = "2020-01-01 00:00:00"


@pytest.fixture
def project(tmp_path: Path, api: FaultAPI) -> Project:
    return Project(tmp_path / "project", api.url)


@pytest.fixture(params=DIALECTS)
def everywhere(request: pytest.FixtureRequest, project: Project, database: Callable[[str], str]) -> Project:
    """A project whose source and ledger are both of one dialect."""
    project.spec["connections"] = {"default": database(request.param), "log": database(request.param)}
    return project


# Verdicts


def test_a_record_that_was_refused_mended_and_accepted_keeps_its_refusal(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    fill(project, "Id int, Name text", [(1, "good"), (2, "bad")])
    project.entity()
    api.script(
        "/users", when(lambda r: any("bad" in row.values() for row in r.records), answer(422, "no\x1b such name"))
    )
    first = project.run(code=1)["run_id"]
    execute(project, "default", "UPDATE Users SET Name = 'mended' WHERE Id = 2")
    second = project.run()["run_id"]
    found = why(project, "2")
    told = [(v["verdict"], v["by"], v["http_status"], v["run_id"]) for v in found["verdicts"]]
    assert told == [("rejected", "api", 422, first), ("accepted", "api", 200, second)]
    assert "no" in found["verdicts"][0]["reason"]
    assert all(
        v["time"] and v["batch_id"] in {batch["batch_id"] for batch in found["batches"]} for v in found["verdicts"]
    )
    assert found["rejected"] is None
    text = said(project, "2")
    assert "UTC rejected by the API (HTTP 422) in batch" in text
    assert "UTC accepted by the API in batch" in text
    assert "with 1 record, run" in text
    assert "\x1b" not in text
    assert why(project, "1")["verdicts"] == [], "a record that was never refused costs no row"


@pytest.mark.parametrize("ledger", DIALECTS)
def test_a_contract_that_refuses_in_every_run_is_told_once_until_its_reason_changes(
    project: Project, database: Callable[[str], str], ledger: str
) -> None:
    project.spec["connections"]["log"] = database(ledger)
    project.fill("Users", "Id INTEGER PRIMARY KEY, Age TEXT", [(1, "old")])
    project.entity(fields={"Id": "int", "Age": "int"})
    for code in (1, 0, 0):
        project.run(code=code)
    assert [(v["verdict"], v["by"], v["batch_id"]) for v in why(project, "1")["verdicts"]] == [
        ("rejected", "contract", None)
    ]
    execute(project, "default", "UPDATE Users SET Age = 'older'")
    project.run()
    reasons = [v["reason"] for v in why(project, "1")["verdicts"]]
    assert len(reasons) == 2
    assert "'older'" in reasons[1]
    assert "rejected by its contract, before it was sent" in said(project, "1")


def test_a_record_that_an_answer_left_out_is_told_as_unknown(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity(results=RESULTS)
    api.script(
        "/users",
        answer(200, {"items": [{"Id": 1, "status": "ok"}]}),
        answer(200, {"items": [{"Id": 2, "status": "ok"}]}),
    )
    project.run(code=1)
    project.run(code=None)
    found = why(project, "2")
    assert found["verdicts"][0]["verdict"] == "unknown"
    assert found["verdicts"][0]["batch_id"] in {batch["batch_id"] for batch in found["batches"]}
    assert "left out of the API's answer" in said(project, "2")


def test_every_acceptance_of_a_record_that_changes_is_found(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    fill(project, "Id int, Name text", [(1, "a"), (2, "b")])
    project.entity(resend="changed")
    runs = [project.run()["run_id"]]
    for name in ("c", "d"):
        execute(project, "default", f"UPDATE Users SET Name = '{name}' WHERE Id = 1")
        runs.append(project.run()["run_id"])
    found = why(project, "1")
    assert [v["run_id"] for v in found["verdicts"]] == runs
    assert [batch["run_id"] for batch in found["batches"]] == runs
    assert all(len(batch["calls"]) == 1 for batch in found["batches"])
    assert [batch["run_id"] for batch in why(project, "2")["batches"]] == runs[:1]


def test_a_delivery_before_a_forget_is_still_found(everywhere: Project) -> None:
    project = everywhere
    fill(project, "Id int, Name text", [(1, "a")])
    project.entity()
    first = project.run()["run_id"]
    assert project.cli("forget", project.file, "Users", "1").returncode == 0
    second = project.run()["run_id"]
    found = why(project, "1")
    assert [batch["run_id"] for batch in found["batches"]] == [first, second]
    assert "forgotten later" in said(project, "1")


def test_a_person_who_resolves_a_batch_is_told_with_each_record(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.spec["api"].update(in_doubt="hold")
    project.entity()
    api.script("/users", answer(500))
    project.run(code=1)
    ((batch,),) = project.ledger("SELECT BatchId FROM TB_R_SYNC_BATCH")
    assert project.cli("resolve", project.file, batch, "accepted").returncode == 0
    (verdict,) = why(project, "1")["verdicts"]
    assert (verdict["verdict"], verdict["by"], verdict["batch_id"]) == ("accepted", "person", batch)


# Searching


def test_batches_from_before_the_history_are_searched_within_bounds_and_why_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.users(1)
    project.entity(resend="changed")
    for name in ("x", "y", "z"):
        execute(project, "default", f"UPDATE Users SET Name = '{name}'")
        project.run()
    execute(project, "log", "DELETE FROM TB_R_SYNC_VERDICT WHERE EntityId <> ''")
    execute(project, "log", "UPDATE TB_R_SYNC_VERDICT SET RecordedOn = '2999-01-01 00:00:00'")
    found = why(project, "1")
    assert (len(found["batches"]), found["not_searched_before"]) == (3, None)
    monkeypatch.setattr(carried, "_ROWS", 1)
    found = why(project, "1")
    assert found["not_searched_before"]
    assert len(found["batches"]) < 3
    assert "were not searched" in said(project, "1")


def test_what_a_large_ledger_is_asked_is_answered_by_an_index(tmp_path: Path) -> None:
    db = open_ledger("log", f"sqlite:///{tmp_path}/log.db", ROOT, create=True)
    ledger = ledger_on(db, SPEC, "sync", "run")
    ledger.prepare()
    names = ledger.store.names
    part = {
        "pipeline": "sync",
        "entity": "Users",
        "state": "failed",
        "since": "a",
        "upto": "b",
        "newest": True,
        "limit": 5,
    }
    asked = {
        "calls_of": {"activity": "a", "since": "a", "upto": "b", "pattern": "%x%"}, "acts_on": {"entity": "Users"},
        "journal_part": part, "verdicts": {"entity": "Users", "record": "1", "upper": "1"},
        "batches": {"ids": "[]", "pattern": "%"}, "tracked_row": {"entity": "Users", "ids": "[]"},
        "tracked_times": {"entity": "Users", "ids": "[]"}, "runs": {"pipeline": "sync", "limit": 5, "status": None},
        "rejects": {"entity": "Users", "record": None, "state": None, "after": "x", "limit": 5},
        "tracked_count": {"entity": "Users"},
    }  # fmt: skip
    for name, values in asked.items():
        statement = db.templates.statement(f"ledger/{name}.sql.j2", **names, **values)
        plan = [
            row[3] for row in db.execute(Statement(f"EXPLAIN QUERY PLAN {statement.text}", statement.parameters)).rows
        ]
        scans = [line for line in plan if line.startswith("SCAN") and "ids" not in line and "found" not in line]
        assert not scans, f"{name}: {plan}"
        assert name != "tracked_count" or "COVERING INDEX" in plan[0], plan
        assert name not in ("journal_part", "rejects", "runs") or not any("TEMP B-TREE" in line for line in plan), plan
    db.close()


def test_the_clock_of_this_host_does_not_decide_what_why_says(
    project: Project, api: FaultAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # noqa: ARG003
            return datetime(2000, 1, 1, tzinfo=UTC)

    project.users(1)
    project.entity()
    api.script("/users", answer(422))
    project.run(code=1)
    execute(project, "log", f"UPDATE TB_R_SYNC_REJECT SET NextTry = '{LONG_AGO}.000'")
    monkeypatch.setattr(context, "datetime", Behind)
    assert why(project, "1")["verdict"] == "It is due: the next run sends it."


# Indexes


@pytest.mark.parametrize("ledger", DIALECTS)
def test_a_run_adds_the_indexes_to_a_ledger_that_lacks_them(
    project: Project, database: Callable[[str], str], ledger: str
) -> None:
    text = database(ledger)
    project.spec["connections"]["log"] = text
    project.users(1)
    project.entity()
    project.run()
    on = " ON SchedulerLog" if ledger == "mysql" else ""
    run_sql(text, f"DROP INDEX IX_SchedulerLog_Activity_CreatedOn{on}")
    checked = project.cli("validate", project.file, "--connect")
    assert "no index on SchedulerLog (Activity, CreatedOn)" in checked.stdout
    plain = re.sub('["`]', "", checked.stdout).casefold()
    assert "create index ix_schedulerlog_activity_createdon on schedulerlog (activity, createdon)" in plain
    run_sql(
        text,
        "CREATE INDEX of_the_dba ON SchedulerLog (Activity, CreatedOn, Status)" if ledger != "mysql" else "SELECT 1",
    )
    project.run()
    assert "no index" not in project.cli("validate", project.file, "--connect").stdout
    if ledger != "mysql":  # an index of any name that begins with the columns is enough
        run_sql(text, "DROP INDEX of_the_dba")
        assert "no index on SchedulerLog" in project.cli("validate", project.file, "--connect").stdout


def test_a_user_who_may_not_create_indexes_runs_all_the_same_and_is_told(
    project: Project, database: Callable[[str], str]
) -> None:
    text = database("postgresql")
    project.spec["connections"]["log"] = text
    project.users(1)
    project.entity()
    project.run()
    run_sql(
        text,
        "DROP INDEX IX_SchedulerLog_Activity_CreatedOn",
        "DO $$ BEGIN CREATE ROLE dml_only LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO dml_only",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO dml_only",
    )
    project.spec["connections"]["log"] = text.replace("UID=postgres", "UID=dml_only")
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(2, "new")])
    assert project.run()["status"] == "delivered"
    checked = project.cli("validate", project.file, "--connect")
    assert checked.returncode == 0
    assert "no index on SchedulerLog (Activity, CreatedOn)" in checked.stdout


# prune


def pruned(project: Project, *options: str) -> dict[str, Any]:
    done = project.cli("prune", project.file, "--keep", "400d", "--format", "json", *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def age(project: Project) -> None:
    """Everything that is in the ledger happened years ago."""
    columns = {
        "SchedulerLog": ["CreatedOn"], "TB_R_SYNC_BATCH": ["CreatedOn", "SentOn", "SettledOn"],
        "TB_R_SYNC_RUN": ["StartedOn", "EndedOn"], "TB_R_SYNC_VERDICT": ["RecordedOn"], "TB_R_SYNC_CONTENT": ["RecordedOn"],
        "TB_R_SYNC_TRACKING": ["SyncTimestamp"],
    }  # fmt: skip
    for table, names in columns.items():
        execute(project, "log", f"UPDATE {table} SET " + ", ".join(f"{name} = '{LONG_AGO}'" for name in names))


def counted(project: Project) -> dict[str, int]:
    """The rows of every table."""
    return {
        table.name: execute(project, "log", f"SELECT COUNT(*) FROM {table.name}")[0][0]
        for table in Tables.of(SPEC).all()
    }


def test_prune_deletes_what_is_old_and_nothing_that_a_run_needs(
    everywhere: Project, api: FaultAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "_ROWS", 2)
    monkeypatch.setattr(prune, "_BATCHES", 1)
    project = everywhere
    project.spec["ledger"] = {"connection": "log", "application": "TAMHR"}
    fill(project, "Id int, Name text", [(number, f"name {number}") for number in range(1, 9)])
    project.entity(batch_size=2, resend="changed")
    api.script("/users", when(lambda r: any(row["Id"] == 3 for row in r.records), answer(422)))
    project.run(code=1)
    age(project)
    execute(project, "log", "INSERT INTO SchedulerLog (ID, ApplicationName, LogCategory, Activity, CreatedOn) "
            f"SELECT '{'0' * 8}-0000-4000-8000-{'0' * 12}', 'Payroll', 'Sync', 'Sync Batch: Users', '{LONG_AGO}'")  # fmt: skip
    execute(project, "log", "INSERT INTO TB_R_SYNC_CONTENT (EntityType, Kind, EntityId, ContentHash, RecordedOn) "
            f"VALUES ('Users', 'rejected', 'gone', 'x', '{LONG_AGO}')")  # fmt: skip
    project.run(code=None)
    before, received = counted(project), len(api.of("/users"))
    promised = pruned(project, "--dry-run")
    assert counted(project) == before
    done = pruned(project)
    assert done["rows"] == promised["rows"]
    after = counted(project)
    lost = {table: before[table] - after[table] for table in before if before[table] != after[table]}
    audit = -1
    assert lost == {
        "SchedulerLog": done["rows"]["calls"] + audit, "TB_R_SYNC_BATCH": done["rows"]["batches"],
        "TB_R_SYNC_VERDICT": done["rows"]["verdicts"], "TB_R_SYNC_RUN": done["rows"]["runs"], "TB_R_SYNC_CONTENT": 1,
    }  # fmt: skip
    assert done["rows"]["batches"] >= 5
    assert done["rows"]["runs"] == 1
    assert execute(project, "log", "SELECT COUNT(*) FROM SchedulerLog WHERE ApplicationName = 'Payroll'") == [(1,)]
    assert project.run(code=None)["entities"][0]["accepted"] == 0
    assert len(api.of("/users")) == received, "nothing was sent again"
    assert why(project, "1")["batches"] == []
    assert "`prune` removed the batch" in said(project, "1")
    assert pruned(project)["rows"] == dict.fromkeys(done["rows"], 0)


def test_prune_keeps_open_batches_with_their_calls_and_the_next_run_settles_them(
    project: Project, api: FaultAPI
) -> None:
    project.users(1)
    project.spec["api"].update(in_doubt="hold")
    project.entity()
    api.script("/users", answer(500), answer())
    project.run(code=1)
    age(project)
    done = pruned(project)
    assert (done["rows"]["batches"], done["rows"]["calls"]) == (0, 0)
    assert done["calls_before"] < done["before"]
    (batch,) = why(project, "1")["batches"]
    assert (batch["state"], len(batch["calls"])) == ("held", 1)
    shown = project.cli("prune", project.file, "--keep", "400d")
    assert "is still open" in shown.stdout
    assert project.cli("resolve", project.file, batch["batch_id"], "resend").returncode == 0
    assert project.run()["entities"][0]["settled"] == 1


@pytest.mark.parametrize("keep", ["400", "0d", "-3d", "400h", "99999d", ""])
def test_prune_takes_days_only(project: Project, keep: str) -> None:
    project.users(1)
    project.entity()
    project.write()
    assert project.cli("prune", project.file, f"--keep={keep}").returncode == 2


def test_prune_makes_no_ledger(project: Project) -> None:
    project.users(1)
    project.entity()
    project.write()
    done = project.cli("prune", project.file, "--keep", "400d")
    assert done.returncode == 0
    assert "not there yet" in done.stdout
    assert not (project.folder / "log.db").exists()


# Long lists


@pytest.mark.parametrize("ledger", DIALECTS)
def test_a_long_list_of_refused_records_is_read_in_parts_and_cut_for_people(
    project: Project, database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, ledger: str
) -> None:
    monkeypatch.setattr(reject_table, "_PAGE", 7)
    monkeypatch.setattr(rejects_cli, "_SHOWN", 5)
    monkeypatch.setattr(rejects_cli, "_AT_ONCE", 3)
    text = database(ledger)
    project.spec["connections"]["log"] = text
    project.users(1)
    project.entity()
    project.write()
    db = open_ledger("log", text, project.folder, create=True)
    made = ledger_on(db, ledger_spec(application="x"), "sync", "run")
    made.prepare()
    ids = ["a", "A", "é", "😀" * 40, "x" * 200, *(f"{number:03}" for number in range(25))]
    made.records.reject("Users", [Rejection(id_, f"reason \x1b[2J of {id_}") for id_ in ids])
    db.close()
    listed = json.loads(project.cli("rejects", project.file, "--format", "json").stdout)
    assert listed["pipeline"] == "sync"
    assert sorted(item["id"] for item in listed["rejects"]) == sorted(ids)
    rows = project.cli("rejects", project.file, "--format", "csv").stdout
    assert rows.count("reason") == len(ids) + 1
    shown = project.cli("rejects", project.file).stdout
    assert shown.count("reason") == 5
    assert f"The first 5 of {len(ids)} rejected records" in shown
    assert "--format csv" in shown
    assert "\x1b" not in shown
    none = project.cli("rejects", project.file, "--state", "parked", "--format", "json").stdout
    assert json.loads(none)["rejects"] == []
