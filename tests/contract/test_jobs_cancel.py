"""The end of a run that a person asks for is a true one: the server does nothing for it any more before the state says so."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import fill
from tests.jobs import EFFECT, JobProject, rows

SLOW = {
    "sqlite": "INSERT INTO EFFECT SELECT 9, 'slow' FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000000) SELECT COUNT(*) FROM n)",
    "postgresql": "INSERT INTO EFFECT SELECT 9, pg_sleep(300)::text",
    "mysql": "INSERT INTO EFFECT SELECT 9, SLEEP(300)",
}
AT_WORK = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(300)%' AND pid <> pg_backend_pid()",
    "mysql": "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(300)%' AND ID <> CONNECTION_ID()",
}
DATABASES = [pytest.param(name, marks=pytest.mark.odbc if name != "sqlite" else ()) for name in SLOW]


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.05)


def running(job: JobProject, step: str) -> bool:
    done = job.cli("show", "1", "--format", "json")
    return bool(done.stdout) and any(
        one["name"] == step and one["status"] == "running" for one in json.loads(done.stdout).get("steps", ())
    )


@pytest.mark.parametrize("dialect", DATABASES)
def test_cancel_stops_the_statement_on_the_server_and_rolls_its_step_back(
    tmp_path: Path, database: Callable[[str], str], dialect: str
) -> None:
    job = JobProject(tmp_path / "project", database(dialect), database("sqlite"))
    job.spec["steps"] = [
        {"name": "before", "sql": EFFECT % "before"},
        {"name": "slow", "sql": f"{EFFECT % 'undone'}; {SLOW[dialect]}"},
        {"name": "never", "sql": EFFECT % "never"},
    ]
    process = job.popen("run", job.write(), "--format", "json")
    try:
        until(lambda: running(job, "slow"))
        if dialect in AT_WORK:
            until(lambda: rows(job.target, AT_WORK[dialect]))
        began = time.monotonic()
        done = job.cli("cancel", "1", "--why", "wrong period", "--wait", "--format", "json")
        seconds = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["status"] == "cancelled"
        if dialect in AT_WORK:
            assert rows(job.target, AT_WORK[dialect]) == [], "nothing of it runs when the state says so"
        assert seconds < 20
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
        assert json.loads(out)["items"]["cancelled"] == 1
    finally:
        process.kill()
        process.communicate()
    assert job.effects() == Counter({(1, "before"): 1}), "what was not committed is rolled back"
    assert told["cancelled"]["why"] == "wrong period"
    refused = job.cli("resume", "1")
    assert refused.returncode == 3
    assert "a cancelled run is never taken up again" in refused.stderr
    assert [act for (act,) in rows(job.store, "SELECT Act FROM TB_R_JOB_AUDIT ORDER BY WrittenOn")] == ["run", "cancel"]


@pytest.mark.odbc
def test_a_statement_that_swallows_the_cancel_has_its_session_ended(
    tmp_path: Path, database: Callable[[str], str]
) -> None:
    """PostgreSQL: a block that catches `query_canceled` and goes on. After the grace its session is ended on the server."""
    job = JobProject(tmp_path / "project", database("postgresql"), database("sqlite"))
    swallow = (
        "CREATE FUNCTION stubborn() RETURNS int LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..300 LOOP BEGIN PERFORM pg_sleep(1); "
        "EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; RETURN 1; END $$"
    )
    fill(job.target, swallow)
    job.spec["cancel_grace"] = "1s"
    job.spec["steps"] = [{"name": "slow", "sql": f"{EFFECT % 'undone'}; SELECT stubborn()"}]
    process = job.popen("run", job.write(), "--format", "json")
    at_work = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%stubborn()%' AND state = 'active' AND pid <> pg_backend_pid()"
    try:
        until(lambda: rows(job.target, at_work))
        began = time.monotonic()
        done = job.cli("cancel", "1", "--wait", "--format", "json")
        assert json.loads(done.stdout)["status"] == "cancelled"
        assert time.monotonic() - began < 20
        assert rows(job.target, at_work) == []
        process.communicate(timeout=30)
        assert process.returncode == 130
    finally:
        process.kill()
        process.communicate()
    assert job.effects() == Counter()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_as_a_cancel_does(
    tmp_path: Path, database: Callable[[str], str], number: signal.Signals
) -> None:
    job = JobProject(tmp_path / "project", database("sqlite"))
    job.spec["steps"] = [
        {"name": "before", "sql": EFFECT % "before"},
        {"name": "slow", "sql": f"{EFFECT % 'undone'}; {SLOW['sqlite']}"},
    ]
    process = job.popen("run", job.write(), "--format", "json")
    try:
        until(lambda: running(job, "slow"))
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, err
    told = json.loads(out)
    assert (told["status"], told["items"]["cancelled"], told["items"]["not_run"]) == ("cancelled", 1, 2)
    assert told["cancelled"]["why"] == "a signal"
    assert job.effects() == Counter({(1, "before"): 1})


def test_only_a_run_that_goes_on_can_be_cancelled(tmp_path: Path, database: Callable[[str], str]) -> None:
    job = JobProject(tmp_path / "project", database("sqlite"))
    job.run()
    refused = job.cli("cancel", "1")
    assert refused.returncode == 3
    assert "run #1 has succeeded already" in refused.stderr
    unknown = job.cli("cancel", "7")
    assert unknown.returncode == 2
    assert "there is no run '7' here" in unknown.stderr
