"""OAuth 2 client credentials (RFC 6749 section 4.4): fetches a token and keeps it until it expires."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import requests

from engine.http import codings, deadline, reasons
from engine.http.settings import OAuth2
from engine.http.token import Renewable, TokenRefused

_RENEW_BEFORE = 30.0
"""Seconds before its expiry at which a token is renewed."""
_USUAL_LIFETIME = 3600.0
"""Seconds assumed without `expires_in`; the server then documents the lifetime elsewhere (RFC 6749 section 5.1)."""
_MAX_ANSWER = 1024 * 1024
_SHOWN = 300


class ClientCredentials(Renewable):
    """A token shared by all threads, fetched on first use and renewed before it expires.

    One thread fetches at a time; no thread waits, for it or for the server, beyond the deadline of its own call.
    """

    def __init__(
        self,
        settings: OAuth2,
        prepare: Callable[[requests.Session], None],
        timeout: float,
        learned: Callable[[str], None],
    ) -> None:
        self._settings, self._prepare, self._timeout, self._learned = settings, prepare, timeout, learned
        self._lock = threading.Lock()
        self._own = threading.local()
        self._token: str | None = None
        self._ends = 0.0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token to a request. Raises `TokenRefused`."""
        if not self._lock.acquire(timeout=deadline.remaining(self._timeout)):
            raise self._refused(f"another call waited for it for {self._timeout:g} s in vain")
        try:
            if self._token is None or time.monotonic() > self._ends - _RENEW_BEFORE:
                self._fetch()
            self._own.token = self._token
        finally:
            self._lock.release()
        request.headers["Authorization"] = f"Bearer {self._own.token}"
        return request

    def forget(self) -> None:
        """Discard the token that this thread sent, since the API refused it, unless it has been replaced already."""
        # Without the lock: its holder may be waiting for the server.
        if self._token == getattr(self._own, "token", None):
            self._token = None

    def _fetch(self) -> None:
        self._token = None
        answer = self._asked()
        token = answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise self._refused(f"its answer has no `access_token` that is text, but {_kind(token)}")
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise self._refused("its `access_token` has characters that a header cannot carry")
        self._learned(token)
        lifetime = _seconds(answer.get("expires_in"))
        if lifetime is None:
            raise self._refused(f"its `expires_in` is no number of seconds, but {_kind(answer['expires_in'])}")
        deadline.not_sent_yet()
        self._token, self._ends = token, time.monotonic() + lifetime

    def _asked(self) -> dict[str, Any]:
        """Request a token; returns the JSON object of the answer. Raises `TokenRefused`."""
        settings = self._settings
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id,
            "client_secret": settings.client_secret,
            **({"scope": settings.scope} if settings.scope else {}),
        }
        with requests.Session() as session:
            self._prepare(session)
            headers = {"Accept": "application/json", "Accept-Encoding": codings.ACCEPTED}
            try:
                with session.post(
                    settings.token_url,
                    data=form,
                    headers=headers,
                    timeout=max(deadline.remaining(self._timeout), 0.001),
                    # A redirect would send the client's secret to its target.
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    body = codings.read(response, _MAX_ANSWER)
            except reasons.NO_ANSWER as failure:
                raise self._refused(self._unanswered(failure)) from failure
        return self._object(response, body)

    def _unanswered(self, failure: Exception) -> str:
        if deadline.remaining(self._timeout) <= 0:
            return f"no whole answer within {self._timeout:g} s"
        return reasons.plain(reasons.causes(failure))

    def _object(self, response: requests.Response, body: bytes) -> dict[str, Any]:
        status = response.status_code
        if 300 <= status < 400:
            where = response.headers.get("Location", "nowhere")
            raise self._refused(
                f"HTTP {status}, a redirect to {where}; redirects are not followed, since they would carry the client's "
                "secret there: write the right `token_url`"
            )
        found = _parsed(body)
        if not 200 <= status < 300:
            told = [found.get(key) for key in ("error", "error_description")] if isinstance(found, dict) else []
            words = ": ".join(text for text in told if isinstance(text, str)) or body[:2000].decode("utf-8", "replace")
            raise self._refused(f"HTTP {status}: {words}")
        if not isinstance(found, dict):
            raise self._refused(f"HTTP {status} whose body is no JSON object, but {_kind(found)}")
        return found

    def _refused(self, reason: str) -> TokenRefused:
        """Build the error. A secret that the server echoes is masked before the text is cut; cutting first could leave half of it."""
        text = " ".join(reason.replace(self._settings.client_secret, "***").split())
        return TokenRefused(f"no token from {self._settings.token_url}: {text[:_SHOWN]}")


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return b""  # no JSON value is bytes


def _kind(value: object) -> str:
    kinds = {
        bytes: "something else",
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    return kinds.get(type(value), "a number")


def _seconds(value: object) -> float | None:
    """Parse `expires_in`; None if it is not a number. Many servers send it as text."""
    if value is None or value == "":
        return _USUAL_LIFETIME
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return (found or _USUAL_LIFETIME) if math.isfinite(found) else None
