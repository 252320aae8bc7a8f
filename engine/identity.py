"""The one canonical text form in which IDs are written, compared and typed on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

MAX_LENGTH = 255
"""Characters that `EntityId` holds."""

_GUID = re.compile(r"\{?[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\}?")
_DIGITS = bytes.maketrans(b"123456789abcdef", b"000000000000000")
_ZEROS = b"00000000-0000-0000-0000-000000000000\n"


class InvalidID(ValueError):
    """The value cannot name a record; the text says why."""


def is_guid(text: str) -> bool:
    """True for the 36-character form, with or without braces, in either case."""
    return len(text) in (36, 38) and _GUID.fullmatch(text) is not None


def canonical_guids(values: Sequence[Any]) -> Sequence[str] | None:
    """The canonical forms where all values are GUIDs of 36 characters, in one quick look; None where any is something else."""
    try:
        text = "\n".join([*values, ""])
        if text.encode("ascii").translate(_DIGITS) == _ZEROS * len(values):
            return values
        lower = text.lower()
        return lower.split("\n")[:-1] if lower.encode("ascii").translate(_DIGITS) == _ZEROS * len(values) else None
    except (TypeError, UnicodeEncodeError):
        return None


def canonical(value: Any) -> str:
    """Canonical text of one ID value.

    GUIDs (by shape or driver type) become lower case with dashes, integers decimal, and the padding of CHAR columns
    goes. Raises `InvalidID` for NULL, empty text, text that is not Unicode, and kinds that cannot be an ID.
    """
    if isinstance(value, str):
        text = value.rstrip(" ")
        if is_guid(text):
            return text.strip("{}").lower()
        _check(text)
        return text
    return _canonical_other(value)


def canonical_key(values: Sequence[Any]) -> str:
    """Canonical text of a record's ID: of its one column, or a JSON array of texts for several."""
    text = canonical(values[0]) if len(values) == 1 else compose([canonical(value) for value in values])
    # SQL Server counts UTF-16 units: an emoji is two.
    length = len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
    if length > MAX_LENGTH:
        raise InvalidID(f"the ID has {length} characters; the tracking table holds {MAX_LENGTH}")
    return text


def clip(text: str) -> str:
    """As much of a text as the column holds, for an ID that cannot be one."""
    clipped = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    while len(clipped.encode("utf-16-le")) // 2 > MAX_LENGTH:
        clipped = clipped[:-1] if len(clipped) <= MAX_LENGTH else clipped[:MAX_LENGTH]
    return clipped


def compose(parts: Sequence[str]) -> str:
    """A composite key as text: `["10001","d005"]`."""
    return orjson.dumps(list(parts)).decode()


def parse(text: str, columns: int) -> str:
    """The canonical form of an ID as a person typed it. Raises `InvalidID`."""
    if columns == 1:
        return canonical_key([text])
    try:
        parts = orjson.loads(text)
    except orjson.JSONDecodeError:
        parts = None
    if not isinstance(parts, list) or len(parts) != columns:
        raise InvalidID(
            f'this entity\'s ID has {columns} columns: write it as a JSON array, such as \'["10001","d005"]\''
        )
    return canonical_key(parts)


def _canonical_other(value: Any) -> str:
    match value:
        case None:
            raise InvalidID("the ID is NULL")
        case bool():
            raise InvalidID("the ID is true or false, which cannot name a record")
        case int():
            return str(value)
        case UUID():
            return str(value)
        case Decimal() if value.is_finite():
            return format(value.to_integral_value() if value == value.to_integral_value() else value, "f")
        case float() if value.is_integer():
            return str(int(value))
        case datetime() | date():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return "0x" + bytes(value).hex()
    raise InvalidID(f"a value of type {type(value).__name__} ({value!r}) cannot be an ID")


def _check(text: str) -> None:
    if not text:
        raise InvalidID("the ID is empty")
    if "\0" in text:
        raise InvalidID("the ID has a NUL character")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidID("the ID is not Unicode text (a lone surrogate)") from None
