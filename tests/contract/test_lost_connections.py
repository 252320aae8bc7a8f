"""Connections that stall, are cut or are kept: a run ends in time, goes on on a new session, or hears a signal."""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.context import RunContext
from engine.db.connection import Connection
from engine.db.drivers.thread import DriverThread, Stalled, Unusable
from engine.db.failures import database_error
from engine.db.statement import Statement
from engine.db.timeouts import Timeouts
from engine.errors import ConnectionFailed, DatabaseError, LedgerError
from engine.runs.lease import Heartbeat
from engine.runtime import process
from engine.store.retries import Patience
from engine.sync.ledger.ledger import Ledger
from engine.sync.partition import Part
from engine.sync.read.source import WHOLE
from engine.sync.report import EntityReport
from tests.blackhole import BlackHole
from tests.builders import ledger_spec, open_ledger, open_source, timeouts
from tests.conftest import fill
from tests.contract.test_ledger_retries import execute, kill_sessions, meanwhile, tracked
from tests.crash.test_crash import Store
from tests.faultapi import FaultAPI, answer
from tests.ledgers import ledger_on
from tests.project import ROOT, Project, check_sums
from tests.scenario.test_cancel import until
from tests.scenario.test_parking import named

SPEC = ledger_spec()
SERVERS = ["postgresql", "mysql"]


@pytest.fixture
def project(tmp_path: Path, api: FaultAPI) -> Project:
    return Project(tmp_path / "project", api.url)


@pytest.fixture
def hole() -> Iterator[Callable[[str], tuple[str, BlackHole]]]:
    """`hole(text)`: the same connection string through a proxy, and the proxy."""
    made: list[BlackHole] = []

    def through(text: str) -> tuple[str, BlackHole]:
        found = re.search(r"Port=(\d+)", text)
        assert found
        made.append(BlackHole(int(found[1])))
        return text.replace(found[0], f"Port={made[-1].port}"), made[-1]

    yield through
    for proxy in made:
        proxy.close()


@pytest.fixture
def ledger(database: Callable[[str], str]) -> Iterator[Ledger]:
    """A ledger on PostgreSQL that holds the lease and loses patience soon."""
    text = database("postgresql")
    db = open_ledger("log", text, ROOT, create=True)
    made = ledger_on(db, SPEC, "sync", str(uuid.uuid4()), patience=Patience(0.3))
    made.prepare()
    made.lease.acquire(60)
    yield made
    made.store.db.close()


def users(text: str, count: int, table: str = "Users") -> None:
    rows = ", ".join(f"({number}, 'name {number}')" for number in range(1, count + 1))
    fill(text, f"CREATE TABLE {table} (Id INTEGER PRIMARY KEY, Name VARCHAR(50))", f"INSERT INTO {table} VALUES {rows}")


# A silent stall


@pytest.mark.parametrize("dialect", SERVERS)
def test_a_source_that_falls_silent_ends_its_entity_with_4_and_the_others_run(
    project: Project,
    api: FaultAPI,
    database: Callable[[str], str],
    hole: Callable[[str], tuple[str, BlackHole]],
    dialect: str,
) -> None:
    text = database(dialect)
    users(text, 6)
    project.spec["connections"]["far"], proxy = hole(text)
    project.spec["timeouts"] = {"connect": "100ms", "query": "500ms"}
    project.users(2, table="Orgs")
    project.entity(connection="far", page_size=2, batch_size=2, exclude="lookup")
    project.entity("Orgs")
    api.script("/users", meanwhile(proxy.stall, answer()))
    began = time.monotonic()
    report = project.run(code=4)
    assert time.monotonic() - began < 30
    check_sums(report)
    entities = named(report)
    assert "no answer within" in entities["Users"]["error"]
    assert entities["Orgs"]["accepted"] == 2
    assert [int(id_) for id_ in project.tracked()] == list(range(1, entities["Users"]["accepted"] + 1))


