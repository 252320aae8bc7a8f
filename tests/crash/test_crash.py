"""The crash matrix: the process is killed at every durable step, then run again to the end. The API counts by record."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.cli.main import main
from tests.faultapi import Behaviour, FaultAPI, Handler, Request, answer, slow
from tests.project import ROOT, Project, check_sums

RECORDS, BATCH = 3, 2
LAST_STEP = 200
"""More steps than a run has: the matrix must end before it."""


@dataclass
class Store:
    """An API that stores records. With `keyed` it honours the idempotency key: a batch is stored once per key."""

    keyed: bool
    stored: Counter[int] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def behaviour(self) -> Behaviour:
        def behave(handler: Handler, request: Request) -> None:
            with self.lock:
                key = request.headers["idempotency-key"]
                if not (self.keyed and key in self.keys):
                    self.stored.update(record["Id"] for record in request.records)
                self.keys.add(key)
            answer()(handler, request)

        return behave


def _killed(project: Project, step: str) -> bool:
    """Run until the step; True when the process was killed there."""
    finished = project.cli("run", project.file, "--format", "json", env={"SYNCLEDGER_FAILPOINT": step})
    assert finished.returncode in (0, -signal.SIGKILL), finished.stderr
    return finished.returncode != 0


def _heal(project: Project) -> None:
    """The next run, on the same host, goes on at once: the holder of the lease is gone."""
    report = project.run()
    assert report["status"] == "delivered"
    check_sums(report)


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("ledger", ["sqlite", "postgresql", "mysql"])
def test_killed_at_any_step_nothing_is_lost_and_nothing_doubled(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str, in_flight: int
) -> None:
    project.users(RECORDS)
    project.entity(batch_size=BATCH)
    project.spec["api"]["in_flight"] = in_flight
    steps = 0
    for step in range(1, LAST_STEP):
        project.spec["connections"]["log"] = database(ledger)
        store = Store(keyed=True)
        api.script("/users", store.behaviour())
        project.write()
        if not _killed(project, str(step)):
            break
        steps += 1
        _heal(project)
        assert store.stored == Counter(range(1, RECORDS + 1)), f"killed at step {step}"
    assert 20 < steps < LAST_STEP - 1, "the matrix did not go through a whole run"


@pytest.mark.parametrize("way", ["ids_first", "in_database", "changed_since"])
def test_killed_at_any_step_of_a_run_that_reads_little_it_is_the_same(
    project: Project, api: FaultAPI, way: str
) -> None:
    """Most records were delivered before; the run that is killed reads IDs first, or what changed, or what is left."""
    narrow: dict[str, Any] = {"changed_since": {"column": "Changed", "overlap": 1}}
    project.entity(batch_size=BATCH, **(narrow if way == "changed_since" else {"exclude": way}))
    if way == "in_database":
        project.spec["connections"]["log"] = "sqlite:///source.db"
    project.fill("Users", "Id INTEGER PRIMARY KEY, Changed INTEGER", [(number, number) for number in range(1, 13)])
    project.run()
    project.fill("Users", "Id INTEGER PRIMARY KEY, Changed INTEGER", [(20, 20), (5000, 21), (-1, 22)])
    before = {
        name: (project.folder / name).read_bytes()
        for name in ("source.db", "log.db")
        if (project.folder / name).exists()
    }
    steps = 0
    for step in range(1, LAST_STEP):
        for name, content in before.items():
            (project.folder / name).write_bytes(content)
            (project.folder / f"{name}-journal").unlink(missing_ok=True)
        store = Store(keyed=True)
        api.script("/users", store.behaviour())
        if not _killed(project, str(step)):
            break
        steps += 1
        _heal(project)
        assert store.stored == Counter([20, 5000, -1]), f"killed at step {step}"
    assert 15 < steps < LAST_STEP - 1, "the matrix did not go through a whole run"


def test_an_api_without_keys_sees_again_at_most_what_was_on_the_wire_and_the_log_names_it(
    project: Project, api: FaultAPI
) -> None:
    project.users(RECORDS)
    project.entity(batch_size=BATCH)
    for step in ("send:2", "answer began:2", "answered:2", "settle:2", "tracked:2"):
        (project.folder / "log.db").unlink(missing_ok=True)
        store = Store(keyed=False)
        api.script("/users", store.behaviour())
        project.write()
        assert _killed(project, step)
        open_ids = {
            int(id_)
            for (ids,) in project.ledger("SELECT RecordIds FROM TB_R_SYNC_BATCH WHERE State = 'in_flight'")
            for id_ in json.loads(ids)
        }
        _heal(project)
        assert set(store.stored) == set(range(1, RECORDS + 1)), f"lost at {step}"
        doubled = {id_ for id_, count in store.stored.items() if count > 1}
        assert doubled <= open_ids, f"doubled beyond the wire at {step}"
        resent = project.ledger(
            "SELECT COUNT(*) FROM SchedulerLog WHERE AdditionalInformation LIKE '%\"Resent\":true%'"
        )
        assert resent == [(1,)], step


def test_a_batch_in_doubt_is_held_for_a_person_where_the_spec_says_so(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity(batch_size=2)
    project.spec["api"]["in_doubt"] = "hold"
    api.script("/users", answer(500), answer())
    report = project.run(code=1)
    assert report["entities"][0]["in_doubt"] == 2
    again = project.run(code=1)
    assert (again["entities"][0]["waiting"], again["entities"][0]["due"]) == (2, 0)
    check_sums(again)
    ((batch, payload),) = project.ledger("SELECT BatchId, Payload FROM TB_R_SYNC_BATCH WHERE State = 'held'")
    assert payload is not None
    shown = project.cli("status", project.file)
    assert batch in shown.stdout
    assert "held" in shown.stdout
    assert project.cli("resolve", project.file, batch, "resend").returncode == 0
    project.run()
    calls = api.of("/users")
    assert calls[-1].body == calls[0].body
    assert calls[-1].headers["idempotency-key"] == calls[0].headers["idempotency-key"]
    assert project.tracked() == ["3", "1", "2"]


@pytest.mark.parametrize(
    ("how", "sent_again", "tracked"), [("accepted", False, ["3", "1", "2"]), ("drop", True, ["3", "1", "2"])]
)
def test_a_person_settles_a_batch_in_doubt(
    project: Project, api: FaultAPI, how: str, sent_again: bool, tracked: list[str]
) -> None:
    project.users(3)
    project.entity(batch_size=2)
    project.spec["api"]["in_doubt"] = "hold"
    api.script("/users", answer(504), answer())
    project.run(code=1)
    ((batch,),) = project.ledger("SELECT BatchId FROM TB_R_SYNC_BATCH WHERE State = 'held'")
    assert project.cli("resolve", project.file, batch, how).returncode == 0
    project.run()
    assert (len(api.of("/users")) == 3) is sent_again
    assert sorted(project.tracked()) == sorted(tracked)
    assert project.ledger("SELECT Activity FROM SchedulerLog WHERE Activity LIKE 'Resolve%'") == [("Resolve: Users",)]
    assert project.cli("resolve", project.file, batch, how).returncode == 2


def test_a_timeout_is_settled_by_the_next_run_with_the_same_bytes_and_key(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    project.spec["api"]["retry"]["attempts"] = 1
    api.script("/users", answer(500), answer())
    assert project.run(code=1)["entities"][0]["in_doubt"] == 2
    report = project.run()
    assert report["entities"][0]["settled"] == 2
    assert report["entities"][0]["excluded"] == 2
    check_sums(report)
    first, second = api.of("/users")
    assert (first.body, first.headers["idempotency-key"]) == (second.body, second.headers["idempotency-key"])
    assert project.ledger("SELECT State, Payload FROM TB_R_SYNC_BATCH") == [("settled", None)]


@pytest.mark.parametrize("then", [401, 404, 429, 503, None])
def test_a_batch_in_doubt_stays_so_until_the_api_decides(project: Project, api: FaultAPI, then: int | None) -> None:
    project.users(2)
    project.entity()
    project.spec["api"]["retry"]["attempts"] = 1
    api.script("/users", answer(500), answer(then or 200))
    assert project.run(code=1)["entities"][0]["in_doubt"] == 2
    if then is None:
        project.spec["api"]["base_url"] = "http://127.0.0.1:9"  # nobody listens there
    report = project.run(code=1)
    assert (report["entities"][0]["waiting"], report["entities"][0]["due"]) == (2, 0)
    assert project.ledger("SELECT State FROM TB_R_SYNC_BATCH") == [("in_doubt",)]
    project.spec["api"]["base_url"] = api.url
    api.script("/users", answer())
    assert project.run()["entities"][0]["settled"] == 2
    assert len({request.headers["idempotency-key"] for request in api.of("/users")}) == 1


def test_a_refusal_of_the_same_key_decides_a_batch_in_doubt(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    project.spec["api"]["retry"]["attempts"] = 1
    api.script("/users", answer(500), answer(422, {"error": "no"}), answer())
    project.run(code=1)
    report = project.run()
    assert report["entities"][0]["accepted"] == 2, "offered again in a new batch"
    assert project.ledger("SELECT State FROM TB_R_SYNC_BATCH ORDER BY CreatedOn") == [("failed",), ("settled",)]


def test_a_key_that_is_too_old_is_not_trusted(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    project.spec["api"]["retry"]["attempts"] = 1
    api.script("/users", answer(500), answer())
    project.run(code=1)
    with sqlite3.connect(project.folder / "log.db") as connection:
        connection.execute("UPDATE TB_R_SYNC_BATCH SET CreatedOn = strftime('%Y-%m-%d %H:%M:%f', 'now', '-25 hours')")
    report = project.run(code=1)
    assert report["entities"][0]["waiting"] == 2
    assert len(api.of("/users")) == 1
    assert "older than 24 h" in project.cli("status", project.file).stdout


def test_two_runs_at_once_one_is_refused_and_says_who_holds_the_lease(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    api.script("/users", slow(3))
    project.write()
    first = project.popen("run", project.file)
    while not api.of("/users"):
        assert first.poll() is None
    second = project.cli("run", project.file, "--format", "json")
    assert second.returncode == 3
    document = json.loads(second.stdout)
    assert document["status"] == "refused"
    assert document["holder"]["pid"] == first.pid
    assert {"run_id", "host", "user", "since", "last_heartbeat"} <= set(document["holder"])
    assert first.wait(20) == 0
    first.communicate()
    assert len(api.of("/users")) == 1


def test_a_run_whose_lease_is_broken_can_neither_send_nor_settle(project: Project, api: FaultAPI) -> None:
    project.users(6)
    project.entity(batch_size=2)
    unlocked = threading.Event()

    def held(handler: Handler, request: Request) -> None:
        unlocked.wait(100)
        answer()(handler, request)

    api.script("/users", held, answer())
    project.spec["api"]["timeout"] = "100s"
    project.write()
    first = project.popen("run", project.file, "--format", "json")
    while not api.of("/users"):
        assert first.poll() is None
    assert project.cli("unlock", project.file, "--yes").returncode == 0
    unlocked.set()
    output, _ = first.communicate(timeout=100)
    assert first.returncode == 4, output
    assert "lease of this run is lost" in output
    assert project.tracked() == []
    assert len(api.of("/users")) <= 2
    report = project.run()
    assert sorted(project.tracked()) == ["1", "2", "3", "4", "5", "6"]
    check_sums(report)


def test_a_run_that_was_stopped_past_the_expiry_of_its_lease_does_nothing_more(project: Project, api: FaultAPI) -> None:
    project.users(6)
    project.entity(batch_size=2)
    project.spec["lease"] = {"expires": "1s"}
    api.script("/users", slow(0.5), answer())
    project.write()
    first = project.popen("run", project.file, "--format", "json")
    while not api.of("/users"):
        assert first.poll() is None
    first.send_signal(signal.SIGSTOP)
    expired = "SELECT 1 FROM TB_R_SYNC_LEASE WHERE ExpiresOn < strftime('%Y-%m-%d %H:%M:%f', 'now')"
    while not project.ledger(expired):
        time.sleep(0.05)
    store = Store(keyed=True)
    store.keys.add(api.of("/users")[0].headers["idempotency-key"])
    store.stored.update([1, 2])
    api.script("/users", store.behaviour())
    report = project.run()
    first.send_signal(signal.SIGCONT)
    output, _ = first.communicate(timeout=30)
    assert first.returncode == 4, output
    assert store.stored == Counter(range(1, 7))
    check_sums(report)


@pytest.mark.parametrize("value", ["x", "settle", "settle:", "settle:x", "0", "-1", "settle:0", "1.5"])
def test_a_failpoint_that_is_none_is_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("SYNCLEDGER_FAILPOINT", value)
    monkeypatch.setattr("sys.argv", ["syncledger", "--help"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"SYNCLEDGER_FAILPOINT is {value!r}; write a number from 1" in said.err


def test_a_run_with_a_bad_failpoint_leaves_with_2(project: Project, api: FaultAPI) -> None:
    """The module that reads the variable is imported by every command."""
    project.users(1)
    project.entity()
    finished = project.cli("run", project.write(), env={"SYNCLEDGER_FAILPOINT": "settle"})
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "SYNCLEDGER_FAILPOINT is 'settle'" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert api.requests == []


BUG = """
import sys
if 'run' in sys.orig_argv:
    from engine.sync.send import verdict
    read = verdict.read
    def broken(results, ids, *more):
        if '3' in ids:
            raise RuntimeError('a bug')
        return read(results, ids, *more)
    verdict.read = broken
"""


@pytest.mark.parametrize("workers", [1, 3], ids=["one at a time", "three in flight"])
def test_after_a_bug_the_run_is_over_and_what_was_on_the_wire_is_in_doubt(
    project: Project, api: FaultAPI, tmp_path: Path, workers: int
) -> None:
    """Exit 70: the other batches on the wire are settled, the run's row says error, nothing stays `in_flight`."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BUG)
    project.users(8)
    project.entity(batch_size=2)
    project.spec["api"]["in_flight"] = workers
    api.script("/users", slow(0.1))
    path = {"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}", "TMPDIR": str(tmp_path)}
    finished = project.cli("run", project.write(), env=path)
    assert finished.returncode == 70, finished.stderr
    states = dict(project.ledger("SELECT RecordIds, State FROM TB_R_SYNC_BATCH"))
    assert states['["3","4"]'] == "in_doubt"
    assert set(states.values()) == {"settled", "in_doubt"}
    ((status, ended, summary),) = project.ledger("SELECT Status, EndedOn, Summary FROM TB_R_SYNC_RUN")
    assert (status, ended is not None) == ("error", True)
    assert json.loads(summary)["error"] == "a bug: RuntimeError"
    assert project.ledger("SELECT Reason FROM TB_R_SYNC_BATCH WHERE State = 'in_doubt'") == [
        ("may have been processed; the run ended by a bug (RuntimeError)",)
    ]
    tracked = project.tracked()
    report = project.run()
    assert report["entities"][0]["settled"] == 2
    assert sorted(project.tracked()) == [str(id_) for id_ in range(1, 9)]
    of_three = [request for request in api.of("/users") if b'"Id":3' in request.body]
    assert len({request.headers["idempotency-key"] for request in of_three}) == 1
    assert len(of_three) == 2
    assert len(tracked) == 2 * (len(states) - 1)
