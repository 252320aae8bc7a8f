"""A DB-API connection that knows its dialect, and says what went wrong in the database's own words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engine import failpoint
from engine.db.dialect import Dialect
from engine.db.sql import Statement, Templates, is_long
from engine.errors import DatabaseError


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
    _in_transaction: bool = field(default=False, init=False)

    def execute(self, statement: Statement) -> Rows:
        """Run a statement and fetch all of its rows. Raises `DatabaseError` with the database's own words."""
        try:
            cursor = self.raw.cursor()
        except self.errors as failure:  # the connection is gone
            raise database_error(failure) from failure
        try:
            cursor.execute(statement.text, [self._parameter(value) for value in statement.parameters])
            return _fetch(cursor)
        except self.errors as failure:
            raise database_error(failure) from failure
        except (UnicodeError, OverflowError, ValueError) as failure:
            raise DatabaseError(f"{type(failure).__name__}: {failure}") from failure
        finally:
            with suppress(*self.errors):
                cursor.close()

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

    def close(self) -> None:
        """Give the connection back; a connection that is already broken counts as closed."""
        with suppress(*self.errors):
            if self.keeps_journal:
                self.raw.execute("PRAGMA journal_mode = DELETE")  # removes the file, unless somebody is writing
        with suppress(*self.errors):
            self.raw.close()

    def _begin(self) -> None:
        try:
            if isinstance(self.raw, sqlite3.Connection):
                self.raw.execute("BEGIN IMMEDIATE")
            else:
                self.raw.autocommit = False
        except self.errors as failure:
            raise database_error(failure) from failure
        self._in_transaction = True

    def _end(self, how: str) -> None:
        if not self._in_transaction:
            return
        try:
            getattr(self.raw, how)()
            self._in_transaction = False
            if not isinstance(self.raw, sqlite3.Connection):
                self.raw.autocommit = True
        except self.errors as failure:
            if how == "rollback":
                # Nobody knows what state it is in: let the next statement fail loudly.
                self._in_transaction = False
                self.close()
            raise database_error(failure) from failure

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


def database_error(failure: Exception) -> DatabaseError:
    """A driver's error with the database's own words and its SQLSTATE, where it has one."""
    arguments = failure.args
    if len(arguments) >= 2 and isinstance(arguments[1], str):
        return DatabaseError(arguments[1], str(arguments[0]))
    return DatabaseError(str(failure) or type(failure).__name__, getattr(failure, "sqlstate", None))


def _for_mariadb(value: Any) -> Any:
    """MariaDB Connector/ODBC 3.1.15 garbles character parameters of 128 bytes and more without an error, but carries
    bytes of any length. It also drops the fractions of datetime parameters, which text keeps.
    """
    if isinstance(value, str):
        return value.encode() if is_long(value) else value
    return value.isoformat(" ", "microseconds") if isinstance(value, datetime) else value
