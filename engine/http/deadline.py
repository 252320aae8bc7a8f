"""A deadline for a whole call. A socket timeout bounds a single read, so an answer that trickles in would never end."""

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
    """The state of a thread's call: its socket, whether its request was sent, whether its deadline has passed."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds
        self.requesting = False
        self.sent = False
        self.expired = False
        self._sock: socket.socket | None = None
        self._lock = threading.Lock()

    def watch(self, sock: socket.socket) -> None:
        """Set the socket in use; http.client drops its own reference for answers without a length.

        Raises `TimeoutError` if the deadline has passed.
        """
        with self._lock:
            self._sock = sock
            if self.expired:
                raise TimeoutError("the time of the call is up")

    def expire(self) -> None:
        """Shut the connection down, whatever it is waiting for."""
        with self._lock:
            self.expired = True
            if self._sock is not None:
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)


_current = threading.local()


@contextmanager
def call(seconds: float) -> Iterator[Call]:
    """Set a deadline for this thread's call: after `seconds` its connection is shut down."""
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
    """Return the seconds left of this thread's call, or `otherwise` if there is no call."""
    watched: Call | None = getattr(_current, "call", None)
    return max(0.0, watched.ends - time.monotonic()) if watched else otherwise


def not_sent_yet() -> None:
    """Mark this thread's request as not sent: so far it has only fetched a token."""
    watched: Call | None = getattr(_current, "call", None)
    if watched:
        watched.requesting = watched.sent = False


class _Watched:
    """Reports its socket, and the sending of a request's first byte, to the current call."""

    sock: Any
    auto_open: Any
    _begins = False
    """True until the first byte of the request is sent."""

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
        # Connecting to a proxy sends too; only a request over an open connection counts.
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
        """Use the watched connections through a proxy too."""
        return self._watch(super().proxy_manager_for(*args, **kwargs))

    @staticmethod
    def _watch(manager: Any) -> Any:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager
