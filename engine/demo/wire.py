"""Answers that a server library cannot produce: exact bytes, interim statuses, truncated or badly compressed bodies."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

Part = bytes | float
"""Bytes to send, or seconds to wait."""

_CUT = {
    "status": b"HTTP/1.1 200",
    "headers": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Le",
    "chunk": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"sto',
}


def cut(handler: BaseHTTPRequestHandler, where: str) -> None:
    """Send an answer that ends within its status line, its headers or a chunk."""
    raw(handler, [_CUT[where]], lambda _: False, close=True)


def interim(handler: BaseHTTPRequestHandler, statuses: Sequence[int]) -> None:
    """Send interim answers (1xx) before the final one."""
    for status in statuses:
        known = status in HTTPStatus._value2member_map_
        handler.wfile.write(f"HTTP/1.1 {status} {HTTPStatus(status).phrase if known else 'Interim'}\r\n\r\n".encode())
        handler.wfile.flush()


def raw(handler: BaseHTTPRequestHandler, parts: Sequence[Part], wait: Callable[[float], bool], *, close: bool) -> None:
    """Send these bytes instead of an answer. `wait` sleeps and returns True to stop."""
    handler.close_connection = handler.close_connection or close
    try:
        for part in parts:
            if isinstance(part, float):
                if wait(part):
                    return
            else:
                handler.wfile.write(part)
                handler.wfile.flush()
    except OSError:
        handler.close_connection = True  # the client disconnected


def packed(body: bytes, how: str) -> bytes:
    """Return a body for `Content-Encoding: gzip`: whole, cut in the middle, or with trailing bytes."""
    content = gzip.compress(body, mtime=0)
    return content[: len(content) // 2] if how == "cut" else content + b"garbage" * (how == "trailing")
