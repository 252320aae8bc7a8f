"""A deadline for a whole call. Socket timeouts bound one read each, so an answer that drips would never end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from engine.http import framing


class Call:
    """What is known of the call a thread is making: its socket, whether its request has left, whether time is up."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds
        self.requesting = False
        self.sent = False
        self.expired = False
        self._sock: socket.socket | None = None
        self._lock = threading.Lock()

    def watch(self, sock: socket.socket) -> None:
        """Work goes on over this socket; kept here since http.client drops its own for answers without a length.

        Raises `TimeoutError` when the time of the call is up already.
        """
        with self._lock:
            self._sock = sock
            if self.expired:
                raise TimeoutError("the time of the call is up")

    def expire(self) -> None:
        """Break the connection off, whatever it is waiting for."""
        with self._lock:
            self.expired = True
            if self._sock is not None:
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)


_current = threading.local()


@contextmanager
def call(seconds: float) -> Iterator[Call]:
    """Watch over the calls this thread makes inside: after `seconds` the connection is broken off."""
    watched = Call(seconds)
    _current.call = watched
    timer = threading.Timer(seconds, watched.expire)
    timer.daemon = True
    timer.start()
    try:
        yield watched
    finally:
        timer.cancel()
        _current.call = None


def remaining(otherwise: float) -> float:
    """Seconds left of the call that this thread is making; `otherwise` where it makes none."""
    watched: Call | None = getattr(_current, "call", None)
    return max(0.0, watched.ends - time.monotonic()) if watched else otherwise


def not_sent_yet() -> None:
    """What this thread has sent so far was not the request: a token had to be fetched first."""
    watched: Call | None = getattr(_current, "call", None)
    if watched:
        watched.requesting = watched.sent = False


class _Watched:
    """Tells the current call of its socket, and when the first byte of a request leaves."""

    sock: Any
    auto_open: Any
    _begins = False
    """True until the first byte of the request has left."""

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        watched: Call | None = getattr(_current, "call", None)
        if watched:
            watched.watch(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        watched: Call | None = getattr(_current, "call", None)
        if watched:
            watched.requesting = True
        self._begins = True
        super().request(*args, **kwargs)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        watched: Call | None = getattr(_current, "call", None)
        if self.sock is None and self.auto_open:
            self.connect()
        if self._begins and framing.readable(self.sock):
            raise framing.BadAnswer("the server wrote to the connection, or ended it, before the request was sent")
        # Connecting sends too (to a proxy); only a request that leaves over an open connection counts.
        if watched and watched.requesting:
            watched.watch(self.sock)
            watched.sent = True
        self._begins = False
        super().send(data)  # type: ignore[misc]


class _HTTPConnection(_Watched, HTTPConnection):
    response_class = framing.Response


class _HTTPSConnection(_Watched, HTTPSConnection):
    response_class = framing.Response


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class WatchedAdapter(HTTPAdapter):
    """A requests transport whose connections obey `call`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use the watched connections in every pool."""
        super().init_poolmanager(*args, **kwargs)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Use them through a proxy too."""
        return self._watch(super().proxy_manager_for(*args, **kwargs))

    @staticmethod
    def _watch(manager: Any) -> Any:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager
