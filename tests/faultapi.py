"""A real HTTP server that misbehaves as it is told: one behaviour per call, the last one for ever after."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from engine.demo import faults


@dataclass
class Request:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    time: float

    @property
    def records(self) -> list[Any]:
        """The records of its JSON body."""
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        found = json.loads(body)
        return found if isinstance(found, list) else next(iter(found.values()))


Behaviour = Callable[["Handler", Request], None]


def answer(status: int = 200, body: bytes | str | dict[str, Any] | list[Any] = b"{}", **headers: str) -> Behaviour:
    """A whole answer. Header names are written with `_` for `-`."""
    content = (
        json.dumps(body).encode()
        if isinstance(body, (dict, list))
        else body.encode()
        if isinstance(body, str)
        else body
    )

    def behave(handler: Handler, _: Request) -> None:
        faults.send(handler, status, content, {name.replace("_", "-"): value for name, value in headers.items()})

    return behave


def slow(seconds: float, then: Behaviour | None = None) -> Behaviour:
    """Wait, then answer."""

    def behave(handler: Handler, request: Request) -> None:
        handler.server.pause.wait(seconds)
        (then or answer())(handler, request)

    return behave


def cut(body: bytes = b'{"sto', promised: int = 100) -> Behaviour:
    """An answer that breaks off."""

    def behave(handler: Handler, _: Request) -> None:
        faults.break_off(handler, 200, body, promised)

    return behave


def reset() -> Behaviour:
    """Take the whole request, then reset the connection."""

    def behave(handler: Handler, _: Request) -> None:
        faults.reset(handler)

    return behave


def drip(every: float = 0.05) -> Behaviour:
    """A byte now and then, for ever: no single read times out."""

    def behave(handler: Handler, _: Request) -> None:
        faults.drip(handler, every, handler.server.pause.wait)

    return behave


def raw(*parts: bytes, every: float | None = None) -> Behaviour:
    """These bytes instead of an answer; with `every` the last part is repeated for ever, so many seconds apart."""

    def behave(handler: Handler, _: Request) -> None:
        handler.close_connection = True
        try:
            for part in parts:
                handler.wfile.write(part)
            while every is not None and not handler.server.pause.wait(every):
                handler.wfile.write(parts[-1])
        except OSError:
            pass

    return behave


def slow_headers(every: float = 0.05) -> Behaviour:
    """A header that never ends, a byte now and then."""
    return raw(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", every=every)


def when(condition: Callable[[Request], bool], then: Behaviour, otherwise: Behaviour | None = None) -> Behaviour:
    """One behaviour for the requests that meet a condition, another for the rest."""

    def behave(handler: Handler, request: Request) -> None:
        (then if condition(request) else otherwise or answer())(handler, request)

    return behave


@dataclass
class Script:
    """What a path does: its behaviours in order; the last one stays."""

    behaviours: list[Behaviour] = field(default_factory=lambda: [answer()])
    calls: int = 0


class FaultAPI(ThreadingHTTPServer):
    """The server. `script` sets behaviours for a path, `requests` is all that arrived."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.pause = threading.Event()
        self.closed = 0
        self._scripts: dict[str, Script] = {}
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        self._scheme = "https" if context else "http"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{self.server_port}"

    def script(self, path: str, *behaviours: Behaviour) -> None:
        """What the next calls of a path do; the last behaviour stays."""
        self._scripts[path] = Script(list(behaviours))

    def of(self, path: str) -> list[Request]:
        """The requests that arrived at a path."""
        with self._lock:
            return [request for request in self.requests if request.path == path]

    def take(self, request: Request) -> Behaviour:
        with self._lock:
            self.requests.append(request)
            script = self._scripts.setdefault(request.path, Script())
            script.calls += 1
            return script.behaviours[min(script.calls, len(script.behaviours)) - 1]

    def stop(self) -> None:
        """Let sleeping behaviours go and stop."""
        self.pause.set()
        self.shutdown()
        self.server_close()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, and count it."""
        super().shutdown_request(request)
        self.closed += 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultAPI

    def do_POST(self) -> None:
        body = faults.whole_body(self)
        if body is None:
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body, time.monotonic())
        self.server.take(request)(self, request)

    do_PUT = do_PATCH = do_GET = do_CONNECT = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        pass
