"""A column looked at as a whole is what each of its values would be, one by one."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.identity import canonical_guids, canonical_key
from engine.spec.field_types import FieldType
from engine.sync.model import Field
from engine.sync.shape import columns

GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
GUIDS = [
    GUID,
    GUID.upper(),
    "{" + GUID + "}",
    f" {GUID} ",
    UUID(GUID),
    GUID[:-1] + "g",
    f"{GUID}\n{GUID}",
    GUID[:-1],
    GUID + "0",
]
OTHERS = [
    None, "", "a", "Ünï", "\ud800", "a\udc00", "\0", "1", "12.5", "\n", 0, 1, -1, 2**70, True, False, 1.5, float("nan"), Decimal("1.10"),
    Decimal("NaN"), b"", b"\x01", b"0" * 16, date(2026, 1, 2), datetime(2026, 1, 2, 3), "2026-01-02", [1], {"a": 1}, object,
]  # fmt: skip
TYPES = sorted(get_args(FieldType))


def one_by_one(field: Field | None, values: list[Any]) -> list[Any] | None:
    convert = columns.converter(field)
    try:
        return [convert(value) for value in values]
    except ValueError:
        return None


def as_a_whole(field: Field | None, values: list[Any]) -> list[Any] | None:
    try:
        return list(columns.column(field)(values))
    except ValueError:
        return None


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # 1 is no True, and NaN is itself


# Runs of one kind, since the quick way is for columns that are all alike.
LISTS = st.one_of(
    st.lists(st.sampled_from(OTHERS), max_size=6),
    st.lists(st.sampled_from(GUIDS), max_size=6),
    st.lists(st.sampled_from([*GUIDS[:2], None]), max_size=6),
    st.lists(st.text(max_size=5) | st.none(), max_size=6),
    st.lists(st.integers() | st.none(), max_size=6),
    st.lists(st.booleans() | st.integers(), max_size=6),
)


@settings(max_examples=300)
@given(LISTS, st.sampled_from([*TYPES, None]), st.booleans())
def test_a_column_is_what_its_values_are(values: list[Any], kind: Any, nullable: bool) -> None:
    field = Field("V", kind, nullable) if kind else None
    assert same(as_a_whole(field, values), one_by_one(field, values))


@pytest.mark.parametrize("kind", TYPES)
def test_an_empty_column_is_empty(kind: Any) -> None:
    assert list(columns.column(Field("V", kind, False))([])) == []


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*GUIDS, *OTHERS[:6]]), max_size=5) | st.lists(st.sampled_from(GUIDS[:2]), max_size=5))
def test_guids_known_by_one_look_are_the_canonical_ones(values: list[Any]) -> None:
    quick = canonical_guids(values)
    if quick is not None:
        assert list(quick) == [canonical_key([value]) for value in values]
    elif all(isinstance(value, str) and len(value) == 36 and value.strip("{}") == value for value in values):
        assert any(value.lower() != GUID for value in values), "a quick look must know the usual form"
