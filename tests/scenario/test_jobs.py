"""Jobs as a user runs them: items and steps, rules for errors, what is kept, what is refused."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import fill
from tests.jobs import EFFECT, JobProject, rows

DATABASES = [
    pytest.param(name, marks=pytest.mark.odbc if name != "sqlite" else ()) for name in ("sqlite", "postgresql", "mysql")
]
BROKEN = "INSERT INTO NOWHERE VALUES (1)"


@pytest.fixture
def job(tmp_path: Path, database: Callable[[str], str]) -> JobProject:
    return JobProject(tmp_path / "project", database("sqlite"))


def once(*steps: str, items: int = 3) -> Counter[tuple[int, str]]:
    return Counter({(item, step): 1 for item in range(1, items + 1) for step in steps})


@pytest.mark.parametrize("target", DATABASES)
@pytest.mark.parametrize("store", DATABASES)
def test_every_step_of_every_item_is_done_once_and_stands_in_the_history(
    tmp_path: Path, database: Callable[[str], str], target: str, store: str
) -> None:
    job = JobProject(tmp_path / "project", database(target), database(store))
    told = job.run("--note", "first")
    assert told["status"] == "succeeded"
    assert told["items"] == {"total": 3, "succeeded": 3, "skipped": 0, "failed": 0, "cancelled": 0, "not_run": 0}
    assert [(step["item"], step["name"], step["status"], step["rows"]) for step in told["steps"]] == [
        (item, name, "done", 1) for item in "123" for name in ("one", "two")
    ]
    assert job.effects() == once("one", "two")
    assert job.run()["number"] == 2
    (second, first) = job.document("runs")["runs"]
    assert (first["number"], first["note"], second["number"]) == (1, "first", 2)
    assert job.document("show", "1") == told
    acts = rows(job.store, "SELECT Act, UserName FROM TB_R_JOB_AUDIT")
    assert [act for act, _ in acts] == ["run", "run"]
    assert all(user for _, user in acts)


def test_without_items_the_steps_run_once(job: JobProject) -> None:
    del job.spec["for_each"]
    job.spec["steps"] = [{"name": "only", "sql": "INSERT INTO EFFECT VALUES (0, 'only')"}]
    assert job.run()["items"]["succeeded"] == 1
    assert job.effects() == Counter({(0, "only"): 1})


def test_values_are_bound_and_outputs_reach_later_steps(job: JobProject) -> None:
    job.spec["parameters"] = {"word": {"type": "string"}}
    job.spec["steps"] = [
        {
            "name": "count",
            "query": "SELECT COUNT(*) AS N, {{ params.word }} AS Word FROM CONSO WHERE Id <= {{ item.Id }}",
        },
        {"name": "write", "sql": "INSERT INTO EFFECT VALUES ({{ steps.count.first.N }}, {{ steps.count.first.Word }})"},
        {"name": "odd", "when": "item.Id % 2 == 1", "sql": EFFECT % "odd"},
    ]
    evil = "x'); DROP TABLE EFFECT; --"
    told = job.run("--set", f"word={evil}")
    assert job.effects() == Counter({(1, evil): 1, (2, evil): 1, (3, evil): 1, (1, "odd"): 1, (3, "odd"): 1})
    assert [step["status"] for step in told["steps"] if step["name"] == "odd"] == ["done", "skipped", "done"]


def test_several_statements_are_one_transaction(job: JobProject) -> None:
    job.spec["steps"] = [{"name": "both", "sql": f"{EFFECT % 'a'}; {EFFECT % 'b; c'}; {BROKEN}"}]
    told = job.run(code=1)
    assert told["status"] == "failed"
    assert job.effects() == Counter(), "the first two are rolled back"
    job.spec["steps"][0]["sql"] = f"-- nothing; here\n{EFFECT % 'a'};\n{EFFECT % 'b; c'};\n"
    assert job.run()["status"] == "succeeded"
    assert job.effects() == once("a", "b; c")


@pytest.mark.parametrize(
    ("then", "status", "items", "effects"),
    [
        ("stop", "failed", {"succeeded": 1, "failed": 1, "not_run": 1}, [1]),
        ("next_item", "incomplete", {"succeeded": 2, "failed": 1}, [1, 3]),
        ("skip_item", "incomplete", {"succeeded": 2, "skipped": 1}, [1, 3]),
        ("continue", "incomplete", {"succeeded": 2, "failed": 1}, [1, 2, 3]),
    ],
)
def test_a_rule_says_what_follows_from_an_error(
    job: JobProject, then: str, status: str, items: dict[str, int], effects: list[int]
) -> None:
    job.spec["steps"] = [
        {
            "name": "one",
            "sql": "{% if item.Id == 2 %}INSERT INTO MissingCompanies VALUES (1){% else %}"
            + EFFECT % "one"
            + "{% endif %}",
        },
        {"name": "two", "sql": EFFECT % "two"},
    ]
    job.spec["on_error"] = [
        {"match": "nothing like it", "then": "continue"},
        {"match": "MissingCompanies", "then": then},
    ]
    told = job.run(code=1)
    assert told["status"] == status
    assert {key: value for key, value in told["items"].items() if value and key != "total"} == items
    assert sorted(item for item, step in job.effects() if step == "two") == effects
    (bad,) = [one for one in told["details"] if one["key"] == "2"]
    assert "MissingCompanies" in bad["reason"]
    assert bad["step"] == "one"


def test_a_run_goes_on_where_it_failed_and_does_nothing_twice(job: JobProject) -> None:
    job.spec["steps"].append({"name": "three", "sql": "INSERT INTO LATER (Item) VALUES ({{ item.Id }})"})
    told = job.run(code=1)
    assert (told["status"], told["items"]["not_run"]) == ("failed", 2)
    assert "no such table: LATER" in told["error"]
    fill(job.target, "CREATE TABLE LATER (Item INTEGER NOT NULL)")
    again = job.document("resume", "1")
    assert (again["number"], again["attempt"], again["status"], again["items"]["succeeded"]) == (1, 2, "succeeded", 3)
    assert job.effects() == once("one", "two")
    assert rows(job.target, "SELECT Item FROM LATER ORDER BY Item") == [(1,), (2,), (3,)]
    refused = job.cli("resume", "1")
    assert refused.returncode == 3
    assert "run #1 has succeeded; there is nothing to resume" in refused.stderr


def test_a_job_that_was_changed_meanwhile_is_not_resumed(job: JobProject) -> None:
    job.spec["steps"].append({"name": "three", "sql": BROKEN})
    job.run(code=1)
    job.spec["steps"][2]["sql"] = EFFECT % "three"
    job.write()
    refused = job.cli("resume", "1")
    assert refused.returncode == 3
    assert "was changed after run #1 began" in refused.stderr
    assert job.effects() == Counter({(1, "one"): 1, (1, "two"): 1})


def test_steps_and_items_can_be_chosen(job: JobProject) -> None:
    job.spec["steps"].append({"name": "always", "sql": EFFECT % "always", "selectable": False})
    job.run("--steps", "two", "--item", "1", "--item", "3")
    assert job.effects() == Counter({(1, "two"): 1, (3, "two"): 1, (1, "always"): 1, (3, "always"): 1})
    wrong = job.cli("run", job.file, "--steps", "tow")
    assert wrong.returncode == 2
    assert "unknown step 'tow'; did you mean 'two'?" in wrong.stderr


def test_every_wrong_parameter_is_told_at_once_and_nothing_runs(job: JobProject) -> None:
    job.spec["parameters"] = {
        "year": {"type": "int", "min": 2000},
        "mode": {"type": "choice", "choices": ["local", "group"]},
        "codes": {"type": "list[string]", "default": []},
        "when": {"type": "date"},
    }
    done = job.cli("run", job.write(), "--set", "year=1", "--set", "mode=grup", "--set", "cods=A", "--set", "noise")
    assert done.returncode == 2
    for said in (
        "parameter 'year': 1 is less than 2000", "parameter 'mode': 'grup' is not one of: local, group",
        "unknown parameter 'cods'; did you mean 'codes'?", "'noise' is no setting", "parameter 'when': it is missing",
    ):  # fmt: skip
        assert said in done.stderr
    assert job.effects() == Counter()
    assert job.document("runs")["runs"] == []


def test_a_secret_parameter_is_not_kept_and_has_to_be_given_again(job: JobProject) -> None:
    job.spec["parameters"] = {"word": {"type": "string", "secret": True}}
    job.spec["steps"] = [{"name": "one", "sql": "INSERT INTO LATER VALUES ({{ params.word }})"}]
    assert job.run("--set", "word=hunter2", code=1)["parameters"] == {"word": "***"}
    fill(job.target, "CREATE TABLE LATER (Word VARCHAR(20))")
    assert "hunter2" not in str(rows(job.store, "SELECT * FROM TB_R_JOB_RUN"))
    wrong = job.cli("resume", "1")
    assert wrong.returncode == 2
    assert "parameter 'word' is secret and not kept" in wrong.stderr
    job.document("resume", "1", "--set", "word=hunter2")
    assert rows(job.target, "SELECT DISTINCT Word FROM LATER") == [("hunter2",)]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT NULL AS Id, 'x' AS Code", "row 1 of `for_each` has no key: the column 'Id' is NULL"),
        ("SELECT 1 AS Id, 'x' AS Code UNION ALL SELECT 1, 'y'", "gives the key '1' twice"),
        ("SELECT 1 AS Number, 'x' AS Code", "`for_each` has no column 'Id'; there are: Number, Code"),
        ("SELECT * FROM NOWHERE", "the items cannot be read"),
    ],
)
def test_items_that_cannot_be_told_apart_end_the_run_before_anything_is_done(
    job: JobProject, query: str, said: str
) -> None:
    job.spec["for_each"]["query"] = query
    done = job.cli("run", job.write())
    assert done.returncode in (1, 4)
    assert said in done.stderr
    assert job.effects() == Counter()
    assert job.document("runs")["runs"][0]["status"] == "failed"


def test_no_item_is_a_success_of_nothing(job: JobProject) -> None:
    job.spec["for_each"]["where"] = "item.Id > 100"
    assert job.run()["items"]["total"] == 0


def test_a_step_that_runs_longer_than_its_timeout_is_stopped(job: JobProject) -> None:
    forever = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000000) SELECT COUNT(*) FROM n"
    )
    job.spec["steps"] = [{"name": "long", "query": forever, "timeout": "300ms"}]
    told = job.run(code=1)
    assert told["steps"][0]["error"] == {
        "code": "timeout", "message": "the step took longer than its timeout of 0.3 s and was stopped",
    }  # fmt: skip


def test_validate_knows_jobs_and_says_everything_at_once(job: JobProject) -> None:
    job.spec["stepz"] = 1
    job.spec["steps"] = [
        {"name": "one", "sql": "SELECT 1", "query": "SELECT 1"},
        {"name": "one"},
        {"name": "three", "sql": "{{ item.", "connection": "cons", "when": "itm.Id > 1"},
        {"name": "four", "sql": "absent.sql.j2"},
    ]
    job.spec["for_each"]["items"] = "params.codes"
    job.spec["parameters"] = {"n": {"type": "int", "default": "many"}}
    done = job.cli("validate", job.write(), "--format", "json")
    assert done.returncode == 2
    said = [problem["message"] for problem in json.loads(done.stdout)["problems"]]
    for part in (
        "unknown key 'stepz'; did you mean 'steps'?", "has several kinds: sql, query", "step 'one' has no kind", "there are 2 steps 'one'",
        "unknown connection 'cons'; did you mean 'conso'?", "the expression names 'itm', which is not there; did you mean 'item'?",
        "`for_each` has either `query` or `items`", "absent.sql.j2", "parameter 'n': the default 'many' is no int",
    ):  # fmt: skip
        assert any(part in message for message in said), (part, said)


def test_options_of_one_kind_are_refused_for_the_other(job: JobProject) -> None:
    done = job.cli("run", job.write(), "--limit", "1")
    assert (done.returncode, job.effects()) == (2, Counter())
    assert "--limit is not for a job" in done.stderr


def test_progress_is_told_in_lines_and_the_summary_names_what_failed(job: JobProject) -> None:
    job.spec["steps"][1]["sql"] = BROKEN
    done = job.cli("run", job.write())
    assert "Conso 1/3 'C1': one" in done.stderr
    assert "Conso 1/3 'C1': two failed: no such table: NOWHERE (stop)" in done.stderr
    assert "C1: failed at two: no such table: NOWHERE" in done.stdout
    assert "close #1 failed in" in done.stdout
    assert "Go on with: syncledger resume 1" in done.stdout


def test_a_store_that_is_away_ends_the_run_with_4_before_anything_is_done(
    tmp_path: Path, database: Callable[[str], str]
) -> None:
    job = JobProject(tmp_path / "project", database("sqlite"), f"sqlite:///{tmp_path}/nowhere/jobs.db")
    done = job.cli("run", job.write())
    assert done.returncode == 4
    assert "the store of the project cannot be opened" in done.stderr
    assert job.effects() == Counter()


def test_a_target_that_is_not_there_is_never_created(job: JobProject, tmp_path: Path) -> None:
    job.spec["connections"]["conso"] = f"sqlite:///{tmp_path}/typo.db"
    done: Any = job.cli("run", job.write())
    assert done.returncode == 4
    assert not (tmp_path / "typo.db").exists()


def test_what_happened_is_told_in_the_readers_language(job: JobProject) -> None:
    job.spec["steps"][1]["sql"] = BROKEN
    job.spec["on_error"] = [{"then": "skip_item"}]
    job.run(code=1)
    english, french = job.cli("show", "1").stdout, job.cli("show", "1", "--locale", "fr").stdout
    assert "Conso C2 two failed: no such table: NOWHERE" in english
    assert "Conso C2 was skipped." in english
    assert "The run ended: incomplete." in english
    assert "Conso C2 a été ignoré." in french
    assert "L'exécution s'est terminée : incomplete." in french


@pytest.fixture
def locked(job: JobProject) -> JobProject:
    fill(
        job.target,
        "ALTER TABLE CONSO ADD COLUMN LockedBy VARCHAR(20)",
        "UPDATE CONSO SET LockedBy = 'anna' WHERE Id = 2",
    )
    job.spec["for_each"] |= {
        "query": "SELECT Id, Code, LockedBy FROM CONSO ORDER BY Id",
        "locked": {"when": "item.LockedBy is not none", "by": "item.LockedBy", "since": "'2026-11-24 09:12:00.000'"},
    }
    return job


def test_a_locked_item_keeps_the_run_from_beginning_and_names_who_has_it(locked: JobProject) -> None:
    done = locked.cli("run", locked.write())
    assert done.returncode == 3
    assert "Conso 'C2' is locked by anna since 2026-11-24 09:12:00; nothing was begun" in done.stderr
    assert locked.effects() == Counter()
    assert locked.run("--item", "1", "--item", "3")["status"] == "succeeded"


def test_a_locked_item_can_be_skipped_and_is_done_by_a_resume_when_it_is_free(locked: JobProject) -> None:
    locked.spec["for_each"]["locked"]["then"] = "skip"
    told = locked.run(code=1)
    assert (told["status"], told["items"]["skipped"], told["items"]["succeeded"]) == ("incomplete", 1, 2)
    assert "locked by anna" in told["error"]
    assert "Conso 'C2' is locked by anna since 2026-11-24 09:12:00; it was skipped." in locked.cli("show", "1").stdout
    fill(locked.target, "UPDATE CONSO SET LockedBy = NULL")
    again = locked.document("resume", "1")
    assert (again["status"], again["items"]["succeeded"]) == ("succeeded", 3)
    assert locked.effects() == once("one", "two")


def test_plan_shows_items_locks_and_every_bound_statement_and_changes_nothing(locked: JobProject) -> None:
    locked.spec["steps"] += [
        {"name": "count", "query": "SELECT COUNT(*) AS N FROM CONSO"},
        {"name": "later", "sql": "INSERT INTO EFFECT VALUES ({{ steps.count.first.N }}, {{ item.Code }})"},
        {"name": "odd", "when": "item.Id > 1", "sql": EFFECT % "odd"},
    ]
    made = locked.document("plan", str(locked.write()), code=1)
    assert [item["locked"] for item in made["items"]] == [
        None,
        "Conso 'C2' is locked by anna since 2026-11-24 09:12:00",
        None,
    ]
    planned = {one["step"]: one for one in made["statements"]}
    assert planned["one"]["statements"] == [
        {"sql": "INSERT INTO EFFECT (Item, Step) VALUES (?, 'one')", "values": ["1"]}
    ]
    assert planned["later"]["remark"] == "depends on what earlier steps output"
    assert planned["odd"]["remark"] == "skipped: its `when` does not hold"
    shown = locked.cli("plan", locked.file, "--item", "1").stdout
    assert "Conso" not in shown.splitlines()[0]
    assert "INSERT INTO EFFECT (Item, Step) VALUES (?, 'one')" in shown
    assert "-- values: 1" in shown
    assert locked.effects() == Counter()
    assert locked.document("runs")["runs"] == []


def test_a_second_run_at_the_same_time_is_refused_and_names_the_first(job: JobProject) -> None:
    forever = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000000) SELECT COUNT(*) FROM n"
    )
    job.spec["parameters"] = {"period": {"type": "string"}}
    job.spec["concurrency"] = {"key": "{{ params.period }}"}
    job.spec["steps"] = [
        {"name": "one", "query": "{% if params.period == 'slow' %}" + forever + "{% else %}SELECT 1{% endif %}"}
    ]
    process = job.popen("run", job.write(), "--set", "period=slow")
    try:
        until(lambda: "running" in job.cli("runs").stdout)
        refused = job.cli("run", job.file, "--set", "period=slow")
        assert refused.returncode == 3
        assert "run #1 of job close goes on: " in refused.stderr
        assert f"process {process.pid}" in refused.stderr
        assert job.document("run", str(job.file), "--set", "period=other")["status"] == "succeeded"
    finally:
        process.kill()
        process.communicate()
    states = {run["number"]: run["status"] for run in job.document("runs")["runs"]}
    assert states == {1: "lost", 2: "failed", 3: "succeeded"}
    job.spec["steps"] = [{"name": "one", "query": "SELECT 1"}]
    assert job.run("--set", "period=slow")["status"] == "succeeded", (
        "a run whose process is gone stands in nobody's way"
    )


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.05)


def test_a_run_that_takes_longer_than_its_timeout_is_stopped_and_can_be_resumed(job: JobProject) -> None:
    job.spec["timeout"] = "2s"
    job.spec["on_error"] = [{"then": "next_item"}]
    forever = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000000) SELECT COUNT(*) FROM n"
    )
    slow = (
        "{% if item.Id == 2 %}"
        + f"SELECT CASE WHEN (SELECT COUNT(*) FROM CONSO) > 2 THEN ({forever}) END"
        + "{% else %}SELECT 1{% endif %}"
    )
    job.spec["steps"].append({"name": "slow", "query": slow})
    told = job.run(code=1)
    assert (told["status"], told["items"]["succeeded"], told["items"]["failed"], told["items"]["not_run"]) == (
        "failed",
        1,
        1,
        1,
    )
    assert told["error"] == "the run took longer than its timeout of 2 s"
    fill(job.target, "DELETE FROM CONSO WHERE Id = 3")
    assert job.document("resume", "1")["status"] == "succeeded"
    assert job.effects() == once("one", "two", items=2)


def test_a_secret_parameter_is_in_no_plan_no_error_and_no_message(job: JobProject) -> None:
    job.spec["parameters"] = {"word": {"type": "string", "secret": True}}
    job.spec["steps"] = [
        {"name": "one", "sql": "INSERT INTO EFFECT VALUES ({{ item.Id }}, {{ params.word }}, 'hunter2')"}
    ]
    given = ("--set", "word=hunter2")
    shown = [
        job.cli("plan", job.write(), *given),
        job.cli("run", job.file, *given),
        job.cli("show", "1"),
        job.cli("show", "1", "--format", "json"),
    ]
    assert all("hunter2" not in one.stdout + one.stderr for one in shown)
    assert "-- values: 1, '***'" in shown[0].stdout
    assert "hunter2" not in str(
        [rows(job.store, f"SELECT * FROM TB_R_JOB_{name}") for name in ("RUN", "STEP", "MESSAGE", "AUDIT")]
    )


def test_a_step_that_fails_for_a_while_is_tried_again_each_time_in_a_transaction_of_its_own(job: JobProject) -> None:
    fill(job.target, "CREATE TABLE TRIES (Item INTEGER)")
    flaky = "INSERT INTO TRIES SELECT {{ item.Id }}; " + EFFECT % "flaky" + "; INSERT INTO LATER VALUES (1)"
    job.spec["for_each"]["where"] = "item.Id == 1"
    job.spec["steps"] = [{"name": "flaky", "sql": flaky, "retry": {"attempts": 20, "wait": "200ms", "when": "LATER"}}]
    process = job.popen("run", job.write(), "--format", "json")
    until(lambda: "trying again" in (process.stderr.readline() if process.stderr else ""))
    fill(job.target, "CREATE TABLE LATER (N INTEGER)")
    out, err = process.communicate(timeout=60)
    told = json.loads(out)
    assert told["status"] == "succeeded", err
    assert job.effects() == Counter({(1, "flaky"): 1})
    assert rows(job.target, "SELECT COUNT(*) FROM TRIES") == [(1,)], "what failed was rolled back"
    states = [step["status"] for step in told["steps"]]
    assert states[-1] == "done"
    assert set(states[:-1]) == {"failed"}
    assert "Conso C1 flaky is tried again in 0.2 s: " in job.cli("show", "1").stdout


def test_a_step_is_tried_no_more_often_than_it_may_and_not_after_other_errors(job: JobProject) -> None:
    job.spec["for_each"]["where"] = "item.Id == 1"
    job.spec["steps"] = [{"name": "one", "sql": BROKEN, "retry": {"attempts": 3, "wait": "10ms"}}]
    assert [step["status"] for step in job.run(code=1)["steps"]] == ["failed"] * 3
    job.spec["steps"][0]["retry"]["when"] = "deadlock"
    assert [step["status"] for step in job.run(code=1)["steps"]] == ["failed"]


def test_a_resumed_item_sees_what_its_earlier_steps_have_given(job: JobProject) -> None:
    job.spec["for_each"]["where"] = "item.Id == 1"
    job.spec["steps"] = [
        {"name": "first", "sql": EFFECT % "first"},
        {"name": "count", "query": "SELECT COUNT(*) AS N FROM CONSO"},
        {"name": "late", "sql": "INSERT INTO LATER VALUES ({{ steps.count.first.N }}, {{ steps.first.rowcount }})"},
    ]
    assert job.run(code=1)["status"] == "failed"
    fill(job.target, "CREATE TABLE LATER (N INTEGER, Changed INTEGER)")
    assert job.document("resume", "1")["status"] == "succeeded"
    assert rows(job.target, "SELECT N, Changed FROM LATER") == [(3, 1)]
    assert job.effects() == Counter({(1, "first"): 1})
