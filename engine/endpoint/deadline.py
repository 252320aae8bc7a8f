"""A deadline for a whole call. Socket timeouts bound one read each, so an answer that drips would never end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Call:
    """What is known of the call a thread is making: its socket, whether its request has left, whether time is up."""

    def __init__(self) -> None:
        self.connection: HTTPConnection | None = None
        self.requesting = False
        self.sent = False
        self.expired = False

    def expire(self) -> None:
        """Break the connection off, whatever it is waiting for."""
        self.expired = True
        sock = self.connection.sock if self.connection else None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


_current = threading.local()


@contextmanager
def call(seconds: float) -> Iterator[Call]:
    """Watch over the calls this thread makes inside: after `seconds` the connection is broken off."""
    watched = Call()
    _current.call = watched
    timer = threading.Timer(seconds, watched.expire)
    timer.daemon = True
    timer.start()
    try:
        yield watched
    finally:
        timer.cancel()
        _current.call = None


class _Watched:
    """Tells the current call of its connection, and when the first byte of a request leaves."""

    def connect(self) -> None:
        self._tell(requesting=None)
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._tell(requesting=True)
        super().request(*args, **kwargs)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        watched: Call | None = getattr(_current, "call", None)
        # Connecting sends too (to a proxy); only a request that leaves over an open connection counts.
        if self.sock is None and self.auto_open:  # type: ignore[attr-defined]
            self.connect()
        if watched and watched.requesting:
            watched.sent = True
        super().send(data)  # type: ignore[misc]

    def _tell(self, *, requesting: bool | None) -> None:
        watched: Call | None = getattr(_current, "call", None)
        if watched:
            watched.connection = self  # type: ignore[assignment]
            if requesting is not None:
                watched.requesting = requesting


class _HTTPConnection(_Watched, HTTPConnection):
    pass


class _HTTPSConnection(_Watched, HTTPSConnection):
    pass


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
