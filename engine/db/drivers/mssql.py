"""Connects to SQL Server by an ADO.NET string, as in appsettings.json, with the best driver installed.

Microsoft's ODBC driver first, then mssql-python, which needs no unixODBC. FreeTDS does not verify the server's certificate (unless
its own freetds.conf asks for it): it is used only if the string does not require verification.
"""

from __future__ import annotations

import importlib
import logging
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from engine.db import dsn
from engine.db.connection import Connection
from engine.db.dialect import by_reported_name
from engine.db.drivers import odbc
from engine.db.drivers.session import begin_session
from engine.db.drivers.thread import DriverThread, Stalled
from engine.db.failures import database_error
from engine.db.templates import Templates
from engine.db.timeouts import Timeouts
from engine.errors import ConnectionFailed

_LOG = logging.getLogger(__name__)
_NOT_IN_MSSQL_PYTHON = ("APP", "WSID", "Language")
"""Keys that are dropped for mssql-python."""
_INSTALL = "Install msodbcsql18 from Microsoft's packages, or: pip install 'syncledger[mssql]'"


class MssqlPython(odbc.ODBC):
    """Microsoft's mssql-python, which needs no unixODBC. It works like pyodbc, but cannot cancel."""

    def cancel(self) -> bool:
        """Return False: there is no public cancel, so the session has to be ended instead."""
        return False


Pairs = list[tuple[str, str]]


def opened(text: str, root: Path, timeouts: Timeouts) -> Connection:
    """Open a connection by an ADO.NET string. Raises `ConnectionFailed`."""
    pairs, login = dsn.adonet_to_odbc(text)
    timeouts = replace(timeouts, connect=float(login)) if login else timeouts
    try:
        pyodbc = odbc.import_pyodbc()
    except ConnectionFailed as missing:
        return _by_mssql_python(_mssql_python(missing), pairs, root, timeouts)
    for driver in odbc.server_drivers(pyodbc.drivers()):
        return odbc.connected(pyodbc, dsn.join([("Driver", driver), *pairs]), None, root, timeouts)
    freetds = next((name for name in pyodbc.drivers() if name.casefold() == "freetds"), None)
    none = ConnectionFailed(f"no ODBC driver for SQL Server here; {odbc.found(pyodbc)}. {odbc.INSTALL_DRIVER}")
    try:
        module = _mssql_python(none)
    except ConnectionFailed:
        if freetds is None:
            raise
        return odbc.connected(pyodbc, dsn.join(_for_freetds(freetds, pairs)), None, root, timeouts)
    return _by_mssql_python(module, pairs, root, timeouts)


def wants_verification(pairs: Pairs) -> bool:
    """True if the server's certificate is to be verified: always, unless the string says otherwise.

    These are the defaults of Microsoft.Data.SqlClient: Encrypt is mandatory, and the server's certificate is not trusted blindly.
    """
    given = {key.casefold(): value.casefold() for key, value in pairs}
    if given.get("encrypt") == "strict":
        return True
    return given.get("encrypt") not in ("no", "false", "optional") and given.get("trustservercertificate") not in (
        "yes",
        "true",
        "1",
    )


def _for_freetds(driver: str, pairs: Pairs) -> Pairs:
    """Convert the pairs for FreeTDS, with separate host and port. Raises `ConnectionFailed` if it cannot meet them."""
    if wants_verification(pairs):
        raise ConnectionFailed(
            "the only driver for SQL Server here is FreeTDS, which does not verify the server's certificate, and this string asks for "
            f"it (so does one that says nothing of it). {_INSTALL}. Or, where the network is trusted, write "
            "TrustServerCertificate=true"
        )
    _LOG.warning(
        "FreeTDS does not verify the server's certificate: whoever is between can read and change all. %s", _INSTALL
    )
    made: Pairs = [("Driver", driver)]
    for key, value in pairs:
        made += _server(value) if key == "Server" else [(key, value)]
    return made


def _server(value: str) -> Pairs:
    """Split `tcp:host,port` of ADO.NET into two keys. Raises `ConnectionFailed` for another protocol."""
    protocol = re.match(r"(np|lpc|admin):", value, re.IGNORECASE)
    if protocol:
        raise ConnectionFailed(f"FreeTDS speaks TCP alone, not {protocol[0]!r}; write `data source=tcp:host,port`")
    host, _, port = re.sub(r"^tcp:", "", value, flags=re.IGNORECASE).partition(",")
    return [("Server", host.strip()), *([("Port", port.strip())] if port.strip() else [])]


def _mssql_python(missing: ConnectionFailed) -> ModuleType:
    try:
        return importlib.import_module("mssql_python")
    except (ImportError, OSError) as failure:
        raise ConnectionFailed(f"{missing} Or, without ODBC: pip install 'syncledger[mssql]'") from failure


def _by_mssql_python(module: ModuleType, pairs: Pairs, root: Path, timeouts: Timeouts) -> Connection:
    refused = [key for key, _ in pairs if key in ("Failover_Partner", "AttachDBFileName")]
    if refused:
        raise ConnectionFailed(f"mssql-python has no {refused[0]}; leave it out, or install unixODBC and a driver")
    text = dsn.join([(key, value) for key, value in pairs if key not in _NOT_IN_MSSQL_PYTHON])
    unreadable = getattr(module, "ConnectionStringParseError", ValueError)
    thread = DriverThread("mssql-python")
    try:
        raw = thread.call(lambda: module.connect(text, autocommit=True, timeout=timeouts.login), timeouts.connect + 1)
    except (module.Error, unreadable, RuntimeError, ValueError, Stalled) as failure:
        thread.end()
        raise ConnectionFailed(f"cannot connect: {database_error(failure)}") from failure
    dialect = by_reported_name("Microsoft SQL Server", root)
    where = dsn.where(text, "SQL Server")
    made = MssqlPython(raw, (module.Error,))
    opened = Connection(made, dialect, Templates(root, dialect), where, thread=thread, time_limit=timeouts.query)
    return begin_session(opened, timeouts)
