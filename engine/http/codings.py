"""Decompresses a complete message body within a size limit (RFC 9110 section 8.4.1)."""

from __future__ import annotations

import zlib

import requests

ACCEPTED = "gzip, deflate"
"""The content codings that an answer may use."""
_GZIP = b"\x1f\x8b"
_AUTO = 32 + zlib.MAX_WBITS
"""Detects a zlib or gzip header."""


class BadCoding(ValueError):
    """The bytes are not one complete compressed body within the limit."""


class TooLarge(BadCoding):
    """The body is larger than the limit, as received or decompressed."""


def read(response: requests.Response, limit: int) -> bytes:
    """Read and decompress the body of an answer; urllib3 would accept a truncated compressed body as complete.

    Raises `BadCoding` and urllib3's exceptions.
    """
    content = bytearray()
    for part in response.raw.stream(65536, decode_content=False):
        content += part
        if len(content) > limit:
            raise TooLarge(f"the answer is larger than {limit} bytes")
    return decode(bytes(content), response.headers.get("Content-Encoding"), limit)


def decode(content: bytes, coding: str | None, limit: int) -> bytes:
    """Decompress a body; other codings than gzip and deflate leave it unchanged. Raises `BadCoding`."""
    for name in reversed([part.strip().lower() for part in (coding or "").split(",")]):
        if name in ("gzip", "x-gzip", "deflate") and content:
            content = _unpacked(content, name, limit)
    return content


def _unpacked(content: bytes, name: str, limit: int) -> bytes:
    made = bytearray()
    try:
        while content:
            # Many servers send deflate without zlib's header (RFC 1951), against RFC 9110 section 8.4.1.2.
            bare = name == "deflate" and not made and content[0] & 0x0F != zlib.DEFLATED
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS if bare else _AUTO)
            made += unpacker.decompress(content, limit - len(made) + 1)
            if len(made) > limit:
                raise TooLarge(f"the body is larger than {limit} bytes when it is unpacked ({name})")
            if not unpacker.eof:
                raise BadCoding(f"the packed body ({name}) breaks off in the middle")
            content = unpacker.unused_data
            # A gzip body may have several members (RFC 1952 section 2.2).
            if content and not (name != "deflate" and content.startswith(_GZIP)):
                raise BadCoding(f"something stands behind the end of the packed body ({name})")
    except zlib.error as failure:
        raise BadCoding(f"the body is not {name}, as its Content-Encoding says ({failure})") from None
    return bytes(made)
