"""A ledger that fails after the API has accepted: written again on a new connection, and the journal tells the truth."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyodbc
import pytest

from engine.db.connection import Connection
from engine.db.drivers import sqlite
from engine.db.statement import Statement
from engine.errors import LedgerError
from engine.sync.ledger.ledger import Ledger
from engine.sync.model import Attempt, Batch, Outcome, Rejection
from tests.builders import ledger_spec, open_ledger
from tests.crash.test_crash import Store
from tests.faultapi import Behaviour, FaultAPI, Handler, Request, answer, slow
from tests.ledgers import ledger_on
from tests.project import ROOT, Project, check_sums
from tests.scenario.test_parking import named

SPEC = ledger_spec()
DIALECTS = ["sqlite", "postgresql", "mysql"]


@pytest.fixture
def project(tmp_path: Path, api: FaultAPI) -> Project:
    return Project(tmp_path / "project", api.url)


def execute(text: str, sql: str) -> list[tuple[Any, ...]]:
    """SQL on a database, on a connection of its own."""
    connection = open_ledger("log", text, ROOT, create=True)
    try:
        return [tuple(row) for row in connection.execute(Statement(sql, ())).rows]
    finally:
        connection.close()


def tracked(text: str) -> list[int]:
    return sorted(int(row[0]) for row in execute(text, "SELECT EntityId FROM TB_R_SYNC_TRACKING"))


def states(text: str) -> Counter[str]:
    return Counter(row[0] for row in execute(text, "SELECT State FROM TB_R_SYNC_BATCH"))


def kill_sessions(text: str) -> None:
    """End every other session of this database, as a restart or a firewall would."""
    if "PostgreSQL" in text:
        execute(
            text,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        return
    sessions = execute(
        text,
        "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    )
    for (id_,) in sessions:
        with suppress(Exception):  # it may be gone by itself
            execute(text, f"KILL {id_}")


def meanwhile(act: Callable[[], None], then: Behaviour, *, at: int = 1) -> Behaviour:
    """Accept every call, and do something during the one of this number before it is answered."""
    calls = iter(range(1, 10_000))
    lock = threading.Lock()

    def behave(handler: Handler, request: Request) -> None:
        with lock:
            number = next(calls)
        if number == at:
            act()
        then(handler, request)

    return behave


def exactly_once(store: Store, count: int) -> None:
    assert store.stored == Counter(range(1, count + 1))


# A run whose ledger fails between the POST and the settling


@pytest.mark.parametrize("ledger", ["postgresql", "mysql"])
@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("at", [1, 3])
def test_a_session_that_is_ended_during_a_call_is_replaced_and_everything_arrives_once(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str, in_flight: int, at: int
) -> None:
    text = project.spec["connections"]["log"] = database(ledger)
    project.spec["api"]["in_flight"] = in_flight
    project.users(12)
    project.users(2, table="Orgs")
    project.entity(batch_size=2)
    project.entity("Orgs")
    store = Store(keyed=False)
    api.script("/users", meanwhile(lambda: kill_sessions(text), store.behaviour(), at=at))
    report = project.run()
    check_sums(report)
    exactly_once(store, 12)
    assert tracked(text) == sorted([*range(1, 13), 1, 2])
    assert states(text) == Counter(settled=7)
    calls = execute(text, "SELECT COUNT(*) FROM SchedulerLog WHERE Activity LIKE 'Sync Batch:%'")
    assert calls == [(7,)] == [(sum(entity["calls"] for entity in report["entities"]),)]


@pytest.mark.parametrize("ledger", ["postgresql", "mysql"])
def test_a_session_that_is_ended_while_the_next_page_is_looked_up_is_replaced_too(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str
) -> None:
    text = project.spec["connections"]["log"] = database(ledger)
    project.users(400)
    project.entity(batch_size=100, page_size=1)
    store = Store(keyed=False)
    api.script("/users", meanwhile(lambda: kill_sessions(text), store.behaviour()))
    report = project.run()
    check_sums(report)
    exactly_once(store, 400)


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_a_deadlock_when_a_batch_is_settled_is_tried_again(
    project: Project, api: FaultAPI, database: Callable[[str], str], dialect: str
) -> None:
    text = project.spec["connections"]["log"] = database(dialect)
    project.users(4)
    project.entity(batch_size=4)
    locked, over = threading.Event(), threading.Event()
    outcomes: list[str] = []

    def rival() -> None:
        """Locks the batch, then wants the lease that the settling run has locked."""
        with closing(pyodbc.connect(text, autocommit=False)) as other:
            cursor = other.cursor()
            if dialect == "postgresql":
                # Who has waited for this long looks for deadlocks, and is the victim of the one that it finds.
                cursor.execute("SET deadlock_timeout = '30s'")
            # The heavier transaction survives in MariaDB, so this one writes a lot.
            cursor.execute("CREATE TABLE Heavy (N INTEGER)")
            other.commit()
            for _ in range(3):
                cursor.execute("INSERT INTO Heavy VALUES " + ", ".join(["(1)"] * 1000))
            cursor.execute("UPDATE TB_R_SYNC_BATCH SET Attempts = Attempts")
            locked.set()
            time.sleep(0.6)
            try:
                cursor.execute("UPDATE TB_R_SYNC_LEASE SET Pid = Pid")
                outcomes.append("survived")
            except pyodbc.Error as failure:
                outcomes.append(str(failure))
            other.rollback()
            over.set()

    def begin() -> None:
        threading.Thread(target=rival, daemon=True).start()
        assert locked.wait(20)

    store = Store(keyed=False)
    api.script("/users", meanwhile(begin, store.behaviour()))
    report = project.run()
    assert over.wait(20)
    assert outcomes == ["survived"], "the run was not the victim: this test shows nothing"
    check_sums(report)
    exactly_once(store, 4)
    assert tracked(text) == [1, 2, 3, 4]
    assert states(text) == Counter(settled=1)
    assert execute(text, "SELECT COUNT(*) FROM SchedulerLog") == [(1,)]


LOCKER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("ROLLBACK")
"""


