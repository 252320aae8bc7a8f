"""A read whose connection is lost is made again on a new one; any other failure is the answer."""

from __future__ import annotations

from typing import Any

import pytest

from engine.context import RunContext
from engine.db.connection import Rows
from engine.db.statement import Statement
from engine.errors import DatabaseError
from engine.sync.read import reopen


class Failing:
    """A connection whose statements fail, one after the other, and which counts its sessions."""

    def __init__(self, *failures: DatabaseError) -> None:
        self.failures, self.calls, self.sessions = list(failures), 0, 1

    def execute(self, _statement: Statement) -> Rows:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return Rows(("Id",), [(1,)], 1)

    def reconnect(self) -> None:
        self.sessions += 1


def read(connection: Any, run: RunContext | None = None) -> Rows:
    return reopen.execute(connection, Statement("SELECT 1", ()), "Users", run or RunContext.start())


def lost() -> DatabaseError:
    return DatabaseError("gone away", lost=True)


def test_a_lost_connection_is_replaced() -> None:
    connection = Failing(lost())
    assert read(connection).rows == [(1,)]
    assert (connection.calls, connection.sessions) == (2, 2)


def test_another_failure_is_raised_at_once() -> None:
    connection = Failing(DatabaseError("syntax error"), lost())
    with pytest.raises(DatabaseError, match=r"^syntax error$"):
        read(connection)
    assert (connection.calls, connection.sessions) == (1, 1)


def test_another_failure_on_the_new_connection_ends_it_too() -> None:
    connection = Failing(lost(), DatabaseError("syntax error"), lost())
    with pytest.raises(DatabaseError, match=r"^gone away, then: syntax error$"):
        read(connection)
    assert (connection.calls, connection.sessions) == (2, 2)


def test_a_cancelled_run_asks_nobody_again() -> None:
    run, connection = RunContext.start(), Failing(lost())
    run.cancelled.set()
    with pytest.raises(DatabaseError, match=r"^gone away$"):
        read(connection, run)
    assert (connection.calls, connection.sessions) == (1, 1)


def test_the_last_words_stand_behind_the_first_where_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reopen, "_WAITS", (0.0, 0.0))
    with pytest.raises(DatabaseError, match=r"^gone away, then: still away$"):
        read(Failing(lost(), lost(), DatabaseError("still away", lost=True)))
