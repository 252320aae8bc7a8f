"""Connections over ODBC, through pyodbc."""

from __future__ import annotations

import importlib
import re
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.db import dsn
from engine.db.connection import Connection
from engine.db.dialect import Dialect, by_driver_name, by_reported_name, dialects
from engine.db.drivers.results import Results
from engine.db.drivers.session import begin_session
from engine.db.drivers.thread import DriverThread, Stalled
from engine.db.failures import database_error
from engine.db.templates import Templates, is_long
from engine.db.timeouts import Timeouts
from engine.errors import ConnectionFailed, DatabaseError

_SS_TIMESTAMPOFFSET = -155  # msodbcsql.h: SQL_SS_TIMESTAMPOFFSET
INSTALL_DRIVER = (
    "Install it: SQL Server: msodbcsql18 from Microsoft's packages; PostgreSQL: apt-get install odbc-postgresql; "
    "MariaDB/MySQL: apt-get install odbc-mariadb."
)


class ODBC:
    """pyodbc with any ODBC driver."""

    def __init__(self, raw: Any, errors: tuple[type[Exception], ...], *, mariadb: bool = False) -> None:
        self.raw, self.errors, self._mariadb = raw, errors, mariadb
        self._running: Any = None

    def execute(self, text: str, parameters: Sequence[Any]) -> Results:
        """Run a statement."""
        cursor = self._running = self.raw.cursor()
        try:
            cursor.execute(text, parameters)
            return Results(cursor)
        except BaseException:
            with suppress(*self.errors):
                cursor.close()
            raise

    def begin(self) -> None:
        """Turn autocommit off."""
        self.raw.autocommit = False

    def commit(self) -> None:
        """Commit the transaction."""
        self.raw.commit()

    def rollback(self) -> None:
        """Roll the transaction back."""
        self.raw.rollback()

    def autocommit(self) -> None:
        """Turn autocommit on again."""
        self.raw.autocommit = True

    def limit(self, seconds: int) -> None:
        """Set SQL_ATTR_QUERY_TIMEOUT for all further statements."""
        self.raw.timeout = seconds

    def bind(self, value: Any) -> Any:
        """Work around MariaDB Connector/ODBC 3.1.15, which silently corrupts character parameters of 128 bytes and more, but not
        bytes of any length. It also drops the fractions of datetime parameters, which text keeps.
        """
        if not self._mariadb:
            return value
        if isinstance(value, str):
            return value.encode() if is_long(value) else value
        return value.isoformat(" ", "microseconds") if isinstance(value, datetime) else value

    def cancel(self) -> bool:
        """Call SQLCancel, which ODBC allows from another thread. It may hang if the server never acknowledges it."""
        running = self._running
        if running is not None:
            with suppress(*self.errors):  # the statement may have ended meanwhile
                running.cancel()
        return running is not None

    def lenient(self, on: bool) -> None:
        """Do nothing: servers do not store invalid text."""

    def error(self, failure: Exception, lost: str | None) -> DatabaseError:
        """Convert an error, with ODBC's message and SQLSTATE."""
        return database_error(failure, lost)

    def close(self) -> None:
        """End the session."""
        self.raw.close()


def opened(text: str, root: Path, timeouts: Timeouts) -> Connection:
    """Open a connection by an ODBC string, as the user wrote it. Raises `ConnectionFailed`."""
    pyodbc = import_pyodbc()
    driver = dsn.split(text).get("driver") or ""
    if driver and driver not in pyodbc.drivers() and not Path(driver).exists():
        raise ConnectionFailed(f"there is no ODBC driver {driver!r} here; {found(pyodbc)}. {INSTALL_DRIVER}")
    if re.search(r"freetds|tdsodbc", driver, re.IGNORECASE):
        _check_freetds(text)
    return connected(pyodbc, text, by_driver_name(driver, dialects(root).values()), root, timeouts)