@pytest.mark.parametrize("dialect", SERVERS)
def test_a_ledger_that_falls_silent_ends_the_run_with_4(
    project: Project,
    api: FaultAPI,
    database: Callable[[str], str],
    hole: Callable[[str], tuple[str, BlackHole]],
    dialect: str,
) -> None:
    text = database(dialect)
    project.spec["connections"]["log"], proxy = hole(text)
    project.spec["timeouts"] = {"connect": "100ms", "query": "500ms"}
    project.spec["ledger"] = {"wait": "500ms"}
    project.users(4)
    project.entity(batch_size=2)
    store = Store(keyed=True)
    api.script("/users", meanwhile(proxy.stall, store.behaviour()))
    report = project.run(code=4)
    check_sums(report)
    assert "no answer within" in str(named(report)["Users"]["error"])
    proxy.close()  # the server notices that the session is gone, and gives its locks back
    execute(text, "UPDATE TB_R_SYNC_LEASE SET RunId = NULL")
    project.spec["connections"]["log"] = text
    project.run()
    assert store.stored == Counter(range(1, 5))
    assert tracked(text) == [1, 2, 3, 4]


def test_a_server_that_lets_nobody_in_is_given_up_in_time(
    database: Callable[[str], str], hole: Callable[[str], tuple[str, BlackHole]]
) -> None:
    for dialect in SERVERS:
        text, proxy = hole(database(dialect))
        proxy.stall()
        began = time.monotonic()
        with pytest.raises(ConnectionFailed, match="cannot connect"):
            open_source("far", text, ROOT, timeouts(connect=0.5))
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("dialect", SERVERS)
def test_a_server_stops_a_query_that_takes_too_long_and_the_session_goes_on(
    database: Callable[[str], str], dialect: str
) -> None:
    sleep = {"postgresql": "SELECT pg_sleep(20)", "mysql": "SELECT SLEEP(20) FROM information_schema.tables"}[dialect]
    connection = open_source("far", database(dialect), ROOT, timeouts(query=0.5))
    began = time.monotonic()
    with pytest.raises(DatabaseError, match=r"statement timeout|max_statement_time") as caught:
        connection.execute(Statement(sleep, ()))
    assert not caught.value.lost
    assert time.monotonic() - began < 15
    assert connection.execute(Statement("SELECT 1", ())).rows[0][0] == 1
    connection.close()


def test_a_driver_that_does_not_come_back_is_left_behind() -> None:
    held = threading.Event()
    thread = DriverThread("test")
    assert thread.call(lambda: 1, 10) == 1
    with pytest.raises(Stalled, match=r"within 0\.05 s"):
        thread.call(lambda: held.wait(60), 0.05)
    with pytest.raises(Unusable, match="has not come back"):
        thread.call(lambda: 1, 10)
    held.set()
    thread.end()


def test_what_a_driver_raises_is_raised_where_it_was_called() -> None:
    thread = DriverThread("test")
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0)
    assert thread.call(lambda: 2) == 2
    thread.end()
    with pytest.raises(Unusable, match="closed"):
        thread.call(lambda: 3)


def test_two_signals_end_a_run_whose_source_is_silent_and_whose_time_limit_is_far(
    tmp_path: Path, api: FaultAPI, database: Callable[[str], str], hole: Callable[[str], tuple[str, BlackHole]]
) -> None:
    project = Project(tmp_path / "project", api.url)
    text = database("postgresql")
    users(text, 6)
    project.spec["connections"]["far"], proxy = hole(text)
    project.entity(connection="far", page_size=2, batch_size=2, exclude="lookup")
    api.script("/users", meanwhile(proxy.stall, answer()))
    end_by_two_signals(project, proxy.swallowed.is_set)


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def end_by_two_signals(project: Project, deep: Callable[[], Any]) -> None:
    process = project.popen("run", project.write(), "--format", "json")
    try:
        until(lambda: (project.folder / "log.db").is_file() and project.ledger("SELECT 1 FROM sqlite_master"), 60)
        until(lambda: running(project), 60)
        until(deep, 60)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 130
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def running(project: Project) -> bool:
    try:
        return bool(project.ledger("SELECT 1 FROM TB_R_SYNC_RUN WHERE Status = 'running'"))
    except Exception:  # noqa: BLE001 - the table is not there yet
        return False


# A source session that is ended


