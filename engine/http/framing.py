"""Strict framing of answers: http.client tolerates what RFC 9112 calls an incomplete or invalid message."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from urllib3.exceptions import HeaderParsingError
from urllib3.util.response import assert_header_parsing

MAX_INTERIM = 100
"""Interim answers (1xx) allowed before the final one; more count as no answer."""
_MAX_LINE = 65536
"""Maximum bytes of one line; http.client limits header lines, but not those after a chunked body."""
_SHOWN = 80
"""Up to this length, server text is quoted in full; longer text is cut much shorter, so as not to show half a secret."""


class BadAnswer(http.client.HTTPException):
    """The bytes received are not one complete answer to the request."""


class _Reader(io.BufferedReader):
    """Reads complete lines only. `ended` is True if the connection had ended where a line was expected."""

    ended = False

    def readline(self, size: int | None = -1, /) -> bytes:
        limit = _MAX_LINE + 1 if size is None or size < 0 else size
        line = super().readline(limit)
        if line.endswith(b"\n"):
            return line
        if len(line) > _MAX_LINE:
            raise BadAnswer(f"a line of the answer is longer than {_MAX_LINE} bytes")
        if line:
            raise BadAnswer(f"the connection ended within a line of the answer: {_shown(line.decode('latin-1'))}")
        self.ended = True
        return line


class Response(http.client.HTTPResponse):
    """One answer. Interim ones (1xx) are skipped; truncation and invalid framing raise `BadAnswer`.

    `surplus` holds bytes received after the end of the answer: the connection must then not be reused.
    """

    fp: Any
    surplus = b""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp = _Reader(self.fp.detach())
        self._socket = sock
        self._interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        try:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]  # typeshed leaves it out
        except http.client.BadStatusLine as failure:
            if isinstance(failure, http.client.RemoteDisconnected):
                raise
            raise BadAnswer(f"the answer does not begin with a status line of HTTP/1: {_shown(str(failure))}") from None
        if not found[0].startswith(("HTTP/1.", "HTTP/0.9")):
            raise BadAnswer(f"the answer is of another version than HTTP/1: {_shown(found[0])}")
        if 100 <= found[1] < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise BadAnswer(f"more than {MAX_INTERIM} interim answers (1xx) and no final one")
        return found

    def begin(self) -> None:
        """Read the final status and the headers. RFC 9110 section 15.2: a client must be able to parse any number of 1xx."""
        if self.headers is not None:
            return
        super().begin()
        self._whole_headers()
        while 100 <= self.status < 200:
            if self.status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise BadAnswer("HTTP 101: the server switches to another protocol, which nobody asked for")
            self.headers = self.msg = None  # makes begin() read again
            super().begin()
            self._whole_headers()
        self._check_length()

    def _whole_headers(self) -> None:
        """RFC 9112 section 8: headers without the final empty line are incomplete."""
        if self.fp.ended:
            raise BadAnswer(f"the connection ended within the headers of an answer (HTTP {self.status})")
        try:
            assert_header_parsing(self.headers)
        except HeaderParsingError:
            raise BadAnswer(f"the headers of the answer (HTTP {self.status}) are not all `name: value`") from None

    def _check_length(self) -> None:
        """Check how the body's length is determined (RFC 9112 section 6.3)."""
        if self.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            return
        coding = (self.headers.get("Transfer-Encoding") or "identity").strip().lower()
        lines = self.headers.get_all("Content-Length") or []
        if coding not in ("chunked", "identity") or len(self.headers.get_all("Transfer-Encoding") or []) > 1:
            raise BadAnswer(f"Transfer-Encoding {_shown(coding)!r} is not supported")
        if coding == "chunked":
            # Both headers are a sign of a confused server or proxy: the chunks count, and the connection is not reused.
            self.will_close = self.will_close or bool(lines)
        elif lines:
            lengths = {text.strip() for line in lines for text in line.split(",")}
            text = lengths.pop()
            if lengths or not (text.isascii() and text.isdecimal() and len(text) < 19):
                raise BadAnswer(f"Content-Length {_shown(', '.join(lines))!r} is not one whole number")
            self.length = int(text)
            self.will_close = self._check_close()  # type: ignore[attr-defined]  # typeshed leaves it out

    def _close_conn(self) -> None:
        """Called at the end of the body or of the connection."""
        if self.fp is not None:
            self.surplus = waiting(self._socket, self.fp)
        super()._close_conn()  # type: ignore[misc]  # typeshed leaves it out


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 4]}..."


def waiting(sock: socket.socket, reader: io.BufferedReader) -> bytes:
    """Return the bytes received but not yet read, without blocking."""
    found = b""
    with suppress(OSError, ValueError):
        before = sock.gettimeout()
        sock.settimeout(0)
        try:
            found = reader.peek()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        finally:
            sock.settimeout(before)
    return found


def readable(sock: socket.socket) -> bool:
    """True if the server sent data or closed the connection before the request. Consumes one byte."""
    try:
        before = sock.gettimeout()
        sock.settimeout(0)
        try:
            sock.recv(1)
        finally:
            sock.settimeout(before)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    except OSError:
        return True
    return True
