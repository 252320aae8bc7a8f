"""What goes wrong is on the screen while it happens: retries, an API that is down, runs that were killed or cancelled."""

from __future__ import annotations

import io
import json
import signal
import socket
import threading

import pytest
from rich.console import Console

from engine.observe.bars import Live
from engine.sync.counts import Counts
from engine.sync.model import Batch, Pause
from tests.faultapi import FaultAPI, answer, slow
from tests.project import Project, check_sums


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_api_where_nobody_listens_ends_the_endpoint_after_one_batch(project: Project, closed_port: int) -> None:
    project.spec["api"]["base_url"] = f"http://127.0.0.1:{closed_port}"
    project.spec["api"]["retry"] = {"attempts": 3, "wait": "10ms"}
    project.users(50)
    project.entity(batch_size=10)
    project.write()
    finished = project.cli("run", project.file, "--format", "json", "--log-format", "json")
    report = json.loads(finished.stdout)
    check_sums(report)
    (users,) = report["entities"]
    assert (finished.returncode, users["calls"], users["failed"]) == (1, 3, 10)
    lines = [json.loads(line) for line in finished.stderr.splitlines()]
    waits = [line for line in lines if "wait_seconds" in line]
    assert "Connection refused" in waits[0]["reason"]
    assert "attempt 2 of 3" in waits[0]["event"]
    # Every line of progress says which run it is of.
    assert {line["run_id"] for line in lines if "entity" in line} == {report["run_id"]}


def test_five_failing_batches_in_a_row_park_the_endpoint_by_default(project: Project, api: FaultAPI) -> None:
    project.users(100)
    project.entity(batch_size=10)
    api.script("/users", answer(503))
    report = project.run(code=1)
    check_sums(report)
    (users,) = report["entities"]
    assert (users["calls"], users["accepted"]) == (10, 0)
    assert "parked" in users["error"]


def test_records_that_a_cancelled_run_did_not_send_are_waiting_not_failed(project: Project, api: FaultAPI) -> None:
    project.users(100)
    project.entity(batch_size=10)
    arrived = threading.Event()

    def first(handler: object, request: object) -> None:
        arrived.set()
        slow(1.0)(handler, request)  # type: ignore[arg-type]

    api.script("/users", first)
    project.write()
    process = project.popen("run", project.file)
    assert arrived.wait(30)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    (summary,) = project.ledger("SELECT Summary FROM TB_R_SYNC_RUN")[0]
    (users,) = json.loads(summary)["entities"]
    assert (users["accepted"], users["failed"]) == (10, 0)
    assert f"{users['read']} of 100 rows read" in output


def test_a_killed_run_is_shown_as_killed_and_marked_by_the_next_one(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity()
    project.write()
    killed = project.cli("run", project.file, env={"SYNCLEDGER_FAILPOINT": "settle:1"})
    assert killed.returncode == -signal.SIGKILL
    shown = project.cli("status", project.file)
    assert "Running now" not in shown.stdout
    assert "killed (process gone)" in shown.stdout
    document = json.loads(project.cli("status", project.file, "--format", "json").stdout)
    assert (document["lease"], [run["status"] for run in document["runs"]]) == (None, ["killed"])
    project.run()
    states = project.ledger("SELECT Status FROM TB_R_SYNC_RUN ORDER BY StartedOn")
    assert states == [("killed",), ("delivered",)]


def test_bars_show_percentage_rate_run_and_what_is_waited_for() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160, color_system=None)
    batch = Batch("b", "Users", "k", ("1",), b"[]")
    with Live(console) as live:
        live.hear("run_started", run="4711-run")
        live.hear("entity_started", entity="Users")
        live.hear("rows_counted", entity="Users", rows=200)
        live.hear("progress", entity="Users", counts=Counts(excluded=50, due=50, accepted=50, calls=5))
        live.hear("waiting", entity="Users", wait=Pause(batch, 1, 4, 2.0, "Connection refused"))
        live.hear("an_event_of_tomorrow", entity="Users")
        live._bars.refresh()
    text = screen.getvalue()
    assert "4711-run" in text
    assert " 50%" in text
    assert "Connection refused; trying again in 2 s (attempt 2 of 4)" in text
