"""Makes one call: one attempt of one batch, within a deadline, without redirects or settings from the environment."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import requests
import urllib3

from engine import __version__, failpoint
from engine.http import auth, codings, deadline, framing, reasons, token
from engine.http.settings import Api

MAX_ANSWER = 64 * 1024 * 1024
"""Maximum bytes of an answer; a larger one counts as truncated."""
_TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one call. `seconds` is the duration of the whole call."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A call without a complete answer. `sent` is True if the request may have reached the API.

    `refused` is True exactly if the TCP connection to the API, its proxy or its token endpoint was refused
    (ECONNREFUSED), so that nothing can have been processed.
    """

    reason: str
    sent: bool
    seconds: float
    status: int | None = None
    refused: bool = False


class Caller:
    """Calls one API. Thread-safe: each thread has its own session and connections, which `close` closes."""

    def __init__(self, api: Api, learned: Callable[[str], None] = lambda _secret: None) -> None:
        """`learned` is called with every fetched token, so that it can be masked."""
        self._api = api
        self._sessions: list[requests.Session] = []
        self._own = threading.local()
        self._auth = auth.build(api, self._prepare, learned)

    def url(self, endpoint: str) -> str:
        """Join `base_url` and the endpoint: `http://h/api` and `/users` become `http://h/api/users`."""
        return f"{self._api.base_url.rstrip('/')}/{endpoint.lstrip('/')}"

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the headers of a call, without authentication."""
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": codings.ACCEPTED,
            "User-Agent": f"syncledger/{__version__}",
        }
        if self._api.gzip:
            headers["Content-Encoding"] = "gzip"
        headers.update(self._api.headers)
        if key and self._api.idempotency_header:
            # An RFC 9651 string, as draft-ietf-httpapi-idempotency-key-header requires, or the bare key that most APIs take.
            headers[self._api.idempotency_header] = f'"{key}"' if self._api.idempotency_quoted else key
        return headers

    def prepared(self, method: str, url: str, payload: bytes, key: str | None) -> requests.PreparedRequest:
        """Build the request for display; a token that would be fetched is shown as `***`."""
        body = gzip.compress(payload, mtime=0) if self._api.gzip else payload
        headers = self.headers(key)
        if isinstance(self._auth, token.Renewable):
            return requests.Request(
                method, url, headers={**headers, "Authorization": "Bearer ***"}, data=body
            ).prepare()
        return requests.Request(method, url, headers=headers, data=body, auth=self._auth).prepare()

    def call(self, method: str, url: str, payload: bytes, key: str | None) -> Answer | NoAnswer:
        """Make one attempt. Never raises for failures of the network or the API."""
        body = gzip.compress(payload, mtime=0) if self._api.gzip else payload
        started = time.monotonic()
        with deadline.call(self._api.timeout) as watched:
            status = None
            try:
                with self._session().request(
                    method,
                    url,
                    data=body,
                    headers=self.headers(key),
                    auth=self._auth,
                    timeout=self._api.timeout,
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    failpoint.reached("answer began")
                    status = response.status_code
                    content = codings.read(response, MAX_ANSWER)
                    # A shut-down socket looks like the end of an answer without a length.
                    if watched.expired:
                        raise requests.Timeout
                    self._check_end(response)
                    return Answer(status, response.headers, content, time.monotonic() - started)
            except reasons.NO_ANSWER as failure:
                # Late bytes on this connection must not be taken for the next answer.
                self._session().close()
                return self._no_answer(failure, watched, time.monotonic() - started, status)

    def _check_end(self, response: requests.Response) -> None:
        """Close a connection with bytes after the answer. Raises `BadAnswer` if they are a second answer: neither can be trusted."""
        surplus = getattr(response.raw._original_response, "surplus", b"")
        if surplus.lstrip().startswith(b"HTTP/"):
            raise framing.BadAnswer("two answers came to one request, so that neither can be believed")
        if surplus:
            self._session().close()

    def _no_answer(self, failure: Exception, watched: deadline.Call, seconds: float, status: int | None) -> NoAnswer:
        causes = reasons.causes(failure)
        reason = str(failure) if isinstance(failure, token.TokenRefused) else reasons.plain(causes)
        if (watched.expired or isinstance(failure, _TIMEOUTS)) and not isinstance(failure, token.TokenRefused):
            reason = f"no whole answer within {self._api.timeout:g} s"
        sent = watched.sent and not isinstance(failure, token.TokenRefused)
        refused = not sent and any(isinstance(cause, ConnectionRefusedError) for cause in causes)
        return NoAnswer(reason, sent, seconds, status, refused)

    def authenticate(self) -> None:
        """Fetch a token, if authentication needs one. Raises `token.TokenRefused`."""
        if isinstance(self._auth, token.Renewable):
            self._auth(requests.Request("GET", self._api.base_url).prepare())

    def renew(self) -> bool:
        """Discard the token after a 401. True if another one can be fetched."""
        if isinstance(self._auth, token.Renewable):
            self._auth.forget()
            return True
        return False

    def close(self) -> None:
        """Close every session's connections."""
        for session in self._sessions:
            session.close()

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = requests.Session()
            self._prepare(session)
            self._own.session = session
            self._sessions.append(session)
        return session

    def _prepare(self, session: requests.Session) -> None:
        api = self._api
        # Use neither .netrc (it would replace Authorization) nor the environment's proxies.
        session.trust_env = False
        session.verify = api.verify if isinstance(api.verify, bool) else str(api.verify)
        if api.cert:
            session.cert = (str(api.cert), str(api.cert_key)) if api.cert_key else str(api.cert)
        if api.proxy:
            session.proxies = {"http": api.proxy, "https": api.proxy}
        adapter = deadline.WatchedAdapter(max_retries=0)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
