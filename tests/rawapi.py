"""A raw socket server: it reads whole requests and answers with exactly the bytes it was given, pauses and all."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

END = object()
"""End the connection (FIN)."""

Part = Any
"""Bytes to send, seconds to wait (float), or `END`."""
Answer = list[Part] | Callable[["Received"], list[Part]]


def whole(status: str = "200 OK", body: bytes = b"{}", *headers: str) -> bytes:
    """A whole answer with its length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class Received:
    """One request, and the number of the connection that it came over."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def ids(self) -> list[int]:
        """The IDs of its records."""
        return [record["Id"] for record in json.loads(self.body)]


@dataclass
class RawAPI:
    """The server. Each path has its answers in order; the last one stays. `greeting` is sent to whoever connects."""

    greeting: bytes = b""
    requests: list[Received] = field(default_factory=list)
    _answers: dict[str, list[Answer]] = field(default_factory=dict)
    _connections: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def script(self, path: str, *answers: Answer) -> None:
        """What the next requests to a path get."""
        self._answers[path] = list(answers)

    def of(self, path: str) -> list[Received]:
        """The requests to a path."""
        with self._lock:
            return [request for request in self.requests if request.path == path]

    def stop(self) -> None:
        """Close everything."""
        self._stop.set()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._server.accept()
            except OSError:
                return
            self._connections += 1
            threading.Thread(target=self._serve, args=(taken, self._connections), daemon=True).start()

    def _serve(self, taken: socket.socket, number: int) -> None:
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with taken, taken.makefile("rb") as reader:
            try:
                taken.sendall(self.greeting)
                while (request := _request(reader, number)) and self._answer(taken, request):
                    pass
            except OSError:
                pass  # the client left

    def _answer(self, taken: socket.socket, request: Received) -> bool:
        """True while the connection goes on."""
        with self._lock:
            self.requests.append(request)
            answers = self._answers.get(request.path) or [[whole()]]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        for part in answer(request) if callable(answer) else answer:
            if part is END:
                return False
            if isinstance(part, float):
                self._stop.wait(part)
            else:
                taken.sendall(part)
        return True


def _request(reader: Any, number: int) -> Received | None:
    line = reader.readline().split()
    if not line:
        return None
    headers: dict[str, str] = {}
    while (text := reader.readline().strip()) != b"":
        name, _, value = text.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Received(line[1].decode(), headers, reader.read(int(headers.get("content-length", 0))), number)
