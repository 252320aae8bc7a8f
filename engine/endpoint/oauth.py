"""OAuth 2 client credentials (RFC 6749 section 4.4): fetches the token and keeps it until it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import requests
from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
from requests_oauthlib import OAuth2Session

from engine.endpoint import deadline
from engine.endpoint.auth import Renewable, TokenRefused
from engine.model import OAuth2

_RENEW_BEFORE = 30.0
"""Seconds before its end at which a token is fetched anew."""


class ClientCredentials(Renewable):
    """A token shared by all threads, fetched when first needed and again before it ends. RFC 6749 section 4.4."""

    def __init__(
        self,
        settings: OAuth2,
        prepare: Callable[[requests.Session], None],
        timeout: float,
        learned: Callable[[str], None],
    ) -> None:
        self._settings, self._prepare, self._timeout, self._learned = settings, prepare, timeout, learned
        self._lock = threading.Lock()
        self._token: str | None = None
        self._ends = 0.0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token to a request. Raises `TokenRefused`."""
        with self._lock:
            if self._token is None or time.monotonic() > self._ends - _RENEW_BEFORE:
                self._fetch()
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def forget(self) -> None:
        """The API refused the token: fetch another next time."""
        with self._lock:
            self._token = None

    def _fetch(self) -> None:
        settings = self._settings
        session = OAuth2Session(client=BackendApplicationClient(client_id=settings.client_id, scope=settings.scope))
        with session:
            self._prepare(session)
            try:
                token = session.fetch_token(
                    settings.token_url,
                    client_secret=settings.client_secret,
                    include_client_id=True,
                    timeout=self._timeout,
                    verify=session.verify,  # type: ignore[arg-type]  # the stub forgets paths
                    cert=session.cert,
                )
            except (OAuth2Error, requests.RequestException, ValueError) as failure:
                raise TokenRefused(f"no token from {settings.token_url}: {failure}") from failure
        deadline.not_sent_yet()
        found = token.get("access_token")
        if not isinstance(found, str) or not found.strip():
            raise TokenRefused(f"no token from {settings.token_url}: its answer has no `access_token` with a text")
        self._token = found
        self._learned(self._token)
        # RFC 6749 section 5.1: without expires_in the server says its lifetime elsewhere; an hour is the usual one.
        self._ends = time.monotonic() + float(token.get("expires_in") or 3600)
