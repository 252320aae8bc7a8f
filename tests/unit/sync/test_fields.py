"""Every field type of a record contract, with everything that databases return for it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import petl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sync.counts import Flow
from engine.sync.model import Entity, Field, Rejection
from engine.sync.read.block import ORIGIN
from engine.sync.send.chunk import encode
from engine.sync.shape import shape
from engine.sync.shape.fields import CONVERTERS
from tests import builders
from tests.project import ROOT

GUID = "4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11"
JAKARTA = timezone(timedelta(hours=7))
LONE = "lone \ud800 surrogate"


def entity(*fields: Field | None) -> Entity:
    """An entity with these fields, or without `fields`."""
    made = tuple(field for field in fields if field) or None
    return builders.entity(batch_size=10, page_size=10, fields=made)


def label(value: Any) -> str:
    """A test ID that is the same in every process."""
    shown = "memoryview" if isinstance(value, memoryview) else repr(value)
    return shown[:40].encode("ascii", "replace").decode()


def shaped(value: Any, kind: str | None) -> tuple[list[Any], list[Rejection]]:
    """The sent values of one record whose column `V` holds a value, and the rejections."""
    refused: list[Rejection] = []
    wanted = entity(Field("V", kind.rstrip("?"), kind.endswith("?")) if kind else None)  # type: ignore[arg-type]
    rows = shape.records([[ORIGIN, "V"], ["1", value]], wanted, Flow(refused.append))
    return [row[1] for row in petl.data(rows)], refused


def sent(value: Any, kind: str | None) -> str:
    """The JSON text of the value as it goes on the wire."""
    values, refused = shaped(value, kind)
    assert not refused, refused
    text = encode({"V": values[0]}).decode()
    return text.removeprefix('{"V":').removesuffix("}")


TAKEN: list[tuple[str, Any, str]] = [
    # int
    ("int", 12, "12"),
    ("int", "12", "12"),
    ("int", " 12 ", "12"),
    ("int", 12.0, "12"),
    ("int", Decimal("12"), "12"),
    ("int", Decimal("12.00"), "12"),
    ("int", "-7", "-7"),
    ("int", "+7", "7"),
    ("int", 0, "0"),
    ("int", "007", "7"),
    ("int", "12.0", "12"),
    ("int", True, "1"),
    ("int", False, "0"),
    ("int", 2**63 - 1, "9223372036854775807"),
    ("int", 2**64, "18446744073709551616"),
    ("int", -(2**63) - 1, "-9223372036854775809"),
    ("int", "123456789012345678901234567890", "123456789012345678901234567890"),
    ("int", Decimal("1E+3"), "1000"),
    # bool
    ("bool", 1, "true"),
    ("bool", 0, "false"),
    ("bool", True, "true"),
    ("bool", False, "false"),
    ("bool", "1", "true"),
    ("bool", "0", "false"),
    ("bool", "true", "true"),
    ("bool", "FALSE", "false"),
    ("bool", "True ", "true"),
    ("bool", 1.0, "true"),
    ("bool", 0.0, "false"),
    ("bool", Decimal("1"), "true"),
    ("bool", Decimal("0.0"), "false"),
    ("bool", b"\x01", "true"),
    ("bool", b"\x00", "false"),
    # float
    ("float", 1.5, "1.5"),
    ("float", "1.5", "1.5"),
    ("float", Decimal("1.5"), "1.5"),
    ("float", 3, "3.0"),
    ("float", "1e3", "1000.0"),
    ("float", -0.1, "-0.1"),
    # decimal: every digit
    ("decimal", Decimal("1.10"), "1.10"),
    ("decimal", "1.10", "1.10"),
    ("decimal", 0.1, "0.1"),
    ("decimal", 3, "3"),
    ("decimal", Decimal("1E+3"), "1000"),
    ("decimal", Decimal("0E-10"), "0.0000000000"),
    ("decimal", Decimal("0.0000001"), "0.0000001"),
    ("decimal", Decimal("12345678901234567890.12345678901234567890"), "12345678901234567890.12345678901234567890"),
    ("decimal", "99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
    ("decimal", Decimal("-0.50"), "-0.50"),
    # string
    ("string", "text", '"text"'),
    ("string", "", '""'),
    ("string", "Émile 😀 O'Neil", '"Émile 😀 O\'Neil"'),
    ("string", 12, '"12"'),
    ("string", Decimal("1.10"), '"1.10"'),
    ("string", Decimal("0.0000001"), '"0.0000001"'),
    ("string", Decimal("0E-10"), '"0.0000000000"'),
    ("string", UUID(GUID), f'"{GUID}"'),
    ("string", date(2026, 1, 2), '"2026-01-02"'),
    ("string", datetime(2026, 1, 2, 3, 4, 5), '"2026-01-02T03:04:05"'),
    ("string", time(3, 4, 5), '"03:04:05"'),
    ("string", 'a\u0000b\n"\\', r'"a\u0000b\n\"\\"'),
    ("string", "  kept  ", '"  kept  "'),
    # date
    ("date", date(2026, 1, 2), '"2026-01-02"'),
    ("date", datetime(2026, 1, 2), '"2026-01-02"'),
    ("date", "2026-01-02", '"2026-01-02"'),
    ("date", "2026-01-02 00:00:00", '"2026-01-02"'),
    ("date", "2026-01-02T00:00:00.0000000", '"2026-01-02"'),
    ("date", date(1, 1, 1), '"0001-01-01"'),
    ("date", date(9999, 12, 31), '"9999-12-31"'),
    # datetime: no zone invented, no digit cut
    ("datetime", datetime(2026, 1, 2, 3, 4, 5), '"2026-01-02T03:04:05"'),
    ("datetime", datetime(2026, 1, 2, 3, 4, 5, 123456), '"2026-01-02T03:04:05.123456"'),
    ("datetime", datetime(2026, 1, 2, 3, 4, 5, 7), '"2026-01-02T03:04:05.000007"'),
    ("datetime", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), '"2026-01-02T03:04:05+00:00"'),
    ("datetime", datetime(2026, 1, 2, 3, 4, 5, tzinfo=JAKARTA), '"2026-01-02T03:04:05+07:00"'),
    ("datetime", date(2026, 1, 2), '"2026-01-02T00:00:00"'),
    ("datetime", "2026-01-02", '"2026-01-02T00:00:00"'),
    ("datetime", "2026-01-02 03:04:05", '"2026-01-02T03:04:05"'),
    ("datetime", "2026-01-02T03:04:05", '"2026-01-02T03:04:05"'),
    ("datetime", "2026-01-02 03:04:05.1234567", '"2026-01-02T03:04:05.1234567"'),
    ("datetime", "9999-12-31 23:59:59.9999999", '"9999-12-31T23:59:59.9999999"'),
    ("datetime", "2026-01-02T03:04:05Z", '"2026-01-02T03:04:05Z"'),
    ("datetime", "2026-01-02 03:04:05+07:00", '"2026-01-02T03:04:05+07:00"'),
    ("datetime", datetime(9999, 12, 31), '"9999-12-31T00:00:00"'),
    # guid
    ("guid", GUID, f'"{GUID}"'),
    ("guid", GUID.upper(), f'"{GUID}"'),
    ("guid", "{" + GUID.upper() + "}", f'"{GUID}"'),
    ("guid", UUID(GUID), f'"{GUID}"'),
    ("guid", UUID(GUID).bytes, f'"{GUID}"'),
    ("guid", f"{GUID}    ", f'"{GUID}"'),
    # binary
    ("binary", b"\x00\xff\xfe", '"AP/+"'),
    ("binary", bytearray(b"ab"), '"YWI="'),
    ("binary", memoryview(b"ab"), '"YWI="'),
    ("binary", b"", '""'),
]


@pytest.mark.parametrize(("kind", "value", "text"), TAKEN, ids=label)
def test_a_field_type_takes_what_databases_return(kind: str, value: Any, text: str) -> None:
    assert sent(value, kind) == text
    assert sent(value, f"{kind}?") == text


BROKEN: list[tuple[str, Any]] = [
    *[
        ("int", value)
        for value in (
            12.5,
            "12.5",
            Decimal("12.5"),
            "twelve",
            "",
            " ",
            float("nan"),
            float("inf"),
            "NaN",
            "Infinity",
            b"12",
            [1],
            "0x10",
            "1_000",
            LONE,
        )
    ],
    *[
        ("bool", value)
        for value in (2, -1, "2", "yes", "", 0.5, float("nan"), b"ab", "t", [True], Decimal("0.1"), LONE)
    ],
    *[
        ("float", value)
        for value in (
            float("nan"),
            float("inf"),
            float("-inf"),
            "nan",
            "inf",
            "x",
            "",
            True,
            10**400,
            "1e999",
            Decimal("NaN"),
            "1_000",
            b"1",
            LONE,
        )
    ],
    *[
        ("decimal", value)
        for value in (
            float("nan"),
            float("inf"),
            Decimal("NaN"),
            Decimal("Infinity"),
            "NaN",
            "-Infinity",
            "x",
            "",
            True,
            "1_000",
            b"1",
            LONE,
        )
    ],
    *[
        ("string", value)
        for value in (LONE, b"bytes", bytearray(b"x"), True, float("nan"), float("inf"), {"a": 1}, [1])
    ],
    *[
        ("date", value)
        for value in (
            datetime(2026, 1, 2, 3),
            "2026-01-02 03:04:05",
            "02.01.2026",
            "2026-02-30",
            "",
            20260102,
            time(3),
            LONE,
        )
    ],
    *[
        ("datetime", value)
        for value in (
            "yesterday",
            "",
            "2026-13-01 00:00:00",
            "2026-01-02 25:00:00",
            1767322800,
            time(3),
            b"2026-01-02",
            LONE,
        )
    ],
    *[
        ("guid", value)
        for value in ("", "not-a-guid", GUID[:-1], GUID + "0", 12, b"short", "{" + GUID, GUID.replace("-", "+"), LONE)
    ],
    *[("binary", value) for value in ("text", 1, [1])],
]


@pytest.mark.parametrize(("kind", "value"), BROKEN, ids=label)
def test_a_value_that_breaks_its_contract_is_refused_with_field_and_value(kind: str, value: Any) -> None:
    values, refused = shaped(value, kind)
    assert values == []
    (rejection,) = refused
    assert rejection.id == "1"
    assert "'V'" in rejection.reason
    # The reason names the value, or at least its beginning; a refusal that cannot be read helps nobody.
    assert repr(value)[:20] in rejection.reason


@pytest.mark.parametrize("kind", sorted(CONVERTERS))
def test_null_breaks_a_field_unless_it_is_nullable(kind: str) -> None:
    values, refused = shaped(None, kind)
    assert values == []
    assert "'V'" in refused[0].reason
    assert "NULL" in refused[0].reason
    assert sent(None, f"{kind}?") == "null"


NATURAL: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (7, "7"),
    (2**70, str(2**70)),
    (1.5, "1.5"),
    ("Ünïcode 😀", '"Ünïcode 😀"'),
    (Decimal("1.10"), "1.10"),
    (Decimal("0E-10"), "0.0000000000"),
    (b"\x00\xff", '"AP8="'),
    (bytearray(b"ab"), '"YWI="'),
    (memoryview(b"ab"), '"YWI="'),
    (date(2026, 1, 2), '"2026-01-02"'),
    (time(3, 4, 5, 6), '"03:04:05.000006"'),
    (datetime(2026, 1, 2, 3, 4, 5, 6), '"2026-01-02T03:04:05.000006"'),
    (datetime(2026, 1, 2, 3, 4, 5, tzinfo=JAKARTA), '"2026-01-02T03:04:05+07:00"'),
    (UUID(GUID), f'"{GUID}"'),
    ([1, None, Decimal("2.50")], "[1,null,2.50]"),
    ({"a": {"b": [b"ab", UUID(GUID)]}}, f'{{"a":{{"b":["YWI=","{GUID}"]}}}}'),
    ({"wide": [2**70]}, f'{{"wide":[{2**70}]}}'),
    ({1: "one"}, '{"1":"one"}'),
]


@pytest.mark.parametrize(("value", "text"), NATURAL, ids=label)
def test_without_fields_every_column_is_sent_as_it_comes(value: Any, text: str) -> None:
    assert sent(value, None) == text


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("Infinity"),
        LONE,
        [float("nan")],
        {"a": [float("-inf")]},
        {LONE: 1},
        object(),
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
def test_without_fields_what_json_has_no_word_for_is_refused(value: Any) -> None:
    values, refused = shaped(value, None)
    assert values == []
    assert "'V'" in refused[0].reason


def test_a_deeply_nested_value_stops_only_its_own_record() -> None:
    nested: Any = 1
    for _ in range(3000):
        nested = [nested]
    refused: list[Rejection] = []
    rows = shape.records([[ORIGIN, "V"], ["1", nested], ["2", "fine"]], entity(), Flow(refused.append))
    assert [row[1] for row in petl.data(rows)] == ["fine"]
    assert [rejection.id for rejection in refused] == ["1"]


def test_a_long_value_is_cut_in_the_reason() -> None:
    _, refused = shaped("x" * 100_000, "int")
    assert len(refused[0].reason) < 300


@given(st.integers())
def test_every_whole_number_survives_as_number_and_as_text(number: int) -> None:
    assert json.loads(sent(number, "int")) == json.loads(sent(str(number), "int")) == number


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_every_decimal_keeps_every_digit(number: Decimal) -> None:
    assert json.loads(sent(number, "decimal"), parse_float=Decimal, parse_int=Decimal) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_comes_back_the_same(number: float) -> None:
    assert json.loads(sent(number, "float")) == number


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_unicode_text_comes_back_the_same(text: str) -> None:
    assert json.loads(sent(text, "string")) == json.loads(sent(text, None)) == text


@given(st.datetimes())
def test_every_datetime_comes_back_the_same_and_naive(moment: datetime) -> None:
    assert datetime.fromisoformat(json.loads(sent(moment, "datetime"))) == moment
    assert datetime.fromisoformat(json.loads(sent(moment.isoformat(" "), "datetime"))) == moment


@given(st.binary())
def test_every_binary_comes_back_the_same(data: bytes) -> None:
    import base64

    assert base64.b64decode(json.loads(sent(data, "binary")), validate=True) == data


GREEDY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from tests.unit.sync.test_fields import shaped
from engine.sync.send.chunk import encode
values, refused = shaped({value!r}, {kind!r})
try:
    sizes = [len(encode({{"V": value}})) for value in values]
except TypeError:
    sizes = []
print(len(refused), max(sizes, default=0))
"""


@pytest.mark.parametrize(("value", "kind"), [("1e999999999", "int"), ("1e999999999", "decimal"), ("9e5000", "int")])
def test_a_number_with_a_monstrous_exponent_never_takes_the_machine_down(value: str, kind: str) -> None:
    script = GREEDY.format(value=value, kind=kind)
    try:
        finished = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.fail("one value kept the process busy for more than a minute")
    assert finished.returncode == 0, finished.stderr[-500:]
    assert finished.stdout.split() == ["1", "0"], "one refused, none sent"