@pytest.fixture
def lock() -> Iterator[Callable[[Path, float], None]]:
    """`lock(file, seconds)`: another process has the SQLite file for so long."""
    started: list[subprocess.Popen[str]] = []

    def make(file: Path, seconds: float) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", LOCKER, str(file), str(seconds)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"

    yield make
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("patience", [10.0, 0.3], ids=["within the busy time", "longer than the busy time"])
def test_a_file_that_another_process_locks_for_seconds_is_waited_for(
    project: Project,
    api: FaultAPI,
    lock: Callable[[Path, float], None],
    monkeypatch: pytest.MonkeyPatch,
    in_flight: int,
    patience: float,
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", patience)
    file = project.folder / "log.db"
    project.spec["api"]["in_flight"] = in_flight
    project.users(12)
    project.entity(batch_size=3)
    store = Store(keyed=False)
    api.script("/users", meanwhile(lambda: lock(file, 2.5), store.behaviour(), at=2))
    report = project.run()
    check_sums(report)
    exactly_once(store, 12)
    assert sorted(map(int, project.tracked())) == list(range(1, 13))
    assert len(project.log_rows()) == 4


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_ledger_that_stays_away_ends_the_run_with_4_and_a_later_run_delivers_exactly_once(
    project: Project,
    api: FaultAPI,
    database: Callable[[str], str],
    away: Callable[[str, bool], None],
    monkeypatch: pytest.MonkeyPatch,
    in_flight: int,
) -> None:
    text = project.spec["connections"]["log"] = database("postgresql")
    project.spec["api"]["in_flight"] = in_flight
    project.spec["ledger"] = {"wait": "3s"}
    project.users(12)
    project.users(2, table="Orgs")
    project.entity(batch_size=2)
    project.entity("Orgs")
    store = Store(keyed=True)
    api.script("/users", meanwhile(lambda: away(text, True), store.behaviour(), at=2))
    project.write()
    # A process of its own: what it holds of the lease goes with it.
    stopped = project.cli("run", project.file, "--format", "json", process=True)
    assert stopped.returncode == 4, stopped.stderr
    assert "the ledger does not answer (" in stopped.stderr
    assert "trying again for up to 3 s" in stopped.stderr
    report = json.loads(stopped.stdout)
    away(text, False)
    users, orgs = report["entities"]
    assert report["status"] == "error"
    assert users["error"]
    assert "cannot be" in users["error"]
    check_sums(report)
    assert users["accepted"] == len(tracked(text)), "accepted is what is tracked"
    assert "not run" in orgs["error"]
    calls = len(api.of("/users"))
    assert calls - len(tracked(text)) // 2 <= in_flight, "no call goes out beside as many as are not settled"
    open_ids = {
        int(id_)
        for (ids,) in execute(text, "SELECT RecordIds FROM TB_R_SYNC_BATCH WHERE State IN ('in_flight', 'in_doubt')")
        for id_ in json.loads(ids)
    }
    assert set(store.stored) <= open_ids | set(tracked(text)), "the journal names all that may have arrived"
    again = project.run()
    check_sums(again)
    exactly_once(store, 12)
    assert tracked(text) == sorted([*range(1, 13), 1, 2])


def test_a_ledger_that_is_away_for_two_seconds_costs_nothing(
    project: Project, api: FaultAPI, database: Callable[[str], str], away: Callable[[str, bool], None]
) -> None:
    text = project.spec["connections"]["log"] = database("postgresql")
    project.users(6)
    project.entity(batch_size=2)

    def leave() -> None:
        away(text, True)
        threading.Timer(1.5, away, [text, False]).start()

    store = Store(keyed=False)
    api.script("/users", meanwhile(leave, store.behaviour()))
    report = project.run()
    check_sums(report)
    exactly_once(store, 6)
    assert tracked(text) == list(range(1, 7))
    assert execute(text, "SELECT COUNT(*) FROM SchedulerLog") == [(3,)]


# A log row that cannot be written

NO_LOG = "CREATE TRIGGER no_log BEFORE INSERT ON SchedulerLog BEGIN SELECT RAISE(ABORT, 'no room for a log row'); END"


@pytest.mark.parametrize("in_flight", [1, 4])
def test_a_log_row_that_cannot_be_written_loses_no_tracking_row(
    project: Project, api: FaultAPI, in_flight: int
) -> None:
    text = f"sqlite:///{project.folder / 'log.db'}"
    project.spec["api"]["in_flight"] = in_flight
    project.users(12)
    project.entity(batch_size=2)
    project.run("--limit", "1")
    execute(text, NO_LOG)
    store = Store(keyed=False)
    api.script("/users", store.behaviour())
    report = project.run(code=4)
    check_sums(report)
    users = named(report)["Users"]
    assert "no room for a log row" in users["error"]
    assert store.stored, "something was sent"
    assert set(store.stored) <= set(tracked(text)), "what the API has accepted is tracked"
    assert users["accepted"] == len(store.stored)
    execute(text, "DROP TRIGGER no_log")
    project.run()
    assert store.stored == Counter(range(2, 13))


def test_a_log_row_that_cannot_be_written_loses_no_tracking_row_of_an_earlier_batch_either(
    project: Project, api: FaultAPI
) -> None:
    text = f"sqlite:///{project.folder / 'log.db'}"
    project.spec["api"]["retry"]["attempts"] = 1
    project.users(2)
    project.entity()
    api.script("/users", answer(500), slow(0.3))
    project.run(code=1)
    execute(text, NO_LOG)
    report = project.run(code=4)
    check_sums(report)
    assert len(api.of("/users")) == 2
    assert tracked(text) == [1, 2], "the API has accepted it"


# A commit whose acknowledgement is lost


class Losing:
    """A raw connection that does what it is told and then says that it failed, where `armed`."""

    def __init__(self, raw: Any, error: type[Exception]) -> None:
        self.__dict__.update(raw=raw, error=error, armed=False, lost=0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self.raw, name, value)

    def commit(self) -> None:
        self.raw.commit()
        self.lose()

    def cursor(self) -> Any:
        return LosingCursor(self, self.raw.cursor())

    def lose(self) -> None:
        if self.armed:
            self.armed = False
            self.lost += 1
            raise self.error("08S01", "the connection was lost before the answer came")


class LosingCursor:
    def __init__(self, connection: Losing, cursor: Any) -> None:
        self.connection, self.cursor = connection, cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cursor, name)

    def execute(self, text: str, parameters: Any) -> None:
        self.cursor.execute(text, parameters)
        if text.startswith("INSERT INTO") and self.connection.raw.autocommit:
            self.connection.lose()


