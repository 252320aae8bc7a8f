"""A DB-API connection with its dialect; errors carry the database's own message."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from engine import failpoint
from engine.db.dialect import Dialect
from engine.db.drivers.driver import Driver
from engine.db.drivers.results import Results
from engine.db.drivers.thread import DriverThread, Stalled, Unusable
from engine.db.sessions import Session
from engine.db.statement import Statement
from engine.db.templates import Templates
from engine.errors import DatabaseError

Result = TypeVar("Result")

_CLOSE_SECONDS = 5.0
_GRACE_SECONDS = 1.0
"""Extra time for the server to report that its own time limit has stopped a query."""


@dataclass(slots=True)
class Rows:
    """A result: the column names as the database reports them, and the rows."""

    columns: tuple[str, ...]
    rows: list[Any]
    rowcount: int
    messages: tuple[str, ...] = ()
    """Messages of the server: PRINT, RAISERROR, NOTICE."""

    def scalar(self) -> Any:
        """Return the first column of the first row."""
        return self.rows[0][0]

    def column(self) -> list[Any]:
        """Return the first column of every row."""
        return [row[0] for row in self.rows]

    def pairs(self) -> dict[Any, Any]:
        """Map the first column to the second, for rows of two columns."""
        return {key: value for key, value in self.rows}  # noqa: C416 - rows of a driver are no tuples


@dataclass(slots=True)
class Connection:
    """One open connection, used by one thread. Outside `transaction` every statement autocommits."""

    driver: Driver
    dialect: Dialect
    templates: Templates
    description: str = ""
    thread: DriverThread | None = None
    """Runs the driver's calls, each for at most `time_limit` seconds; None for SQLite, whose calls run in the caller's thread."""
    time_limit: float = 600.0
    again: Callable[[], Connection] | None = None
    """Opens a new connection like this one. Raises `ConnectionFailed`."""
    _in_transaction: bool = field(default=False, init=False)

    def execute(self, statement: Statement) -> Rows:
        """Run a statement and fetch all of its rows. Raises `DatabaseError` with the database's own message."""
        return self._call(lambda: self._execute(statement))

    def _execute(self, statement: Statement) -> Rows:
        found = self._begun(statement)
        try:
            return Rows(found.columns, found.rows(), found.rowcount, tuple(found.messages))
        finally:
            with suppress(*self.driver.errors):
                found.close()

    def _begun(self, statement: Statement) -> Results:
        return self.driver.execute(statement.text, [self.driver.bind(value) for value in statement.parameters])

    @contextmanager
    def stream(self, statement: Statement, size: int = 1000) -> Iterator[tuple[tuple[str, ...], Iterator[list[Any]]]]:
        """Run a query; yields its columns and an iterator over blocks of `size` rows.

        The connection must not be used for anything else meanwhile. Raises `DatabaseError`.
        """
        found = self._call(lambda: self._begun(statement))
        try:
            yield found.columns, self._blocks(found.blocks(size))
        finally:
            with suppress(DatabaseError):
                self._call(found.close)

    def _blocks(self, blocks: Iterator[list[Any]]) -> Iterator[list[Any]]:
        while (rows := self._call(lambda: next(blocks, None))) is not None:
            yield rows

    def cancel(self, seconds: float = 5.0) -> bool:
        """Ask the server to cancel the running statement; call it from another thread, which waits at most `seconds`.

        False if the driver cannot cancel or has not returned: the outcome is in doubt until the session is known to be gone.
        The transaction stays open, and may contain what the statement has done so far.
        """
        asked: list[bool] = []
        # The driver's call never returns if the server never acknowledges.
        thread = threading.Thread(target=lambda: asked.append(self.driver.cancel()), name="cancel", daemon=True)
        thread.start()
        thread.join(seconds)
        return bool(asked and asked[0])

    def session(self) -> Session | None:
        """Return this connection's session on the server; None for a database without sessions. Raises `DatabaseError`."""
        sessions = self.dialect.sessions
        return None if sessions is None else Session.of(self.execute(Statement(sessions.mine, ())).rows[0])

    def is_alive(self, session: Session) -> bool:
        """True while another session of this server exists. Raises `DatabaseError`."""
        return bool(self.execute(session.statement(self.dialect.told_of(session).alive)).rows)

    def end_session(self, session: Session) -> None:
        """End another session of this server, whatever it is doing. Raises `DatabaseError`, also if that is not allowed.

        A session that no longer exists counts as ended.
        """
        with suppress_gone(self, session):
            self.execute(session.statement(self.dialect.told_of(session).end))

    @contextmanager
    def lenient(self) -> Iterator[None]:
        """Return text that is not UTF-8 with surrogates instead of failing the statement."""
        self.driver.lenient(True)
        try:
            yield
        finally:
            self.driver.lenient(False)

    def limit_in_driver(self, seconds: int) -> None:
        """Have the driver itself stop every statement after `seconds`. Raises `DatabaseError`."""
        self._call(lambda: self.driver.limit(seconds))

    def run(self, template: str, /, **context: Any) -> Rows:
        """Render a named statement and execute it."""
        return self.execute(self.templates.statement(template, **context))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run a transaction: commit at the end, roll back on any exception. Raises `DatabaseError`."""
        self._begin()
        try:
            yield
            failpoint.reached("before commit")
            self._end("commit")
            failpoint.reached("after commit")
        except BaseException:
            with suppress(DatabaseError):
                self._end("rollback")
            raise

    @property
    def in_transaction(self) -> bool:
        """True inside `transaction`."""
        return self._in_transaction

    def close(self) -> None:
        """Close the connection; one that is already broken counts as closed."""
        with suppress(DatabaseError):
            self._call(self.driver.close, _CLOSE_SECONDS)
        if self.thread:
            self.thread.end()

    def reconnect(self) -> None:
        """Close this session and open a new one; never inside `transaction`. Raises `ConnectionFailed`."""
        assert not self._in_transaction, "what it holds would be lost in silence"  # noqa: S101
        assert self.again is not None, "every connection that was opened by its alias has it"  # noqa: S101
        self.close()
        fresh = self.again()
        self.driver, self.thread = fresh.driver, fresh.thread
        self._in_transaction = False

    def _call(self, work: Callable[[], Result], seconds: float | None = None) -> Result:
        """Run a call of the driver, for at most `seconds`. Raises `DatabaseError`."""
        try:
            return self.thread.call(work, seconds or self.time_limit + _GRACE_SECONDS) if self.thread else work()
        except self.driver.errors as failure:
            raise self.driver.error(failure, self.dialect.lost) from failure
        except Stalled as failure:
            raise DatabaseError(f"{failure}; the connection is given up (see `timeouts`)") from failure
        except Unusable as failure:
            raise DatabaseError(str(failure), lost=True) from failure
        except (UnicodeError, OverflowError, ValueError) as failure:
            raise DatabaseError(f"{type(failure).__name__}: {failure}") from failure

    def _begin(self) -> None:
        self._call(self.driver.begin)
        self._in_transaction = True

    def _end(self, how: Literal["commit", "rollback"]) -> None:
        if not self._in_transaction:
            return
        try:
            self._call(self.driver.commit if how == "commit" else self._rollback)
            self._in_transaction = False
            self._call(self.driver.autocommit)
        except DatabaseError:
            if how == "rollback":
                # The connection's state is unknown: let the next statement fail loudly.
                self._in_transaction = False
                self.close()
            raise

    def _rollback(self) -> None:
        """Use the dialect's statement if it has one: a server that has ended the transaction itself refuses the driver's ROLLBACK."""
        if self.dialect.rollback:
            self._execute(Statement(self.dialect.rollback, ()))
        else:
            self.driver.rollback()


@contextmanager
def suppress_gone(db: Connection, session: Session) -> Iterator[None]:
    """Suppress an error if the session to be ended no longer exists."""
    try:
        yield
    except DatabaseError:
        if db.is_alive(session):
            raise