@pytest.mark.parametrize("how", ["lookup", "ids_first"])
@pytest.mark.parametrize("dialect", SERVERS)
def test_a_source_session_that_is_ended_between_two_pages_is_replaced_and_the_page_is_read_again(
    project: Project, api: FaultAPI, database: Callable[[str], str], dialect: str, how: str
) -> None:
    text = project.spec["connections"]["far"] = database(dialect)
    users(text, 8)
    users(text, 2, "Orgs")
    project.entity(connection="far", page_size=2, batch_size=2, exclude=how)
    project.entity("Orgs", connection="far")
    store = Store(keyed=False)
    api.script("/users", meanwhile(lambda: kill_sessions(text), store.behaviour(), at=2))
    report = project.run()
    check_sums(report)
    assert store.stored == Counter(range(1, 9))
    assert named(report)["Orgs"]["accepted"] == 2


def test_a_source_that_stays_away_is_asked_a_few_times_and_the_first_words_are_kept(
    project: Project, api: FaultAPI, database: Callable[[str], str], away: Callable[[str, bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("engine.sync.read.reopen._WAITS", (0.0, 0.1, 0.2))
    text = project.spec["connections"]["far"] = database("postgresql")
    users(text, 6)
    project.entity(connection="far", page_size=2, batch_size=2, exclude="lookup")
    api.script("/users", meanwhile(lambda: away(text, True), answer()))
    report = project.run(code=4)
    error = named(report)["Users"]["error"]
    assert re.search(r"(?s)(terminating|server closed the) connection.*, then: .*not currently accepting", error)
    assert error.count("cannot connect") == 1


@pytest.mark.parametrize(
    ("dialect", "sqlstate", "words", "lost"),
    [
        ("postgresql", "08S01", "anything", True),
        ("postgresql", "57P01", "FATAL: terminating connection due to administrator command", True),
        ("postgresql", "57014", "ERROR: canceling statement due to statement timeout", False),
        ("postgresql", "HY000", "server closed the connection unexpectedly", True),
        ("mysql", "HY000", "[ma-3.1.15]Lost connection to server during query (2013)", True),
        ("mysql", "HY000", "MySQL server has gone away (2006) (SQLExecDirectW)", True),
        ("mysql", "HY000", "Lock wait timeout exceeded; try restarting transaction (1205)", False),
        ("mssql", "01000", "[FreeTDS][SQL Server]Unexpected EOF from the server (20017)", True),
        ("mssql", "HY000", "[FreeTDS][SQL Server]Write to the server failed (20006) (SQLExecDirectW)", True),
        ("mssql", "08S01", "TCP Provider: Error code 0x68 (104)", True),
        ("mssql", "42000", "Transaction (Process ID 55) was deadlocked (1205)", False),
        ("sqlite", None, "Cannot operate on a closed database.", True),
        ("sqlite", None, "database is locked", False),
    ],
)
def test_a_lost_connection_is_known_by_its_sqlstate_or_its_drivers_words(
    dialect: str, sqlstate: str | None, words: str, lost: bool
) -> None:
    from engine.db.dialect import dialects

    failure = Exception(sqlstate, words) if sqlstate else Exception(words)
    assert database_error(failure, dialects(ROOT)[dialect].lost).lost is lost


# A ledger that is away for longer than it is waited for


def test_a_ledger_that_was_given_up_is_reached_again_when_it_is_back(
    ledger: Ledger, away: Callable[[str, bool], None], database: Callable[[str], str]
) -> None:
    """A look at the tables reconnects too; the lease is given back at the end, on the new session."""
    text = string_of(ledger)
    away(text, True)
    with pytest.raises(
        LedgerError, match=r"(?s)terminating connection.*tried again for 0\.3 s, then: .*not currently accepting"
    ):
        ledger.check()
    with pytest.raises(LedgerError, match="not currently accepting"):
        ledger.check()
    away(text, False)
    ledger.check()
    ledger.lease.release()
    assert execute(text, "SELECT RunId FROM TB_R_SYNC_LEASE") == [(None,)]


def test_the_lease_is_given_back_by_a_ledger_that_was_given_up(
    ledger: Ledger, away: Callable[[str, bool], None]
) -> None:
    text = string_of(ledger)
    away(text, True)
    with pytest.raises(LedgerError):
        ledger.check()
    away(text, False)
    ledger.lease.release()
    assert execute(text, "SELECT RunId FROM TB_R_SYNC_LEASE") == [(None,)]


def string_of(ledger: Ledger) -> str:
    again: Any = ledger.store.db.again
    return str(again.args[1])


def test_what_is_waited_for_is_said_at_once_and_thirty_seconds_are_waited(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    now, waits = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        assert "does not answer (no way; " in caplog.text, "said before the first wait"
        waits.append(seconds)
        now[0] += seconds

    assert ledger.store.retries
    ledger.store.retries.patience = Patience(30, now=lambda: now[0], sleep=sleep)
    tries = iter(range(1, 1000))

    def fail(_again: bool) -> None:
        raise DatabaseError("no way; \x1b[2J" if next(tries) == 1 else "no other way")

    with caplog.at_level(logging.WARNING), pytest.raises(LedgerError, match=r"no way; .*30 s, then: no other way"):
        ledger.store.write(fail)
    assert sum(waits) == pytest.approx(30)
    assert max(waits) == 4
    assert "trying again for up to 30 s" in caplog.text
    assert "\x1b" not in caplog.text


def test_a_server_that_takes_long_to_say_nothing_is_not_asked_by_everything_that_a_run_has_to_write(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = [0.0], list[float]()

    def reconnect(_connection: Connection) -> None:
        asked.append(now[0])
        now[0] += 16
        raise ConnectionFailed("no answer within 16 s")

    def fail(_again: bool) -> None:
        raise DatabaseError("no answer", lost=True)

    assert ledger.store.retries
    ledger.store.retries.patience = Patience(30, now=lambda: now[0], sleep=lambda _: None)
    monkeypatch.setattr(Connection, "reconnect", reconnect)
    with pytest.raises(LedgerError, match="tried again for 30 s"):
        ledger.store.write(fail)
    asked.clear()
    for _ in range(10):
        with pytest.raises(LedgerError, match="no answer within 16 s"):
            ledger.store.write(fail)
    assert len(asked) == 1
    now[0] += 16
    with pytest.raises(LedgerError):
        ledger.store.write(fail)
    with pytest.raises(LedgerError):
        ledger.lease.release()
    assert len(asked) == 3, "the lease is worth another look"
    monkeypatch.undo()
    ledger.lease.release()


def test_a_statement_that_is_refused_is_not_waited_for_as_long(ledger: Ledger) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    assert ledger.store.retries
    ledger.store.retries.patience = Patience(30, now=lambda: now[0], sleep=sleep)
    with pytest.raises(LedgerError, match="does not exist"):
        ledger.store.write(lambda _again: ledger.store.db.execute(Statement("SELECT 1 FROM nowhere", ())))
    assert now[0] == pytest.approx(4)


def test_the_wait_for_a_ledger_is_a_key_of_the_spec(project: Project) -> None:
    from engine.sync.spec.load import load

    project.spec["ledger"] = {"wait": "2m"}
    project.spec["timeouts"] = {"query": "1h"}
    project.users(1)
    project.entity()
    pipeline = load(project.write()).pipeline
    assert pipeline.ledger.wait == 120
    assert pipeline.timeouts == Timeouts(connect=15, query=3600)
    project.spec["timeouts"] = {"query": "0s"}
    assert project.cli("validate", project.write()).returncode == 2


# Connections that are kept


class Counting:
    """Opens connections to a ledger, and counts; `refuse` has it say why it does not."""

    def __init__(self, text: str) -> None:
        self.text, self.opened, self.refuse = text, list[Connection](), ""

    def __call__(self) -> Connection:
        if self.refuse:
            raise ConnectionFailed(self.refuse)
        self.opened.append(open_ledger("log", self.text, ROOT, create=True))
        self.opened[-1].again = self
        return self.opened[-1]


def test_heartbeats_use_one_connection_and_another_only_after_it_is_lost(ledger: Ledger) -> None:
    connect = Counting(string_of(ledger))
    lease = ledger.lease.mine
    lease.seconds = 0.9
    seen: set[float] = set()

    def renewed(times: int) -> bool:
        seen.add(lease._renewed)
        return len(seen) > times

    with Heartbeat(lease, connect, ledger.store.names):
        until(lambda: renewed(3))
        assert len(connect.opened) == 1
        kill_sessions(connect.text)
        seen.clear()
        until(lambda: renewed(3))
        assert len(connect.opened) == 2


def test_a_lost_lease_is_told_with_what_the_last_heartbeat_met(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    connect = Counting(string_of(ledger))
    connect.refuse = "too many clients already"
    lease = ledger.lease.mine
    lease.seconds = 0.3
    with caplog.at_level(logging.WARNING), Heartbeat(lease, connect, ledger.store.names):
        until(lambda: lease.trouble)
    assert "cannot be renewed (too many clients already)" in caplog.text
    execute(connect.text, "UPDATE TB_R_SYNC_LEASE SET Token = Token + 1, RunId = 'another'")
    with pytest.raises(LedgerError, match=r"lease .* is lost: .*last heartbeat failed: too many clients already"):
        ledger.check()


def test_a_worker_looks_at_the_ledger_on_one_connection(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LOOK_SECONDS", 0.01)
    connect = Counting(string_of(ledger))
    run = replace(RunContext.start(), id=ledger.store.run)
    ledger.row.started()
    part = Part("spec", "digest", run.id, run.started, None, 1, "Users", 0, 1, WHOLE)
    report = EntityReport("Users")
    with process._Watch(part, ledger, connect, run, report):
        for read in range(1, 6):
            report.counts.due = read
            until(lambda read=read: [json.loads(text)["due"] for text in ledger.row.part_counts("Users")] == [read])
    assert len(connect.opened) == 1


# Rights


def limited(server: str, text: str, table: str, right: str) -> str:
    """The string of a new user who has every right on the ledger's tables but one."""
    user = f"u{uuid.uuid4().hex[:10]}"
    if server == "postgresql":
        fill(
            text,
            f"CREATE ROLE {user} LOGIN",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {user}",
            f"REVOKE {right} ON {table} FROM {user}",
        )
        return text.replace("UID=postgres", f"UID={user}")
    fill(text, f"CREATE USER {user}@'127.0.0.1'", f"CREATE USER {user}@localhost")
    for (name,) in execute(text, "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"):
        rights = [each for each in ("SELECT", "INSERT", "UPDATE", "DELETE") if name != table or each != right]
        for host in ("127.0.0.1", "localhost"):
            fill(text, f"GRANT {', '.join(rights)} ON {name} TO {user}@'{host}'")
    return text.replace("UID=root", f"UID={user}")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("table", "right"),
    [("TB_R_SYNC_CONTENT", "DELETE"), ("TB_R_SYNC_BATCH", "UPDATE"), ("SchedulerLog", "INSERT")],
)
def test_a_right_that_is_missing_is_named_before_anything_is_sent(
    project: Project, api: FaultAPI, database: Callable[[str], str], server: str, table: str, right: str
) -> None:
    text = project.spec["connections"]["log"] = database(server)
    project.users(2)
    project.entity(resend="changed")
    project.run()
    project.spec["connections"]["log"] = limited(server, text, table, right)
    sent = len(api.of("/users"))
    report = project.run(code=4)
    assert f"{right} on {table}" in report["error"]
    assert report["entities"] == []
    assert len(api.of("/users")) == sent
    checked = project.cli("validate", project.file, "--connect")
    assert checked.returncode == 4
    assert f"{right} on {table}" in checked.stdout


def test_the_log_needs_no_more_than_an_insert(project: Project, api: FaultAPI, database: Callable[[str], str]) -> None:
    text = project.spec["connections"]["log"] = database("postgresql")
    project.users(2)
    project.entity()
    project.run()
    project.spec["connections"]["log"] = limited("postgresql", text, "SchedulerLog", "UPDATE, DELETE")
    project.run()


def test_a_ledger_that_others_may_read_is_a_warning(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity()
    project.run()
    assert "chmod" not in project.cli("validate", project.file, "--connect").stdout
    (project.folder / "log.db").chmod(0o644)
    checked = project.cli("validate", project.file, "--connect")
    assert checked.returncode == 0
    assert "warning: the ledger" in checked.stdout
    assert "chmod 600" in checked.stdout
