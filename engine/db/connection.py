"""A DB-API connection that knows its dialect, and says what went wrong in the database's own words."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar

from engine import failpoint
from engine.db.dialect import Dialect
from engine.db.drivers.thread import DriverThread, Stalled, Unusable
from engine.db.failures import database_error
from engine.db.templates import Statement, Templates, is_long
from engine.errors import DatabaseError

Result = TypeVar("Result")

_CLOSE_SECONDS = 5.0
_GRACE_SECONDS = 1.0
"""What the server is given beyond its own time limit to say that it has stopped a query."""


@dataclass(slots=True)
class Rows:
    """A result: the names its columns have in the database, and the rows."""

    columns: tuple[str, ...]
    rows: list[Any]
    rowcount: int


@dataclass(slots=True)
class Connection:
    """One open connection, used by one thread. Outside `transaction` every statement commits by itself."""

    raw: Any
    dialect: Dialect
    templates: Templates
    errors: tuple[type[Exception], ...]
    mariadb_odbc: bool = False
    description: str = ""
    keeps_journal: bool = False
    """SQLite's rollback journal is overwritten at a commit, and removed when the connection is closed."""
    driver: DriverThread | None = None
    """Where the driver's calls run, each for `time_limit` seconds at most; SQLite's run where they are made."""
    time_limit: float = 600.0
    again: Callable[[], Connection] | None = None
    """Opens another one like this. Raises `ConnectionFailed`."""
    _in_transaction: bool = field(default=False, init=False)

    def execute(self, statement: Statement) -> Rows:
        """Run a statement and fetch all of its rows. Raises `DatabaseError` with the database's own words."""
        return self._call(lambda: self._execute(statement))

    def _execute(self, statement: Statement) -> Rows:
        cursor = self.raw.cursor()
        try:
            cursor.execute(statement.text, [self._parameter(value) for value in statement.parameters])
            return _fetch(cursor)
        finally:
            with suppress(*self.errors):
                cursor.close()

    def limit_in_driver(self, seconds: int) -> None:
        """Have the driver itself stop every statement after so many seconds. Raises `DatabaseError`."""
        self._call(lambda: setattr(self.raw, "timeout", seconds))

    def run(self, template: str, /, **context: Any) -> Rows:
        """Render a named statement and execute it."""
        return self.execute(self.templates.statement(template, **context))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Raises `DatabaseError`; what was done before it is rolled back."""
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
        """Give the connection back; a connection that is already broken counts as closed."""
        with suppress(DatabaseError):
            self._call(self._close, _CLOSE_SECONDS)
        if self.driver:
            self.driver.end()

    def reconnect(self) -> None:
        """Begin a new session in place of this one, which is closed; never inside `transaction`. Raises `ConnectionFailed`."""
        assert not self._in_transaction, "what it holds would be lost in silence"  # noqa: S101
        assert self.again is not None, "every connection that was opened by its alias has it"  # noqa: S101
        self.close()
        fresh = self.again()
        self.raw, self.driver, self.keeps_journal = fresh.raw, fresh.driver, fresh.keeps_journal
        self._in_transaction = False

    def _call(self, work: Callable[[], Result], seconds: float | None = None) -> Result:
        """Do something with the driver, within so many seconds. Raises `DatabaseError`."""
        try:
            return self.driver.call(work, seconds or self.time_limit + _GRACE_SECONDS) if self.driver else work()
        except self.errors as failure:
            raise database_error(failure, self.dialect) from failure
        except Stalled as failure:
            raise DatabaseError(f"{failure}; the connection is given up (see `timeouts`)") from failure
        except Unusable as failure:
            raise DatabaseError(str(failure), lost=True) from failure
        except (UnicodeError, OverflowError, ValueError) as failure:
            raise DatabaseError(f"{type(failure).__name__}: {failure}") from failure

    def _close(self) -> None:
        with suppress(*self.errors):
            if self.keeps_journal:
                self.raw.execute("PRAGMA journal_mode = DELETE")  # removes the file, unless somebody is writing
        self.raw.close()

    def _begin(self) -> None:
        def begin() -> None:
            if isinstance(self.raw, sqlite3.Connection):
                self.raw.execute("BEGIN IMMEDIATE")
            else:
                self.raw.autocommit = False

        self._call(begin)
        self._in_transaction = True

    def _end(self, how: Literal["commit", "rollback"]) -> None:
        if not self._in_transaction:
            return
        try:
            self._call(self._commit if how == "commit" else self._rollback)
            self._in_transaction = False
            if not isinstance(self.raw, sqlite3.Connection):
                self._call(self._autocommit)
        except DatabaseError:
            if how == "rollback":
                # Nobody knows what state it is in: let the next statement fail loudly.
                self._in_transaction = False
                self.close()
            raise

    def _commit(self) -> None:
        self.raw.commit()

    def _rollback(self) -> None:
        """In the dialect's words where it has some: a server that ended the transaction itself refuses the driver's."""
        if self.dialect.rollback:
            self._execute(Statement(self.dialect.rollback, ()))
        else:
            self.raw.rollback()

    def _autocommit(self) -> None:
        self.raw.autocommit = True

    def _parameter(self, value: Any) -> Any:
        if self.mariadb_odbc:
            return _for_mariadb(value)
        if isinstance(self.raw, sqlite3.Connection):
            if isinstance(value, datetime):
                return value.isoformat(" ", "microseconds")
            return value if isinstance(value, (int, float, bytes, type(None))) else str(value)
        return value


def _fetch(cursor: Any) -> Rows:
    """The first result that has columns; the rest is read too, since drivers report late errors there."""
    columns: tuple[str, ...] = ()
    rows: list[Any] = []
    rowcount = cursor.rowcount
    more = getattr(cursor, "nextset", None)
    while True:
        if cursor.description and not columns:
            columns = tuple(column[0] for column in cursor.description)
            rows = cursor.fetchall()
        if more is None or not more():
            return Rows(columns, rows, rowcount)


def _for_mariadb(value: Any) -> Any:
    """MariaDB Connector/ODBC 3.1.15 garbles character parameters of 128 bytes and more without an error, but carries
    bytes of any length. It also drops the fractions of datetime parameters, which text keeps.
    """
    if isinstance(value, str):
        return value.encode() if is_long(value) else value
    return value.isoformat(" ", "microseconds") if isinstance(value, datetime) else value