def _check_freetds(text: str) -> None:
    """Refuse a string that asks FreeTDS for verification, which it silently ignores. Raises `ConnectionFailed`."""
    parts = dsn.split(text)
    trusts = (parts.get("trustservercertificate") or "").casefold()
    if trusts in ("no", "false", "0") or (parts.get("encrypt") or "").casefold() == "strict":
        raise ConnectionFailed(
            "FreeTDS does not verify the server's certificate, whatever the string says; install msodbcsql18 from Microsoft's "
            "packages, or leave TrustServerCertificate and Encrypt=strict out where the network is trusted"
        )


def import_pyodbc() -> ModuleType:
    """Import pyodbc, which fails without unixODBC. Raises `ConnectionFailed`."""
    try:
        return importlib.import_module("pyodbc")
    except ImportError as failure:
        raise ConnectionFailed(
            f"ODBC cannot be used here ({failure}). Install unixODBC (Debian: apt-get install unixodbc; macOS: brew install "
            "unixodbc; Windows has it) and the driver of your database."
        ) from failure


def found(pyodbc: ModuleType) -> str:
    """Describe the installed drivers."""
    names = ", ".join(pyodbc.drivers())
    return f"drivers found: {names}" if names else "no drivers are installed"


def connected(pyodbc: ModuleType, text: str, suggested: Dialect | None, root: Path, timeouts: Timeouts) -> Connection:
    """Connect by an ODBC string and set the session up. Raises `ConnectionFailed`."""
    given = {key.casefold() for key, _ in dsn.split(text).pairs}
    extra = [(key, value) for key, value in (suggested.odbc if suggested else ()) if key.casefold() not in given]
    whole = text.rstrip("; ") + ";" + dsn.join(extra)
    pyodbc.pooling = False  # type: ignore[attr-defined]  # a module setting
    thread = DriverThread("odbc")
    try:
        raw = thread.call(lambda: pyodbc.connect(whole, autocommit=True, timeout=timeouts.login), timeouts.connect + 1)
    except (pyodbc.Error, UnicodeError, Stalled) as failure:
        thread.end()
        where = dsn.where(text, "the database")
        raise ConnectionFailed(f"cannot connect to {where}: {database_error(failure)}") from failure
    try:
        return begin_session(_connection(pyodbc, raw, thread, text, root, timeouts), timeouts)
    except BaseException:
        thread.end()
        raise


def _connection(
    pyodbc: ModuleType, raw: Any, thread: DriverThread, text: str, root: Path, timeouts: Timeouts
) -> Connection:
    """Wrap an open connection with the dialect that its driver reports. Raises `ConnectionFailed`."""
    try:
        reported = raw.getinfo(pyodbc.SQL_DBMS_NAME)
        mariadb = "maodbc" in raw.getinfo(pyodbc.SQL_DRIVER_NAME).casefold()
        raw.add_output_converter(_SS_TIMESTAMPOFFSET, _datetimeoffset)
        raw.add_output_converter(pyodbc.SQL_GUID, guid)
        dialect = by_reported_name(reported, root)
    except BaseException:
        raw.close()
        raise
    made = ODBC(raw, (pyodbc.Error,), mariadb=mariadb)
    where = dsn.where(text, reported)
    return Connection(made, dialect, Templates(root, dialect), where, thread=thread, time_limit=timeouts.query)


def guid(raw: bytes) -> str:
    """Format a GUID as every driver has to: lower case, with dashes. ODBC stores its first three parts little-endian."""
    digits = (raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _datetimeoffset(raw: bytes) -> datetime:
    year, month, day, hour, minute, second, nanoseconds, tz_hours, tz_minutes = struct.unpack("<6hI2h", raw)
    zone = timezone(timedelta(hours=tz_hours, minutes=tz_minutes))
    return datetime(year, month, day, hour, minute, second, nanoseconds // 1000, zone)


def server_drivers(names: Iterable[str]) -> list[str]:
    """Return Microsoft's drivers for SQL Server, the newest first."""
    own = [name for name in names if name.startswith("ODBC Driver ") and name.endswith("for SQL Server")]
    return sorted(own, key=lambda name: int("".join(filter(str.isdigit, name)) or 0), reverse=True)