class LosingSqlite(sqlite3.Connection):
    armed = False
    lost = 0

    def commit(self) -> None:
        super().commit()
        self.lose()

    def cursor(self, *_: Any) -> Any:
        outer = self

        class Cursor(sqlite3.Cursor):
            def execute(self, text: str, parameters: Any = ()) -> Any:
                made = super().execute(text, parameters)
                if text.startswith("INSERT INTO") and not outer.in_transaction:
                    outer.lose()
                return made

        return super().cursor(Cursor)

    def lose(self) -> None:
        if self.armed:
            self.armed = False
            self.lost += 1
            raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture(params=DIALECTS)
def text(request: pytest.FixtureRequest, database: Callable[[str], str]) -> str:
    return database(request.param)


@pytest.fixture
def ledger(text: str) -> Iterator[Ledger]:
    """A ledger whose first connection may lose an acknowledgement."""

    def opened() -> Connection:
        return open_ledger("log", text, ROOT, create=True)

    db = opened()
    if isinstance(db.driver.raw, sqlite3.Connection):
        db.driver.raw.close()
        db.driver.raw = sqlite3.connect(text.removeprefix("sqlite:///"), isolation_level=None, factory=LosingSqlite)
    else:
        db.driver.raw = Losing(db.driver.raw, pyodbc.OperationalError)
    made = ledger_on(db, SPEC, "sync", str(uuid.uuid4()))
    made.prepare()
    made.lease.acquire(60)
    yield made
    made.store.db.close()


