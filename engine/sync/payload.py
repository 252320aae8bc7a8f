"""The bytes of a call: records joined into a JSON array, and taken apart again where each must be known alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import orjson

_DECODER = json.JSONDecoder()


def joined(parts: Sequence[bytes], wrap: str | None) -> bytes:
    """A JSON array of records (each JSON already), in an object under the key `wrap` where one is given."""
    payload = b"[" + b",".join(parts) + b"]"
    return b"{" + orjson.dumps(wrap) + b":" + payload + b"}" if wrap else payload


def records(payload: bytes) -> list[bytes]:
    """What `joined` was given, byte by byte: numbers keep every digit."""
    text = payload.decode()
    at = 0
    if text.startswith("{"):
        _, at = _DECODER.raw_decode(text, 1)
        at += 1  # the colon
    parts: list[bytes] = []
    at += 1
    while text[at] != "]":
        at += text[at] == ","
        _, end = _DECODER.raw_decode(text, at)
        parts.append(text[at:end].encode())
        at = end
    return parts


def content_hash(record: bytes) -> str:
    """What tells one content of a record from another: 128 bits of BLAKE2b, as hexadecimal text."""
    return hashlib.blake2b(record, digest_size=16).hexdigest()
