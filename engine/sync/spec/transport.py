"""Semantic checks on secrets in transit, on header names and values, and on the ledger's table names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from engine.errors import Problem
from engine.spec.reader import Place
from engine.spec.rules import Rule
from engine.spec.subject import Subject
from engine.sync.spec.schema import SCHEMA

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A field name of RFC 9110 section 5.1."""
_OWN = "TB_R_SYNC_"
_AUTH_VALUES: tuple[Place, ...] = (
    ("api", "auth", "bearer"),
    ("api", "auth", "basic", "user"),
    ("api", "auth", "basic", "password"),
    ("api", "auth", "header", "value"),
    ("api", "auth", "oauth2", "client_id"),
    ("api", "auth", "oauth2", "client_secret"),
)


def _verify(subject: Subject) -> Iterator[Problem]:
    if subject.mapping("api").get("verify") is False:
        message = (
            "`verify: false` trusts any server with the credentials and the records; name the server's authority instead, "
            "such as `verify: certs/ca.pem`"
        )
        yield subject.document.problem(("api", "verify"), message, warning=True)


def _clear_text(subject: Subject) -> Iterator[Problem]:
    """Warn of credentials sent over plain http to another machine."""
    url = subject.text(("api", "base_url"))
    auth = subject.mapping("api").get("auth")
    if not url or not isinstance(auth, dict) or not auth:
        return
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return
    if parts.scheme == "http" and not _loopback(host):
        message = f"the credentials of `auth` travel to {host} in clear text; write https://"
        yield subject.document.problem(("api", "base_url"), message, warning=True)


def _loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.endswith(".localhost") or host.startswith("127.")


def _header_values(subject: Subject) -> Iterator[Problem]:
    headers = subject.mapping("api").get("headers")
    places = [("api", "headers", name) for name in headers] if isinstance(headers, dict) else []
    for place in (*places, *_AUTH_VALUES):
        text = subject.text(place)
        if text and _CONTROL.search(text):
            what = "a line break" if "\n" in text or "\r" in text else "a control character"
            message = f"{place[-1]!r} holds {what}, which no header may; a value that was read from a file often ends with one"
            yield subject.document.problem(place, message)
        elif text is not None and place in _AUTH_VALUES and text and not text.strip():
            yield subject.document.problem(place, f"{place[-1]!r} is blank")


def _header_names(subject: Subject) -> Iterator[Problem]:
    for place in (("api", "auth", "header", "name"), ("api", "idempotency_header")):
        text = subject.text(place)
        if text and not _TOKEN.fullmatch(text):
            message = f"{place[-1]!r} is no name of a header: letters, digits and hyphens, such as X-Api-Key"
            yield subject.document.problem(place, message)


def _ledger_tables(subject: Subject) -> Iterator[Problem]:
    given, defaults = subject.mapping("ledger"), _default_tables()
    tables = {key: given.get(key, name) for key, name in defaults.items()}
    if not all(isinstance(name, str) for name in tables.values()):
        return
    tracking, log = (tables[key].casefold() for key in defaults)
    if _same(tracking, log):
        key = "tracking_table" if "tracking_table" in given else "log_table"
        message = f"tracking_table and log_table are both {tables[key]!r}; the ledger needs a table for each"
        yield subject.document.problem(("ledger", key), message)
    for key, name in defaults.items():
        own = tables[key].rpartition(".")[2].upper()
        if own.startswith(_OWN) and not own.startswith((defaults["tracking_table"], f"{_OWN}LOG")):
            message = f"{key} is {tables[key]!r}; tables that begin with {_OWN} are the engine's own: leave it out, or take a name such as {name}"
            yield subject.document.problem(("ledger", key), message)


def _same(one: str, other: str) -> bool:
    """Return True for the same table; a missing schema matches any."""
    one_schema, _, one_name = one.rpartition(".")
    other_schema, _, other_name = other.rpartition(".")
    return one_name == other_name and (one_schema == other_schema or not one_schema or not other_schema)


def _default_tables() -> dict[str, str]:
    """Return the default names of the tracking and log tables, those of the replaced job."""
    return {key: SCHEMA.of(("ledger", key))["default"] for key in ("tracking_table", "log_table")}


RULES: tuple[Rule, ...] = (_verify, _clear_text, _header_values, _header_names, _ledger_tables)
