"""What every driver does behind its protocol, on real servers: stream, cancel from another thread, sessions, messages, transactions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from engine.db.connection import Connection
from engine.db.drivers.mssql import MssqlPython
from engine.db.drivers.results import Results
from engine.db.sessions import Session
from engine.db.statement import Statement
from engine.errors import DatabaseError
from tests.builders import open_ledger
from tests.project import ROOT

DATABASES = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.odbc),
    pytest.param("mysql", marks=pytest.mark.odbc),
]
SERVERS = DATABASES[1:]
MINUTES = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000000) SELECT COUNT(*) FROM n",
    "postgresql": "SELECT pg_sleep(300)",
    "mysql": "SELECT SLEEP(300)",
}
"""A statement that takes minutes."""
NUMBERS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {0}) SELECT i FROM n",
    "postgresql": "SELECT i FROM generate_series(1, {0}) AS n(i)",
    "mysql": "SELECT seq AS i FROM seq_1_to_{0}",
}
SAYS = {
    "postgresql": (
        "CREATE PROCEDURE says() LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'half way'; END $$",
        "CALL says()",
        "half way",
    ),
}


@pytest.fixture
def opened(request: pytest.FixtureRequest, database: Callable[[str], str]) -> Iterator[Callable[[], Connection]]:
    """Opens connections to one database of the kind that the test asks for."""
    text = database(request.param)
    made: list[Connection] = []

    def connect() -> Connection:
        made.append(open_ledger("log", text, ROOT, create=True))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


def ask(db: Connection, text: str, *values: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in db.execute(Statement(text, values)).rows]


def after(seconds: float, work: Callable[[], object]) -> threading.Timer:
    """Do something in another thread, after a while."""
    timer = threading.Timer(seconds, work)
    timer.start()
    return timer


@pytest.mark.parametrize("opened", DATABASES, indirect=True)
def test_a_statement_of_minutes_is_cancelled_from_another_thread_and_the_connection_lives(
    opened: Callable[[], Connection],
) -> None:
    db = opened()
    told: list[bool] = []
    timer = after(0.5, lambda: told.append(db.cancel()))
    began = time.monotonic()
    lost = None
    try:
        ask(db, MINUTES[db.dialect.name])  # MariaDB's SLEEP gives 1 when it is interrupted
    except DatabaseError as failure:
        lost = failure.lost
    seconds = time.monotonic() - began
    timer.join()
    assert (told, bool(lost)) == ([True], False)
    assert seconds < 30, "not to its end"
    assert ask(db, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("opened", DATABASES, indirect=True)
def test_what_a_cancelled_statement_had_done_is_rolled_back(opened: Callable[[], Connection]) -> None:
    db = opened()
    ask(db, "CREATE TABLE T (Id INTEGER PRIMARY KEY)")
    timer = after(0.5, db.cancel)

    class Undo(Exception):
        pass

    with pytest.raises((DatabaseError, Undo)), db.transaction():  # noqa: PT012
        ask(db, "INSERT INTO T VALUES (1)")
        ask(db, MINUTES[db.dialect.name])
        raise Undo
    timer.join()
    assert ask(db, "SELECT COUNT(*) FROM T") == [(0,)]


@pytest.mark.parametrize("opened", DATABASES, indirect=True)
def test_a_cancel_while_nothing_runs_harms_nothing(opened: Callable[[], Connection]) -> None:
    db = opened()
    ask(db, "SELECT 1")
    db.cancel()
    assert ask(db, "SELECT 2") == [(2,)]


def test_a_driver_that_hangs_in_its_cancel_holds_nobody_for_long(database: Callable[[str], str]) -> None:
    db = open_ledger("log", database("sqlite"), ROOT, create=True)
    forever = threading.Event()
    plain = db.driver
    db.driver = type("Hangs", (), {"cancel": lambda _self: forever.wait()})()
    began = time.monotonic()
    assert db.cancel(0.2) is False
    assert time.monotonic() - began < 30
    forever.set()
    db.driver = plain
    db.close()


def test_mssql_python_says_that_it_cannot_cancel() -> None:
    assert MssqlPython(object(), (Exception,)).cancel() is False


@pytest.mark.parametrize("opened", SERVERS, indirect=True)
def test_a_session_is_named_found_and_ended_from_another_connection(opened: Callable[[], Connection]) -> None:
    db, other = opened(), opened()
    session = db.session()
    assert session is not None
    assert session != other.session()
    assert str(session.number) in str(session)
    assert other.is_alive(session)
    timer = after(0.5, lambda: other.end_session(session))
    with pytest.raises(DatabaseError) as failure:
        ask(db, MINUTES[db.dialect.name])
    timer.join()
    assert failure.value.lost
    until(lambda: not other.is_alive(session))
    other.end_session(session)  # it is gone, and that is what was wanted
    db.reconnect()
    assert ask(db, "SELECT 1") == [(1,)]
    assert db.session() != session


@pytest.mark.odbc
def test_the_number_of_another_session_that_began_later_is_not_that_session(database: Callable[[str], str]) -> None:
    db = open_ledger("log", database("postgresql"), ROOT, create=True)
    session = db.session()
    assert session is not None
    earlier = Session(session.number, "2001-01-01 00:00:00.000000")
    assert not db.is_alive(earlier)
    db.end_session(earlier)
    assert ask(db, "SELECT 1") == [(1,)]
    db.close()


def test_sqlite_has_no_sessions(database: Callable[[str], str]) -> None:
    db = open_ledger("log", database("sqlite"), ROOT, create=True)
    assert db.session() is None
    with pytest.raises(DatabaseError, match="SQLite has no sessions, and so not session 7 since 2026-01-01"):
        db.is_alive(Session(7, "2026-01-01"))
    db.close()


def test_a_start_that_is_no_time_never_reaches_the_statement() -> None:
    with pytest.raises(ValueError, match="is not the start of a session"):
        Session(7, "2026-01-01' OR 1 = 1 --").statement("... '{start}'")


@pytest.mark.parametrize("opened", DATABASES, indirect=True)
def test_rows_are_streamed_and_the_connection_is_free_afterwards(opened: Callable[[], Connection]) -> None:
    db = opened()
    with db.stream(Statement(NUMBERS[db.dialect.name].format(2500), ()), 1000) as (columns, blocks):
        sizes, total = [], 0
        for rows in blocks:
            sizes.append(len(rows))
            total += sum(row[0] for row in rows)
    assert (list(columns), sizes, total) == (["i"], [1000, 1000, 500], 2500 * 2501 // 2)
    with db.stream(Statement(NUMBERS[db.dialect.name].format(2500), ()), 10) as (_, blocks):
        assert len(next(blocks)) == 10
    assert ask(db, "SELECT 1") == [(1,)], "a stream that is left early gives its cursor back"


@pytest.mark.parametrize("opened", DATABASES, indirect=True)
def test_a_failing_query_of_a_stream_is_a_database_error(opened: Callable[[], Connection]) -> None:
    with pytest.raises(DatabaseError, match=r"(?i)nowhere"), opened().stream(Statement("SELECT * FROM nowhere", ())):
        pass


@pytest.mark.parametrize("opened", ["postgresql"], indirect=True)
@pytest.mark.odbc
def test_what_the_server_says_meanwhile_is_heard(opened: Callable[[], Connection]) -> None:
    db = opened()
    create, call, said = SAYS[db.dialect.name]
    ask(db, create)
    assert [text for text in db.execute(Statement(call, ())).messages if said in text]
    assert db.execute(Statement("SELECT 1", ())).messages == ()


def test_messages_come_from_every_result_and_name_no_driver() -> None:
    class Cursor:
        rowcount, description = -1, None

        def __init__(self) -> None:
            self.messages = [("[01000]", "[FreeTDS][SQL Server]first")]
            self.more = [
                [("[01000] (50000)", "[Microsoft][ODBC Driver 18 for SQL Server][SQL Server]begun")],
                [("", "ended")],
            ]

        def nextset(self) -> bool:
            self.messages = self.more.pop(0) if self.more else []
            return bool(self.messages)

    found = Results(Cursor())
    assert found.rows() == []
    assert found.messages == ["first", "begun", "ended"]


@pytest.mark.parametrize("opened", DATABASES, indirect=True)
def test_a_time_and_a_long_text_come_back_as_they_went(opened: Callable[[], Connection]) -> None:
    db = opened()
    kinds = dict(db.dialect.types)
    ask(db, f"CREATE TABLE T (Id INTEGER PRIMARY KEY, Text {kinds['long']}, Moment {kinds['moment']})")
    moment, text = datetime(2026, 11, 24, 1, 2, 3, 456789), "名前😀" * 500
    ask(db, "INSERT INTO T VALUES (?, ?, ?)", 1, text, moment)
    ((found, when),) = ask(db, "SELECT Text, Moment FROM T")
    assert found == text
    assert datetime.fromisoformat(str(when)) == moment


@pytest.mark.parametrize("opened", DATABASES, indirect=True)
def test_a_transaction_is_all_or_nothing_and_ends_with_statements_that_commit(opened: Callable[[], Connection]) -> None:
    db, other = opened(), opened()
    ask(db, "CREATE TABLE T (Id INTEGER PRIMARY KEY)")
    with pytest.raises(DatabaseError), db.transaction():  # noqa: PT012
        ask(db, "INSERT INTO T VALUES (1)")
        ask(db, "INSERT INTO T VALUES (1)")
    assert ask(other, "SELECT COUNT(*) FROM T") == [(0,)]
    with db.transaction():
        ask(db, "INSERT INTO T VALUES (2)")
        assert ask(other, "SELECT COUNT(*) FROM T") == [(0,)], "nobody sees it before the commit"
    ask(db, "INSERT INTO T VALUES (3)")
    assert ask(other, "SELECT Id FROM T ORDER BY Id") == [(2,), (3,)]


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)