def batch(*ids: str) -> Batch:
    payload = json.dumps([{"Id": id_} for id_ in ids], separators=(",", ":")).encode()
    return Batch(str(uuid.uuid4()), "Users", str(uuid.uuid4()), ids, payload)


def lose_next(ledger: Ledger) -> Any:
    """The next acknowledgement is lost; gives the raw connection, which counts."""
    raw = ledger.store.db.driver.raw
    raw.armed = True
    return raw


def test_an_intention_whose_acknowledgement_is_lost_stands_once(text: str, ledger: Ledger) -> None:
    made = batch("1", "2")
    raw = lose_next(ledger)
    assert ledger.batches.intend(made) is made
    assert raw.lost == 1
    assert ledger.store.db.driver.raw is not raw, "written on a new connection"
    assert execute(text, "SELECT BatchId, State FROM TB_R_SYNC_BATCH") == [(made.id, "in_flight")]


def test_a_settling_whose_acknowledgement_is_lost_is_done_once(text: str, ledger: Ledger) -> None:
    made = ledger.batches.intend(batch("1", "2", "3"))
    raw = lose_next(ledger)
    ledger.batches.settle(
        Outcome(made, ("1", "2"), (Rejection("3", "bad", 422),), answered=True, attempts=1, status=200)
    )
    assert raw.lost == 1
    assert tracked(text) == [1, 2]
    assert execute(text, "SELECT EntityId, Attempts FROM TB_R_SYNC_REJECT") == [("3", 1)]
    assert execute(text, "SELECT State, Attempts FROM TB_R_SYNC_BATCH") == [("settled", 1)]


@pytest.mark.parametrize("kind", ["failed", "in_doubt", "unknown"])
def test_a_settling_of_any_kind_whose_acknowledgement_is_lost_is_done_once(
    text: str, ledger: Ledger, kind: str
) -> None:
    made = ledger.batches.intend(batch("1", "2"))
    raw = lose_next(ledger)
    if kind == "unknown":
        outcome = Outcome(made, ("1",), in_doubt=("2",), answered=True, attempts=1, status=200)
    elif kind == "failed":
        outcome = Outcome(made, failed=made.ids, reason="no", attempts=1, status=503)
    else:
        outcome = Outcome(made, in_doubt=made.ids, reason="no", attempts=1, status=500)
    ledger.batches.settle(outcome)
    assert raw.lost == 1
    wanted = {"failed": ["failed"], "in_doubt": ["in_doubt"], "unknown": ["in_doubt", "settled"]}[kind]
    assert sorted(states(text).elements()) == wanted
    assert tracked(text) == ([1] if kind == "unknown" else [])


