"""Opens a connection alias as a DB-API connection that knows its dialect. The one place that knows drivers."""

from __future__ import annotations

import importlib
import sqlite3
import struct
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType

from engine.db import strings
from engine.db.connection import Connection, database_error
from engine.db.dialect import Dialect, by_driver_name, by_reported_name, dialects
from engine.db.sql import Statement, Templates
from engine.errors import ConnectionFailed, DatabaseError

SQLITE_BUSY_SECONDS = 10
_SS_TIMESTAMPOFFSET = -155  # msodbcsql.h: SQL_SS_TIMESTAMPOFFSET
_MSSQL_PYTHON_LEAVES_OUT = ("APP", "WSID", "MARS_Connection", "Language")


def open_source(alias: str, text: str, root: Path) -> Connection:
    """Open a connection for reading; a SQLite file must be there. Raises `ConnectionFailed`."""
    return _open(alias, text, root, create=False, read_only=True)


def open_ledger(alias: str, text: str, root: Path, *, create: bool) -> Connection:
    """Open the ledger's connection; a missing SQLite file is made if `create`. Raises `ConnectionFailed`."""
    return _open(alias, text, root, create=create, read_only=not create)


def sqlite_file(text: str, root: Path) -> Path:
    """The file of a `sqlite:///` string; relative ones are seen from the project root."""
    return root / text.removeprefix(strings.SQLITE)


def guess_dialect(text: str, root: Path) -> Dialect:
    """The dialect a connection string suggests, without connecting; SQLite's where it suggests none."""
    known = dialects(root)
    try:
        kind = strings.kind(text)
    except ConnectionFailed:
        return known["sqlite"]
    if kind == "adonet":
        return known["mssql"]
    if kind == "odbc":
        driver = strings.split(text).get("driver") or ""
        return by_driver_name(driver, known.values()) or known["sqlite"]
    return known["sqlite"]


def _open(alias: str, text: str, root: Path, *, create: bool, read_only: bool) -> Connection:
    try:
        kind = strings.kind(text)
        if kind == "sqlite":
            return _open_sqlite(text, root, create=create, read_only=read_only)
        return _open_odbc(text, root) if kind == "odbc" else _open_adonet(text, root)
    except ConnectionFailed as failure:
        raise ConnectionFailed(f"connection {alias!r}: {failure}") from failure.__cause__


