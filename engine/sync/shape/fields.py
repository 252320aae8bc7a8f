"""The field types of a record contract: each converts what databases return for it to what JSON can hold."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from engine.identity import is_guid
from engine.spec.field_types import FieldType

_MOST_DIGITS = 1000


class Broken(ValueError):
    """A value that does not fit its type; the message has the value and what was expected."""

    def __init__(self, value: Any, wanted: str) -> None:
        try:
            shown = repr(value)
        except (ValueError, RecursionError):
            shown = f"a {type(value).__name__}"
        super().__init__(f"{shown if len(shown) <= 80 else shown[:77] + '...'} is not {wanted}")


def guid(value: Any) -> str:
    """Return a GUID in lower case with dashes."""
    if isinstance(value, str):
        text = value.strip()
        if is_guid(text):
            return text.strip("{}").lower()
    elif isinstance(value, UUID):
        return str(value)
    elif isinstance(value, (bytes, bytearray)) and len(value) == 16:
        return str(UUID(bytes=bytes(value)))
    raise Broken(value, "a GUID")


def string(value: Any) -> str:
    """Return text unchanged; numbers, dates and GUIDs in their usual text form."""
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, (bool, bytes, bytearray, dict, list)):
        raise Broken(value, "text")
    if isinstance(value, float) and not math.isfinite(value):
        raise Broken(value, "text")
    if isinstance(value, Decimal):
        return format(decimal(value), "f")
    if isinstance(value, (int, float, UUID)):
        return _digits(value)
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    raise Broken(value, "text")


def integer(value: Any) -> int:
    """Return a whole number from `12`, `'12'` or `12.0`."""
    if isinstance(value, int):
        return int(value)
    try:
        number = Decimal(_plain(value)) if isinstance(value, str) else value
        if isinstance(number, Decimal):
            number = _bounded(number)
        if isinstance(number, (float, Decimal)) and number == int(number):
            return int(number)
    except (InvalidOperation, ValueError, OverflowError):
        pass
    raise Broken(value, "a whole number")


def floating(value: Any) -> float:
    """Return a finite number in double precision."""
    try:
        number = (
            float(_plain(value) if isinstance(value, str) else value)
            if isinstance(value, (int, float, Decimal, str)) and not isinstance(value, bool)
            else math.nan
        )
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Broken(value, "a finite number")
    return number


def decimal(value: Any) -> Decimal:
    """Return a finite number with all its digits."""
    try:
        if isinstance(value, (Decimal, int)) and not isinstance(value, bool):
            number = Decimal(value)
        elif isinstance(value, float):
            number = Decimal(repr(value))
        elif isinstance(value, str):
            number = Decimal(_plain(value))
        else:
            raise Broken(value, "a finite number")
    except InvalidOperation:
        raise Broken(value, "a finite number") from None
    if not number.is_finite():
        raise Broken(value, "a finite number")
    return _bounded(number)


def boolean(value: Any) -> bool:
    """Return a boolean from 0, 1, true or false, as number or text."""
    if isinstance(value, str):
        value = {"1": True, "0": False, "true": True, "false": False}.get(value.strip().lower(), value)
    if isinstance(value, (bytes, bytearray)) and len(value) == 1:
        value = value[0]  # BIT(1) of MySQL
    if isinstance(value, Decimal) and not value.is_finite():
        raise Broken(value, "true or false")
    if isinstance(value, (bool, int, float, Decimal)) and value in (0, 1):
        return bool(value)
    raise Broken(value, "true or false (0, 1, true, false)")


def day(value: Any) -> str:
    """Return an ISO 8601 date; a time of midnight is dropped, any other breaks the contract."""
    if isinstance(value, datetime):
        if value.time() != time():
            raise Broken(value, "a date (it has a time of day)")
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        text = value.strip()
        try:
            return date.fromisoformat(text).isoformat() if len(text) == 10 else day(datetime.fromisoformat(text))
        except ValueError:
            pass
    raise Broken(value, "a date (YYYY-MM-DD, without a time of day)")


def moment(value: Any) -> str:
    """Return an ISO 8601 date and time as stored: no zone is added, no digit is cut."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00"
    if isinstance(value, str):
        text = value.strip()
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise Broken(value, "a date and time (ISO 8601)") from None
        if text[4:5] == "-" and text[7:8] == "-":
            return f"{text}T00:00:00" if len(text) == 10 else f"{text[:10]}T{text[11:]}"
    raise Broken(value, "a date and time (ISO 8601)")


def binary(value: Any) -> str:
    """Return base64, RFC 4648 section 4."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    raise Broken(value, "binary")


def natural(value: Any) -> Any:
    """Return a value of a record without a contract in its JSON form. Raises `Broken` for a type that has none."""
    if value is None or isinstance(value, (bool, int, Decimal)):
        if isinstance(value, Decimal) and not value.is_finite():
            raise Broken(value, "a finite number")
        return _bounded(value) if isinstance(value, Decimal) else value
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, float):
        return floating(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return binary(value)
    if isinstance(value, list):
        return [natural(inner) for inner in value]
    if isinstance(value, dict):
        return {string(key): natural(inner) for key, inner in value.items()}
    raise Broken(value, f"a kind that JSON has a word for ({type(value).__name__})")


def _plain(text: str) -> str:
    """Return a number as databases write it; Python's own grouping (`1_000`) is rejected."""
    if "_" in text:
        raise Broken(text, "a number")
    return text.strip()


def _bounded(number: Decimal) -> Decimal:
    """Return the number, unless writing it out takes more digits than any database holds; then raise `Broken`."""
    if number.is_finite() and abs(number.adjusted()) > _MOST_DIGITS:
        raise Broken(number, f"a number of at most {_MOST_DIGITS} digits")
    return number


def _digits(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python limits the text of an integer to some thousand digits
        raise Broken("a very long integer", "text of reasonable length") from None


def _unicode(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Broken(text, "Unicode text (a lone surrogate)") from None
    return text


CONVERTERS: dict[FieldType, Callable[[Any], Any]] = {
    "guid": guid, "string": string, "int": integer, "float": floating, "decimal": decimal,
    "bool": boolean, "date": day, "datetime": moment, "binary": binary,
}  # fmt: skip
