"""Two short soaks (`make soak` goes on with new seeds), and what soaks have found."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faultapi import FaultAPI, Handler, Request, answer, slow
from tests.project import Project, check_sums
from tests.soak.dice import RESULTS, Plan, Soak, stopping, wait_until_stopped


def _soaked(folder: Path, seed: int, rounds: int, ledger: str = "sqlite", string: str | None = None) -> None:
    soak = Soak(Plan.of(seed), folder, ledger, string)
    problems = soak.soak(rounds)
    assert not problems, f"seed {seed}, {rounds} rounds\n{soak.report()}"


def test_whatever_goes_wrong_nothing_is_lost_doubled_or_unexplained(tmp_path: Path) -> None:
    _soaked(tmp_path / "project", 4, rounds=5)


@pytest.mark.odbc
def test_whatever_goes_wrong_with_a_ledger_on_a_server_too(tmp_path: Path, database: Callable[[str], str]) -> None:
    _soaked(tmp_path / "project", 17, rounds=3, ledger="postgresql", string=database("postgresql"))


# What soaks have found


def test_counts_add_up_where_the_lease_is_lost_while_a_batch_is_refused(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity()
    unlocked = threading.Event()

    def held(handler: Handler, request: Request) -> None:
        unlocked.wait(100)
        answer(422)(handler, request)

    api.script("/users", held)
    project.spec["api"]["timeout"] = "100s"
    project.write()
    run = project.popen("run", project.file, "--format", "json")
    while not api.requests:
        assert run.poll() is None
        time.sleep(0.01)
    assert project.cli("unlock", project.file, "--yes").returncode == 0
    unlocked.set()
    output, _ = run.communicate(timeout=100)
    assert run.returncode == 4
    check_sums(json.loads(output))


def test_a_second_signal_while_the_process_ends_does_not_change_its_exit_code(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity()
    codes = []
    for _ in range(4):
        api.requests.clear()
        api.script("/users", slow(0.3, answer(503)))
        project.write()
        run = project.popen("run", project.file, "--format", "json", "--quiet")
        while not api.requests:
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        assert run.stdout
        run.stdout.readline()
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=30)
        codes.append(run.returncode)
    assert codes == [130] * 4


def test_a_lease_that_is_renewed_while_another_run_looks_at_it_stays_with_its_holder(
    project: Project, api: FaultAPI
) -> None:
    project.users(1)
    project.entity()
    project.run()
    with contextlib.closing(sqlite3.connect(project.folder / "log.db", isolation_level=None)) as holder:
        holder.execute(
            "UPDATE TB_R_SYNC_LEASE SET RunId = 'another', Host = 'elsewhere', Pid = 1, HeartbeatOn = '2000-01-01', ExpiresOn = '2000-01-01'"
        )
        # The holder was slow. Now it renews its lease in the transaction that settles a batch.
        holder.execute("BEGIN IMMEDIATE")
        holder.execute("UPDATE TB_R_SYNC_LEASE SET ExpiresOn = '2999-01-01' WHERE RunId = 'another'")
        run = project.popen("run", project.file, "--format", "json")
        time.sleep(3)
        holder.execute("COMMIT")
        output, _ = run.communicate(timeout=30)
    assert run.returncode == 3, output
    assert json.loads(output)["holder"]["run_id"] == "another"


@pytest.mark.odbc
def test_a_holder_that_stands_still_inside_a_transaction_does_not_make_the_next_run_hang(
    project: Project, database: Callable[[str], str]
) -> None:
    project.users(4)
    project.entity()
    project.spec["connections"]["log"] = database("postgresql")
    project.spec["lease"] = {"expires": "1s"}
    project.write()
    first = stopping(project, "settle:1", "run", project.file, "--format", "json")
    wait_until_stopped(first)
    time.sleep(1.2)
    second = project.popen("run", project.file, "--format", "json")
    try:
        second.communicate(timeout=12)
    finally:
        first.kill()
        first.communicate()
        second.kill()
        second.communicate()
    assert second.returncode in (0, 1, 3, 4)


def test_a_record_that_is_refused_when_an_open_batch_is_settled_rests_as_any_other(
    project: Project, api: FaultAPI
) -> None:
    _lost_and_found(project, api, "1h")
    report = project.run()
    assert (report["entities"][0]["settled"], report["entities"][0]["waiting"]) == (1, 1)
    assert len(api.requests) == 2


def test_a_record_that_is_accepted_after_all_is_not_listed_as_refused(project: Project, api: FaultAPI) -> None:
    _lost_and_found(project, api, "0s")
    project.run()
    project.run()
    assert sorted(project.tracked()) == ["1", "2"]
    assert project.rejects() == {}


def test_a_refusal_that_the_run_before_wrote_last_is_seen(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity()
    project.run()
    project.fill("Users", "Id", [(2, "refused")])
    with contextlib.closing(sqlite3.connect(project.folder / "log.db", isolation_level=None)) as before:
        before.execute("BEGIN IMMEDIATE")
        before.execute(
            "INSERT INTO TB_R_SYNC_REJECT VALUES ('Users', '2', 'rejected', 'bad', 422, 1, datetime('now'), datetime('now'), '2999-01-01', NULL)"
        )
        run = project.popen("run", project.file, "--format", "json")
        time.sleep(3)
        before.execute("COMMIT")
        output, _ = run.communicate(timeout=30)
    assert json.loads(output)["entities"][0]["waiting"] == 1, output
    assert len(api.requests) == 1


def _lost_and_found(project: Project, api: FaultAPI, rest: str) -> None:
    """A run whose answer is lost, and an API that then says what it was: 1 accepted, 2 refused; later, all is accepted."""
    project.users(2)
    project.entity(results=RESULTS, reject_delay=rest)
    project.spec["api"]["retry"]["attempts"] = 1
    yes, no = {"Id": 1, "status": "ok"}, {"Id": 2, "status": "rejected", "error": "not yet"}
    api.script(
        "/users", answer(500), answer(200, {"items": [yes, no]}), answer(200, {"items": [{**no, "status": "ok"}]})
    )
    assert project.run(code=1)["entities"][0]["in_doubt"] == 2