def _open_sqlite(text: str, root: Path, *, create: bool, read_only: bool) -> Connection:
    file = sqlite_file(text, root)
    if not file.is_file() and not create:
        raise ConnectionFailed(
            f"there is no SQLite file {file}; a source is never created (check the path, seen from {root})"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        mode = "ro" if read_only else "rwc"
        raw = sqlite3.connect(f"{_uri(file)}?mode={mode}", uri=True, isolation_level=None, timeout=SQLITE_BUSY_SECONDS)
        keeps_journal = not read_only and _keep_journal(raw)
    except (sqlite3.Error, OSError) as failure:
        raise ConnectionFailed(f"cannot open the SQLite file {file}: {failure}") from failure
    dialect = by_reported_name("SQLite", root)
    return Connection(
        raw, dialect, Templates(root, dialect), (sqlite3.Error,), keeps_journal=keeps_journal, description=str(file)
    )


def _keep_journal(raw: sqlite3.Connection) -> bool:
    """True when commits overwrite the head of SQLite's rollback journal instead of deleting the file: as safe, and quicker.

    A file in another mode (WAL is one) stays in it. https://www.sqlite.org/pragma.html#pragma_journal_mode
    """
    with suppress(sqlite3.Error):  # a file that is busy or no database: the first statement says so
        if raw.execute("PRAGMA journal_mode").fetchone() == ("delete",):
            return bool(raw.execute("PRAGMA journal_mode = PERSIST").fetchone() == ("persist",))
    return False


def _uri(file: Path) -> str:
    """The file as a URI for SQLite, which takes no host: a UNC path keeps its slashes behind an empty one."""
    uri = file.absolute().as_uri()
    return uri if uri.startswith("file:///") else uri.replace("file://", "file:////", 1)


def _open_odbc(text: str, root: Path) -> Connection:
    pyodbc = _import_pyodbc()
    driver = strings.split(text).get("driver") or ""
    if driver and driver not in pyodbc.drivers() and not Path(driver).exists():
        raise ConnectionFailed(f"there is no ODBC driver {driver!r} here; {_found(pyodbc)}. {_INSTALL_DRIVER}")
    suggested = by_driver_name(driver, dialects(root).values())
    return _connect_pyodbc(pyodbc, text, suggested, root, None)


def _open_adonet(text: str, root: Path) -> Connection:
    pairs, timeout = strings.adonet_to_odbc(text)
    try:
        pyodbc = _import_pyodbc()
    except ConnectionFailed as missing:
        return _connect_mssql_python(pairs, timeout, root, missing)
    driver = _sql_server_driver(pyodbc)
    if driver is None:
        reason = ConnectionFailed(f"no ODBC driver for SQL Server here; {_found(pyodbc)}. {_INSTALL_DRIVER}")
        return _connect_mssql_python(pairs, timeout, root, reason)
    return _connect_pyodbc(pyodbc, strings.join([("Driver", driver), *pairs]), None, root, timeout)


def _connect_pyodbc(
    pyodbc: ModuleType, text: str, suggested: Dialect | None, root: Path, timeout: int | None
) -> Connection:
    given = {key.casefold() for key, _ in strings.split(text).pairs}
    extra = [(key, value) for key, value in (suggested.odbc if suggested else ()) if key.casefold() not in given]
    pyodbc.pooling = False  # type: ignore[attr-defined]  # a setting of the module
    try:
        raw = pyodbc.connect(text.rstrip("; ") + ";" + strings.join(extra), autocommit=True, timeout=timeout or 0)
    except (pyodbc.Error, UnicodeError) as failure:
        raise ConnectionFailed(
            f"cannot connect to {_where(text, 'the database')}: {database_error(failure)}"
        ) from failure
    try:
        reported = raw.getinfo(pyodbc.SQL_DBMS_NAME)
        driver = raw.getinfo(pyodbc.SQL_DRIVER_NAME)
        raw.add_output_converter(_SS_TIMESTAMPOFFSET, _datetimeoffset)
        dialect = by_reported_name(reported, root)
    except BaseException:
        raw.close()
        raise
    mariadb = "maodbc" in driver.casefold()
    opened = Connection(raw, dialect, Templates(root, dialect), (pyodbc.Error,), mariadb, _where(text, reported))
    return _begin_session(opened)


def _connect_mssql_python(
    pairs: list[tuple[str, str]], timeout: int | None, root: Path, missing: ConnectionFailed
) -> Connection:
    try:
        driver = importlib.import_module("mssql_python")
    except (ImportError, OSError) as failure:
        raise ConnectionFailed(f"{missing} Or, without ODBC: pip install 'syncledger[mssql]'") from failure
    refused = [key for key, _ in pairs if key in ("Failover_Partner", "AttachDBFileName")]
    if refused:
        raise ConnectionFailed(f"mssql-python has no {refused[0]}; leave it out, or install unixODBC and a driver")
    # Every result is fetched whole, so MARS changes nothing; the others only name the client.
    text = strings.join([(key, value) for key, value in pairs if key not in _MSSQL_PYTHON_LEAVES_OUT])
    unreadable = getattr(driver, "ConnectionStringParseError", ValueError)
    try:
        raw = driver.connect(text, autocommit=True, timeout=timeout or 0)
    except (driver.Error, unreadable, RuntimeError, ValueError) as failure:
        raise ConnectionFailed(f"cannot connect: {database_error(failure)}") from failure
    dialect = by_reported_name("Microsoft SQL Server", root)
    opened = Connection(raw, dialect, Templates(root, dialect), (driver.Error,), description=_where(text, "SQL Server"))
    return _begin_session(opened)


def _begin_session(opened: Connection) -> Connection:
    """Run what the dialect wants at the start of every session; a connection that cannot is closed."""
    try:
        for statement in opened.dialect.session:
            opened.execute(Statement(statement, ()))
    except DatabaseError as failure:
        opened.close()
        raise ConnectionFailed(f"the session cannot be set up: {failure}") from failure
    return opened


def _import_pyodbc() -> ModuleType:
    try:
        return importlib.import_module("pyodbc")
    except ImportError as failure:
        raise ConnectionFailed(
            f"ODBC cannot be used here ({failure}). Install unixODBC (Debian: apt-get install unixodbc; macOS: brew install "
            "unixodbc; Windows has it) and the driver of your database."
        ) from failure


_INSTALL_DRIVER = (
    "Install it: SQL Server: msodbcsql18 from Microsoft's packages; PostgreSQL: apt-get install odbc-postgresql; "
    "MariaDB/MySQL: apt-get install odbc-mariadb."
)


def _found(pyodbc: ModuleType) -> str:
    names = ", ".join(pyodbc.drivers())
    return f"drivers found: {names}" if names else "no drivers are installed"


def _sql_server_driver(pyodbc: ModuleType) -> str | None:
    names = [name for name in pyodbc.drivers() if name.startswith("ODBC Driver ") and name.endswith("for SQL Server")]
    newest = max(names, key=lambda name: int("".join(filter(str.isdigit, name)) or 0), default=None)
    return newest or next((name for name in pyodbc.drivers() if name.casefold() == "freetds"), None)


def _where(text: str, reported: str) -> str:
    parts = strings.split(text)
    place = "/".join(value for value in (parts.get("server"), parts.get("database")) if value)
    return f"{reported} {place or parts.get('dsn') or ''}".strip()


def _datetimeoffset(raw: bytes) -> datetime:
    year, month, day, hour, minute, second, nanoseconds, tz_hours, tz_minutes = struct.unpack("<6hI2h", raw)
    zone = timezone(timedelta(hours=tz_hours, minutes=tz_minutes))
    return datetime(year, month, day, hour, minute, second, nanoseconds // 1000, zone)
