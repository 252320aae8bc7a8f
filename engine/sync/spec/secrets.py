"""Finds the secret values of a spec."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from engine.db import dsn
from engine.spec.environment import Interpolated
from engine.spec.reader import Place

_PLAIN = re.compile(r"[A-Za-z]{1,20}[0-9]{0,3}([._~-][A-Za-z]{1,20}[0-9]{0,3}){0,3}|[0-9.]{1,8}")
"""A path segment that is plainly a word or a version: `api`, `v2`, `hr-sync`."""


def collect(found: Interpolated) -> list[str]:
    """Return a spec's secret values: parts of connection strings and URLs, auth values, headers set from variables."""
    data = found.data
    if not isinstance(data, dict):
        return []
    values: list[str] = []
    connections = data.get("connections")
    if isinstance(connections, dict):
        for text in connections.values():
            if isinstance(text, str):
                values += dsn.secrets(text)
    api = data.get("api")
    if isinstance(api, dict):
        values += _auth(api.get("auth"))
        headers = api.get("headers")
        if isinstance(headers, dict):
            values += [
                value
                for name, value in headers.items()
                if isinstance(value, str) and ("api", "headers", name) in found.places
            ]
    for place, url in _urls(data):
        values += _user_info(url)
        for span in found.places.get(place, ()):
            values += _of_variable(url, span, place[-1] not in ("endpoint", "check"))
    return values


def _urls(data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    """Yield every URL of a spec, or part of one, with its place."""
    entities = data.get("entities")
    numbers = range(len(entities)) if isinstance(entities, list) else ()
    places: list[Place] = [
        ("api", "base_url"),
        ("api", "proxy"),
        ("api", "check"),
        ("api", "auth", "oauth2", "token_url"),
        ("defaults", "endpoint"),
        *[("entities", number, "endpoint") for number in numbers],
    ]
    for place in places:
        value: Any = data
        with suppress(LookupError, TypeError):
            for step in place:
                value = value[step]
            if isinstance(value, str):
                yield place, value


def _of_variable(url: str, span: tuple[int, int], whole: bool) -> Iterator[str]:
    """Yield the secret parts of what a variable gave of a URL: in user information, path, query and fragment.

    A `whole` URL begins with a host, even without a scheme.

    Scheme, host, port and a user with a password may be shown; plain words of the path too, if the variable gives the host.
    """
    start, end = span
    scheme = re.match(r"[a-z][a-z0-9+.-]*://", url, re.IGNORECASE)
    head, host = scheme or whole, scheme.end() if scheme else 0
    if head and start >= host and _is_user_information(url[host:start], url[end:]):
        yield url[start:end].partition(":")[2] or url[start:end]
        return
    path = re.compile("[/?#]|$").search(url, host).start() if head else 0  # type: ignore[union-attr]  # `$` is always there
    query = re.compile("[?#]|$").search(url, path).start()  # type: ignore[union-attr]
    inside = url[max(start, path) : min(end, query)].strip("/")
    pieces = [piece for piece in inside.split("/") if not _PLAIN.fullmatch(piece)]
    yield from pieces if head and start <= host < end else (inside, *pieces)
    if "=" in re.split("[?&#;]", url[query:start])[-1]:
        yield url[start:end]
    for pair in re.compile("[^?#&;]+").finditer(url, query):
        value = pair.start() + pair.group().find("=") + 1
        yield url[max(start, value) : min(end, pair.end())]


def _is_user_information(before: str, after: str) -> bool:
    """Return True if the text between these two parts of a URL is a password, a token, or `user:password`."""
    rest, at, _ = after.partition("@")
    if not at or re.search("[/?#]", before + rest):
        return False
    return ":" in before or ":" not in rest


def _auth(auth: Any) -> list[str]:
    if not isinstance(auth, dict):
        return []
    found = [value for value in auth.values() if isinstance(value, str)]
    for name, inner in auth.items():
        if isinstance(inner, dict):
            public = {"token_url", "client_id", "scope", "name", "user"}
            found += [value for key, value in inner.items() if isinstance(value, str) and key not in public]
            if name == "basic":
                found.append(base64.b64encode(f"{inner.get('user')}:{inner.get('password')}".encode()).decode())
    return found


def _user_info(url: str) -> list[str]:
    """Return the password of a URL (a user without one is a token), and the Basic credentials made of both."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    secret = parts.password or parts.username
    if not secret:
        return []
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return [secret, unquote(secret), base64.b64encode(f"{user}:{password}".encode()).decode()]
