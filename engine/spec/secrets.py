"""Knows every secret of a pipeline and takes it out of any text that someone may read."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from engine.db import strings
from engine.spec.reader import Place

MASK = "***"


class Secrets:
    """Masks known secret values, in the encodings in which they may turn up."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(*values)

    def add(self, *values: str) -> None:
        """Mask these too, from now on."""
        self._forms |= {form for value in values if value for form in _forms(value)}
        ordered = sorted(self._forms, key=len, reverse=True)
        # A short secret is masked where it stands as a word: `a` must not blacken every text.
        patterns = [re.escape(form) if len(form) > 3 else rf"(?<!\w){re.escape(form)}(?!\w)" for form in ordered]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def mask(self, text: str) -> str:
        """The text without any secret."""
        return self._pattern.sub(MASK, text) if self._pattern else text


def collect(data: Any, interpolated: set[Place]) -> list[str]:
    """The secret values of a spec's data: parts of connection strings, auth values, headers that came from variables."""
    if not isinstance(data, dict):
        return []
    found: list[str] = []
    connections = data.get("connections")
    if isinstance(connections, dict):
        for text in connections.values():
            if isinstance(text, str):
                found += strings.secrets(text)
    api = data.get("api")
    if isinstance(api, dict):
        found += _auth(api.get("auth"))
        headers = api.get("headers")
        if isinstance(headers, dict):
            found += [
                value
                for name, value in headers.items()
                if isinstance(value, str) and ("api", "headers", name) in interpolated
            ]
        for key in ("proxy", "base_url"):
            found += _user_info(api.get(key))
    return found


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


def _user_info(url: Any) -> list[str]:
    """The password of a URL's user information, and what requests makes of both: a Basic header."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        return []
    if parts is None or not parts.password:
        return []
    user, password = unquote(parts.username or ""), unquote(parts.password)
    return [parts.password, password, base64.b64encode(f"{user}:{password}".encode()).decode()]


def _forms(value: str) -> set[str]:
    """The value as text, in URLs, in connection strings, in Python and in JSON, once and twice."""
    forms = {value, quote(value, safe=""), repr(value)[1:-1], value.replace("}", "}}")}
    for _ in range(2):
        forms |= {json.dumps(form, ensure_ascii=ascii_)[1:-1] for form in tuple(forms) for ascii_ in (True, False)}
    return forms
