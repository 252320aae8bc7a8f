"""Signals to a run: what is on the wire is settled, nothing new is sent, and the report says so."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from engine.context import RunContext, utc_now
from tests.conftest import fill
from tests.faultapi import FaultAPI, answer, slow
from tests.project import Project, check_sums

Start = Callable[[Project], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a project in the background; whatever is left of it at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(project: Project) -> subprocess.Popen[str]:
        started.append(project.popen("run", project.write(), "--format", "json"))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.01)


def end_of(process: subprocess.Popen[str], seconds: float = 20) -> dict[str, Any]:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 130, f"exit {process.returncode}\n{out}\n{err}"
    report: dict[str, Any] = json.loads(out)
    assert report["status"] == "cancelled"
    check_sums(report)
    return report


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_settles_the_batch_on_the_wire_and_sends_no_other(
    project: Project, api: FaultAPI, start: Start, number: signal.Signals
) -> None:
    project.users(6)
    project.users(2, table="Orgs")
    project.entity(batch_size=2)
    project.entity("Orgs")
    api.script("/users", slow(0.8), answer())
    process = start(project)
    until(lambda: api.of("/users"))
    process.send_signal(number)
    report = end_of(process)
    assert project.tracked() == ["1", "2"]
    assert [row["status"] for row in project.log_rows()] == ["Success"]
    assert [request.path for request in api.requests] == ["/users"]
    users, orgs = report["entities"]
    assert (users["accepted"], users["calls"]) == (2, 1)
    assert (orgs["read"], orgs["calls"]) == (0, 0)
    again = project.run()
    assert [entity["accepted"] for entity in again["entities"]] == [4, 2]
    assert [record["Id"] for request in api.of("/users") for record in request.records] == [1, 2, 3, 4, 5, 6]


def test_every_batch_on_the_wire_is_settled(project: Project, api: FaultAPI, start: Start) -> None:
    project.spec["api"]["in_flight"] = 3
    project.users(12)
    project.entity(batch_size=2)
    api.script("/users", slow(0.8))
    process = start(project)
    until(lambda: len(api.of("/users")) == 3)
    process.send_signal(signal.SIGTERM)
    report = end_of(process)
    assert sorted(project.tracked()) == ["1", "2", "3", "4", "5", "6"]
    assert report["entities"][0]["accepted"] == 6
    assert len(api.of("/users")) == 3


def test_a_failure_after_the_signal_is_not_attempted_again(project: Project, api: FaultAPI, start: Start) -> None:
    project.users(2)
    project.entity()
    api.script("/users", slow(0.8, answer(500)), answer())
    process = start(project)
    until(lambda: api.of("/users"))
    process.send_signal(signal.SIGTERM)
    report = end_of(process)
    assert len(api.of("/users")) == 1
    assert report["entities"][0]["in_doubt"] == 2
    assert project.tracked() == []
    assert [row["status"] for row in project.log_rows()] == ["Failure"]


def test_a_wait_between_attempts_is_cut_short_by_a_signal(project: Project, api: FaultAPI, start: Start) -> None:
    project.spec["api"]["retry"] = {"attempts": 3, "wait": "10ms", "max_wait": "60s"}
    project.users(2)
    project.entity()
    api.script("/users", answer(503, b"later", Retry_After="50"))
    process = start(project)
    until(lambda: api.of("/users") and project.log_rows())  # the attempt is over, and the wait begins
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    report = end_of(process)
    assert time.monotonic() - began < 8
    assert len(api.of("/users")) == 1
    assert report["entities"][0]["failed"] == 2
    assert project.tracked() == []


def test_a_second_signal_stops_at_once_and_tracks_nothing_that_was_not_answered(
    project: Project, api: FaultAPI, start: Start
) -> None:
    project.spec["api"]["timeout"] = "60s"
    project.users(4)
    project.entity(batch_size=2)
    api.script("/users", answer(), slow(50), answer())
    process = start(project)
    until(lambda: len(api.of("/users")) == 2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None, "the first signal waits for the batch on the wire"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=8)
    assert process.returncode == 130
    assert project.tracked() == ["1", "2"]
    again = project.run()
    assert again["entities"][0]["settled"] == 2


def test_a_run_that_is_cancelled_while_it_reads_adds_up(project: Project, api: FaultAPI, start: Start) -> None:
    project.users(3000)
    project.entity(batch_size=1, page_size=50)
    process = start(project)
    until(lambda: len(api.of("/users")) > 20)
    process.send_signal(signal.SIGTERM)
    report = end_of(process)
    (users,) = report["entities"]
    assert users["accepted"] == len(project.tracked()) == len(api.of("/users"))
    assert users["read"] < 3000, "it had not read everything"
    assert len(api.of("/users")) < 3000


SLOW = {
    "sqlite": (
        "SELECT Id, Name, (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000000) "
        "SELECT COUNT(*) FROM n WHERE i > Users.Id) AS Slow FROM Users"
    ),
    "postgresql": "SELECT Id, Name, pg_sleep(300)::text AS Slow FROM Users",
    "mysql": "SELECT Id, Name, SLEEP(300) AS Slow FROM Users",
}
"""Rows that take minutes."""


@pytest.mark.parametrize(
    "dialect", [pytest.param(name, marks=pytest.mark.odbc if name != "sqlite" else ()) for name in SLOW]
)
def test_a_cancelled_run_does_not_wait_for_the_statement_that_reads(
    project: Project, api: FaultAPI, start: Start, database: Callable[[str], str], dialect: str
) -> None:
    """The server stops it: nobody waits for the rest of the minutes, and nothing of the page is sent."""
    text = project.spec["connections"]["default"] = database(dialect)
    fill(text, "CREATE TABLE Users (Id INTEGER, Name VARCHAR(20))", "INSERT INTO Users VALUES (1, 'a'), (2, 'b')")
    project.entity(query=SLOW[dialect])
    process = start(project)
    assert process.stderr
    assert "ledger" in process.stderr.readline()
    time.sleep(1.5)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    report = end_of(process)
    assert time.monotonic() - began < 15
    assert report["entities"][0]["due"] == 0
    assert api.requests == []


def test_callbacks_are_called_once_by_whoever_cancels_also_when_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    run, called = RunContext.start(), list[str]()

    def fails() -> None:
        called.append("fails")
        raise RuntimeError("cannot")

    with run.on_cancel(fails), run.on_cancel(lambda: called.append("second")):
        with run.on_cancel(lambda: called.append("over")):
            pass
        run.cancelled.set()
        run.cancelled.set()
    assert called == ["fails", "second"]
    assert "could not be" in caplog.text
    with run.on_cancel(lambda: called.append("late")):
        assert called[-1] == "late", "the run was cancelled before"


def test_a_wait_ends_at_the_deadline() -> None:
    now = utc_now()
    run = RunContext("run", now, lambda: now, deadline=now + timedelta(seconds=0.05))
    assert run.left() == pytest.approx(0.05)
    began = time.monotonic()
    run.sleep(60)
    assert time.monotonic() - began < 30
    assert replace(run, deadline=now - timedelta(seconds=1)).left() == 0
    assert replace(run, deadline=None).left() is None
