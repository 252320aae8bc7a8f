"""A TCP proxy that can stop forwarding without closing anything: a connection that died without a word."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class BlackHole:
    """Forwards a free loopback port to another one until `stall`, from where on it swallows all that comes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.stalled = threading.Event()
        self.swallowed = threading.Event()
        """Set once something has come that was not forwarded."""
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Forward nothing more, on old connections and on new ones."""
        self.stalled.set()

    def close(self) -> None:
        """Close everything."""
        for open_socket in [self._listening, *self._sockets]:
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for giver, taker in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(giver, taker), daemon=True).start()

    def _forward(self, giver: socket.socket, taker: socket.socket) -> None:
        with suppress(OSError):
            while data := giver.recv(65536):
                if self.stalled.is_set():
                    self.swallowed.set()
                else:
                    taker.sendall(data)
        if not self.stalled.is_set():
            with suppress(OSError):
                taker.shutdown(socket.SHUT_RDWR)
