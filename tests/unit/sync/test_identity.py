"""IDs in one canonical text form: what one record's ID is, however a driver spells it."""

from __future__ import annotations

import json
import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.identity import InvalidID, canonical, canonical_key, compose, is_guid, parse


def _name(value: Any) -> str:
    return f"{type(value).__name__}{len(value) if isinstance(value, str) else ''}"


GUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (GUID, GUID),
        (GUID.upper(), GUID),
        ("{" + GUID.upper() + "}", GUID),
        (GUID.upper() + "   ", GUID),
        (uuid.UUID(GUID), GUID),
        (0, "0"),
        (-7, "-7"),
        (2**70, str(2**70)),
        (Decimal("12"), "12"),
        (Decimal("12.000"), "12"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1.50"), "1.50"),
        (Decimal("12345678901234567890123456789012345678"), "12345678901234567890123456789012345678"),
        (12.0, "12"),
        (1e15, "1000000000000000"),
        ("abc", "abc"),
        ("abc   ", "abc"),
        ("  abc", "  abc"),
        ("01", "01"),
        ("1", "1"),
        ("ABC", "ABC"),
        ("\N{GRINNING FACE}", "\N{GRINNING FACE}"),
        ("x'y\"z\n", "x'y\"z\n"),
        (b"\x00\xff", "0x00ff"),
        (bytearray(b"\x01"), "0x01"),
        (memoryview(b"\x01"), "0x01"),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        (datetime(2026, 1, 2, 3, 4, 5, 678000), "2026-01-02T03:04:05.678000"),
        (date(2026, 1, 2), "2026-01-02"),
    ],
    ids=_name,
)
def test_every_kind_of_id_has_one_text(value: Any, text: str) -> None:
    assert canonical(value) == text
    assert canonical_key([value]) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "NULL"),
        ("", "empty"),
        ("    ", "empty"),
        (True, "true or false"),
        (False, "true or false"),
        (1.5, "float"),
        (float("nan"), "float"),
        (float("inf"), "float"),
        (Decimal("NaN"), "Decimal"),
        (Decimal("Infinity"), "Decimal"),
        ("a\udca0", "surrogate"),
        ([1], "list"),
        ({"a": 1}, "dict"),
        (object, "type"),
    ],
    ids=_name,
)
def test_what_cannot_name_a_record_is_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(InvalidID, match=reason):
        canonical(value)
    with pytest.raises(InvalidID):
        canonical_key([1, value])


@pytest.mark.parametrize("text", ["a\0b", "\0", "abc\0"])
def test_an_id_with_a_nul_is_refused_because_no_database_keeps_it_whole(text: str) -> None:
    with pytest.raises(InvalidID):
        canonical(text)


def test_an_id_longer_than_the_tracking_column_is_refused_and_the_longest_is_not() -> None:
    assert canonical_key(["x" * 255]) == "x" * 255
    assert canonical_key(["x" * 255 + "   "]) == "x" * 255
    with pytest.raises(InvalidID, match="256"):
        canonical_key(["x" * 256])
    with pytest.raises(InvalidID, match="255"):
        canonical_key(["x" * 127, "y" * 127])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([10001, "d005"], '["10001","d005"]'),
        ([10001, "d005  "], '["10001","d005"]'),
        ([GUID.upper(), Decimal("2.0")], f'["{GUID}","2"]'),
        (['a"b', "c\\d"], '["a\\"b","c\\\\d"]'),
        (["é", "\N{GRINNING FACE}"], '["é","\N{GRINNING FACE}"]'),
        ([1, 2, date(2026, 1, 2)], '["1","2","2026-01-02"]'),
    ],
    ids=_name,
)
def test_a_composite_key_is_a_json_array_of_texts_without_spaces(values: list[Any], text: str) -> None:
    assert canonical_key(values) == text


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ('["10001","d005"]', '["10001","d005"]'),
        ('[ "10001" , "d005" ]', '["10001","d005"]'),
        ('[10001, "d005"]', '["10001","d005"]'),
        (f'["{GUID.upper()}", "x "]', f'["{GUID}","x"]'),
    ],
)
def test_a_composite_key_may_be_typed_with_spaces_and_numbers(typed: str, text: str) -> None:
    assert parse(typed, 2) == text


@pytest.mark.parametrize("typed", ["10001", '["10001"]', '["1","2","3"]', '{"a":1,"b":2}', '["1",', "", '["1",null]'])
def test_what_is_typed_for_a_composite_key_and_is_none_is_refused(typed: str) -> None:
    with pytest.raises(InvalidID):
        parse(typed, 2)


def test_one_column_is_typed_as_it_is() -> None:
    assert parse(GUID.upper(), 1) == GUID
    assert parse("4711", 1) == "4711"
    assert parse('["1","2"]', 1) == '["1","2"]'
    with pytest.raises(InvalidID):
        parse("", 1)


@pytest.mark.parametrize("text", [GUID[:-1], GUID + "0", GUID.replace("-", ""), "{" + GUID, GUID.replace("f", "g")])
def test_text_that_is_not_quite_a_guid_keeps_its_case(text: str) -> None:
    assert not is_guid(text)
    assert canonical(text.upper()) == text.upper()


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60).filter(
    lambda text: text.strip(" ") != ""
)
values = st.one_of(
    words,
    st.integers(),
    st.uuids(),
    st.uuids().map(lambda value: str(value).upper()),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20),
    st.datetimes(),
    st.dates(),
    st.binary(max_size=30),
)


@given(values)
def test_the_canonical_form_of_a_canonical_form_is_itself(value: Any) -> None:
    text = canonical(value)
    assert canonical(text) == text
    assert text == text.rstrip(" ")


@given(st.integers(), st.integers())
def test_two_integers_are_one_id_only_if_they_are_equal(one: int, other: int) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)
    assert canonical(one) == canonical(Decimal(one))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=4))
def test_a_decimal_loses_no_digit(value: Decimal) -> None:
    assert Decimal(canonical(value)) == value


@given(st.lists(words.map(canonical), min_size=2, max_size=4))
def test_composite_keys_make_the_round_trip(parts: list[str]) -> None:
    text = compose(parts)
    assert json.loads(text) == parts
    if len(text.encode("utf-16-le")) // 2 <= 255:  # as the column counts
        assert parse(text, len(parts)) == canonical_key(parts) == text


@given(st.tuples(words, words), st.tuples(words, words))
def test_different_composite_keys_have_different_texts(one: tuple[str, str], other: tuple[str, str]) -> None:
    same = [canonical(part) for part in one] == [canonical(part) for part in other]
    assert (compose([canonical(part) for part in one]) == compose([canonical(part) for part in other])) == same
