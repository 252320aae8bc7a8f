"""Connection strings: their kind, parts and secrets, and the translation from ADO.NET to ODBC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from engine.errors import ConnectionFailed

Kind = Literal["sqlite", "odbc", "adonet"]

SQLITE = "sqlite:///"
FORMS = (
    "sqlite:///file.db, an ODBC string (Driver={...};Server=...;...) or an ADO.NET string "
    "(data source=...;initial catalog=...;...)"
)

# https://learn.microsoft.com/dotnet/api/microsoft.data.sqlclient.sqlconnection.connectionstring
_ADONET: dict[str, str] = {
    "data source": "Server", "server": "Server", "address": "Server", "addr": "Server", "network address": "Server",
    "initial catalog": "Database", "database": "Database",
    "user id": "UID", "uid": "UID", "user": "UID",
    "password": "PWD", "pwd": "PWD",
    "integrated security": "Trusted_Connection", "trusted_connection": "Trusted_Connection",
    "encrypt": "Encrypt",
    "trustservercertificate": "TrustServerCertificate", "trust server certificate": "TrustServerCertificate",
    "hostnameincertificate": "HostnameInCertificate", "host name in certificate": "HostnameInCertificate",
    "multisubnetfailover": "MultiSubnetFailover", "multi subnet failover": "MultiSubnetFailover",
    "application name": "APP", "app": "APP",
    "workstation id": "WSID", "wsid": "WSID",
    "applicationintent": "ApplicationIntent", "application intent": "ApplicationIntent",
    "authentication": "Authentication",
    "failover partner": "Failover_Partner",
    "current language": "Language", "language": "Language",
    "attachdbfilename": "AttachDBFileName", "initial file name": "AttachDBFileName",
}  # fmt: skip
# Keys that only concern the .NET client.
_ADONET_ONLY = {
    "pooling", "min pool size", "max pool size", "connection lifetime", "load balance timeout", "connection reset",
    "enlist", "persist security info", "persistsecurityinfo", "packet size", "asynchronous processing", "async",
    "connectretrycount", "connect retry count", "connectretryinterval", "connect retry interval", "replication",
    "transaction binding", "type system version", "user instance", "context connection", "poolblockingperiod",
    "pool blocking period", "column encryption setting", "enclave attestation url", "attestation protocol",
    "ip address preference", "ipaddresspreference", "command timeout", "network library", "net",
    # A connection never has more than one open result.
    "multipleactiveresultsets", "multiple active result sets",
}  # fmt: skip
_TIMEOUT = {"connect timeout", "connection timeout", "timeout"}
_BOOLEAN = {"Trusted_Connection", "TrustServerCertificate", "MultiSubnetFailover"}
# Quotes delimit values in ADO.NET; in ODBC they are ordinary characters.
_ODBC = re.compile(r"(^|;)\s*(driver|dsn|filedsn)\s*=", re.IGNORECASE)
_SECRET = re.compile(r"pwd|pass|secret|token|key$|credential|phrase", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Parts:
    """The keys and values of a connection string, in order, keys as written."""

    pairs: tuple[tuple[str, str], ...]

    def get(self, *names: str) -> str | None:
        """Return the value of the first pair with one of these names (lower case); keys match in any case."""
        return next((value for key, value in self.pairs if key.casefold() in names), None)


def kind(text: str) -> Kind:
    """Return the kind of a connection string. Raises `ConnectionFailed` without showing the string."""
    if text.startswith(SQLITE):
        return "sqlite"
    if re.match(r"[a-z][a-z0-9+]*://", text, re.IGNORECASE):
        raise ConnectionFailed(
            f"a URL is no connection string here (SQLite's has three slashes: sqlite:///file.db); write {FORMS}"
        )
    parts = split(text)
    if parts.get("driver", "dsn", "filedsn"):
        return "odbc"
    if parts.get("data source", "server", "address", "addr", "network address"):
        return "adonet"
    raise ConnectionFailed(f"not a connection string that is known here; write {FORMS}")


def split(text: str) -> Parts:
    """Split an ODBC or ADO.NET string into its parts. Raises `ConnectionFailed` without showing the string."""
    pairs: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        if text[position] in "; \t\r\n":
            position += 1
            continue
        equals = text.find("=", position)
        key = text[position:equals].strip()
        if equals < 0 or not key or ";" in key:
            raise ConnectionFailed(f"not a connection string: a part is not `key=value`; write {FORMS}")
        value, position = _value(text, equals + 1)
        pairs.append((key, value))
    return Parts(tuple(pairs))


def _value(text: str, start: int) -> tuple[str, int]:
    """Return the value at `start` and the start of the next part. In {}, '' or "" it may contain any character."""
    while start < len(text) and text[start] in " \t":
        start += 1
    closing = {"{": "}", **({} if _ODBC.search(text) else {'"': '"', "'": "'"})}.get(text[start : start + 1])
    if closing is None:
        end = text.find(";", start)
        end = len(text) if end < 0 else end
        return text[start:end].strip(), end + 1
    value, position = "", start + 1
    while True:
        end = text.find(closing, position)
        if end < 0:
            raise ConnectionFailed(f"not a connection string: a value opens with {text[start]} and never closes")
        value += text[position:end]
        if text[end + 1 : end + 2] != closing:
            break
        value, position = value + closing, end + 2
    after = text.find(";", end)
    return value, len(text) if after < 0 else after + 1


def join(pairs: list[tuple[str, str]]) -> str:
    """Build an ODBC string; values with special characters are put in braces."""
    return "".join(f"{key}={_brace(value)};" for key, value in pairs)


def _brace(value: str) -> str:
    if value.startswith("{") or any(character in value for character in ";{}[](),?*=!@ '\""):
        return "{" + value.replace("}", "}}") + "}"
    return value


def adonet_to_odbc(text: str) -> tuple[list[tuple[str, str]], int | None]:
    """Return the ODBC pairs of an ADO.NET string (without a driver) and its connect timeout in seconds.

    Raises `ConnectionFailed` naming a key that has no counterpart in ODBC.
    """
    pairs: list[tuple[str, str]] = []
    timeout: int | None = None
    for key, value in split(text).pairs:
        name = key.casefold()
        if name in _TIMEOUT:
            timeout = int(value) if value.isdigit() else None
        elif name in _ADONET:
            pairs.append((_ADONET[name], _translate(_ADONET[name], value)))
        elif name not in _ADONET_ONLY:
            raise ConnectionFailed(
                f"the ADO.NET key {key!r} has no counterpart in ODBC; leave it out or write an ODBC string"
            )
    return pairs, timeout


def _translate(key: str, value: str) -> str:
    if key == "Encrypt":
        return {"true": "yes", "mandatory": "yes", "false": "no", "optional": "no"}.get(
            value.casefold(), value.casefold()
        )
    if key in _BOOLEAN:
        return "yes" if value.casefold() in ("true", "yes", "sspi", "1") else "no"
    if key == "Server" and value.casefold().startswith(("(local)", ".")):
        return re.sub(r"^(\(local\)|\.)", "localhost", value, flags=re.IGNORECASE)
    return value


def where(text: str, reported: str) -> str:
    """Describe the server and database of a string, without secrets, after the name that the database reports."""
    parts = split(text)
    place = "/".join(value for value in (parts.get("server"), parts.get("database")) if value)
    return f"{reported} {place or parts.get('dsn') or ''}".strip()


def secrets(text: str) -> list[str]:
    """Return the parts of a connection string that must never be shown; all of it if it cannot be parsed."""
    try:
        if kind(text) == "sqlite":
            return []
        return [value for key, value in split(text).pairs if value and _SECRET.search(key)]
    except ConnectionFailed:
        return [text]