def test_a_log_row_whose_acknowledgement_is_lost_stands_once(text: str, ledger: Ledger) -> None:
    made = ledger.batches.intend(batch("1"))
    raw = lose_next(ledger)
    ledger.batches.attempt(Attempt(made, 1, "http://h/users", 200, 0.1, None, datetime.now(UTC)))
    assert raw.lost == 1
    assert execute(text, "SELECT COUNT(*) FROM SchedulerLog") == [(1,)]


def test_a_parking_and_an_adoption_whose_acknowledgement_is_lost_stand_once(text: str, ledger: Ledger) -> None:
    raw = lose_next(ledger)
    park = ledger.park("http://h/users", 60.0, "asked")
    assert park is not None
    assert park.endpoint == "http://h/users"
    assert raw.lost == 1
    assert execute(text, "SELECT COUNT(*) FROM TB_R_SYNC_PARK") == [(1,)]
    ledger.records.adopt("Users", {"1": "a"})
    ledger.records.adopt("Users", {"1": "b"})
    assert execute(text, "SELECT EntityId, ContentHash FROM TB_R_SYNC_CONTENT") == [("1", "b")]


def test_refusals_before_sending_whose_acknowledgement_is_lost_count_once(text: str, ledger: Ledger) -> None:
    raw = lose_next(ledger)
    ledger.records.reject("Users", [Rejection("1", "field 'Name': is NULL")])
    assert raw.lost == 1
    assert execute(text, "SELECT EntityId, Attempts FROM TB_R_SYNC_REJECT") == [("1", 1)]


def test_a_batch_that_somebody_else_settled_is_not_taken_for_our_own_commit(text: str, ledger: Ledger) -> None:
    made = ledger.batches.intend(batch("1"))
    execute(text, f"UPDATE TB_R_SYNC_BATCH SET State = 'settled' WHERE BatchId = '{made.id}'")
    with pytest.raises(LedgerError, match="somebody else has settled it"):
        ledger.batches.settle(Outcome(made, ("1",), answered=True, attempts=1, status=200))
    assert tracked(text) == []


def test_a_lost_lease_is_not_won_back_by_trying_again(text: str, ledger: Ledger) -> None:
    made = ledger.batches.intend(batch("1"))
    execute(text, "UPDATE TB_R_SYNC_LEASE SET Token = Token + 1, RunId = 'another'")
    raw = lose_next(ledger)
    with pytest.raises(LedgerError, match="lease of this run is lost"):
        ledger.batches.settle(Outcome(made, ("1",), answered=True, attempts=1, status=200))
    assert raw.lost == 0
    assert tracked(text) == []
    assert states(text) == Counter(in_flight=1)


def test_a_connection_that_is_closed_under_the_ledger_is_replaced(text: str, ledger: Ledger) -> None:
    made = ledger.batches.intend(batch("1"))
    ledger.store.db.driver.raw.close()
    ledger.batches.attempt(Attempt(made, 1, "http://h/users", 200, 0.1, None, datetime.now(UTC)))
    ledger.store.db.driver.raw.close()
    ledger.batches.settle(Outcome(made, ("1",), answered=True, attempts=1, status=200))
    assert tracked(text) == [1]
    assert execute(text, "SELECT COUNT(*) FROM SchedulerLog") == [(1,)]


@pytest.mark.parametrize("ledger", ["postgresql", "mysql"])
def test_a_session_that_is_lost_inside_a_transaction_is_not_replaced_there(
    database: Callable[[str], str], ledger: str
) -> None:
    """A question in the middle of a settlement must not go on in a new session: what was written before it would be lost."""
    text = database(ledger)
    made = ledger_on(open_ledger("log", text, ROOT, create=True), SPEC, "sync", str(uuid.uuid4()))
    made.prepare()

    def settle() -> None:
        with made.store.db.transaction():
            made.store.db.run("ledger/track.sql.j2", **made.store.names, entity="Users", ids='["1"]', folds=False)
            kill_sessions(text)
            made.history.knows(["Users"])

    with pytest.raises(LedgerError):
        settle()
    assert not made.history.knows(["Users"]), "outside of a transaction a new session is begun"
    made.store.db.close()
