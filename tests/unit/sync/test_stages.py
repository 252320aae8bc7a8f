"""Each stage alone, on plain petl tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import petl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EntityError, SourceError
from engine.sync.counts import Counts, Flow
from engine.sync.ledger.lookup import Known
from engine.sync.model import Batch, Entity, Field, Rejection
from engine.sync.read import exclude
from engine.sync.read.block import ORIGIN, ROWS
from engine.sync.send import chunk
from engine.sync.shape import shape
from engine.sync.shape.operations import make
from tests import builders
from tests.project import ROOT

GUID = "4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11"


class Watched(petl.Table):  # type: ignore[misc]
    """A petl table that counts how often it is iterated and how many data rows were taken."""

    def __init__(self, header: Sequence[str], rows: Any) -> None:
        self.header, self.rows = header, rows
        self.passes = 0
        self.taken = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        yield tuple(self.header)
        for row in self.rows:
            self.taken += 1
            yield row


class Lookup:
    """What a ledger would answer, and what it was asked."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.asked: list[list[str]] = []

    def __call__(self, ids: Sequence[str]) -> Known:
        self.asked.append(list(ids))
        return Known(self.known & set(ids))


def entity(**keys: Any) -> Entity:
    return builders.entity(**{"query": "q", "batch_size": 3, "page_size": 10, "isolate": (), **keys})


def never(rejection: Rejection) -> None:
    """For tables in which nothing is to be rejected."""
    raise AssertionError(f"rejected: {rejection}")


def due(values: Sequence[Any], lookup: Lookup | None = None, **keys: Any) -> tuple[list[str], list[Rejection], Counts]:
    """IDs that pass `exclude` for a one-column table, what was rejected, and the counts."""
    refused: list[Rejection] = []
    counts = Counts()
    table = exclude.tracked(
        [["Id"], *[[value] for value in values]],
        ["Id"],
        lookup or Lookup(),
        Flow(refused.append, counts),
        **keys,
    )
    return [row[0] for row in petl.data(table)], refused, counts


# exclude


def test_the_ledger_is_asked_once_per_page() -> None:
    lookup = Lookup("2", "5")
    passed, refused, counts = due([1, 2, 3, 4, 5, 6, 7], lookup, page_size=3)
    assert passed == ["1", "3", "4", "6", "7"]
    assert lookup.asked == [["1", "2", "3"], ["4", "5", "6"], ["7"]]
    assert (counts.excluded, refused) == (2, [])


def test_a_page_that_is_just_full_asks_no_more() -> None:
    lookup = Lookup()
    due([1, 2, 3, 4], lookup, page_size=2)
    assert [len(asked) for asked in lookup.asked] == [2, 2]


def test_nothing_is_read_before_iteration_and_the_source_runs_once() -> None:
    source, lookup = Watched(["Id", "Name"], [(number, "x") for number in range(10)]), Lookup()
    table = exclude.tracked(source, ["Id"], lookup, Flow(never), page_size=4)
    assert (source.passes, source.taken, lookup.asked) == (0, 0, [])
    rows = iter(table)
    assert next(rows) == (ORIGIN, "Id", "Name")
    assert (source.taken, lookup.asked) == (0, [])
    next(rows)
    assert (source.taken, len(lookup.asked)) == (4, 1)
    assert len(list(rows)) == 9
    assert (source.passes, source.taken) == (1, 10)


def test_the_whole_path_of_stages_reads_the_source_once() -> None:
    source = Watched(["Id", "Name"], [(number, "x") for number in range(10)])
    table = exclude.tracked(source, ["Id"], Lookup(), Flow(never), page_size=4)
    batches = chunk.batches(shape.records(table, entity(), Flow(never)), entity(), Flow(never))
    assert source.passes == 0
    assert sum(len(batch.ids) for batch in batches) == 10
    assert source.passes == 1


def test_transforms_read_the_source_once_too() -> None:
    operations = (
        make("rename", {"Name": "FullName"}),
        make("convert", {"FullName": "upper"}),
        make("add", {"Two": "Id * 2"}),
        make("select", "Id > 0"),
        make("fill", {"FullName": ""}),
        make("move", {"FullName": 0}),
        make("cut", ["Id", "FullName"]),
    )
    source = Watched(["Id", "Name"], [(number, "x") for number in range(10)])
    table = exclude.tracked(source, ["Id"], Lookup(), Flow(never), page_size=4)
    shaped = shape.records(table, entity(transform=operations), Flow(never))
    assert sum(1 for _ in chunk.batches(shaped, entity(), Flow(never))) == 3
    assert source.passes == 1, "every pass is a query at the source"


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (1, "1"),
        ("1", "1"),
        (1.0, "1"),
        (Decimal("1"), "1"),
        (Decimal("1.00"), "1"),
        (Decimal("1E+2"), "100"),
        (2**70, str(2**70)),
        (GUID.upper(), GUID),
        ("{" + GUID + "}", GUID),
        (UUID(GUID), GUID),
        (f"{GUID.upper()}  ", GUID),
        ("d005", "d005"),
        ("d005      ", "d005"),
        ("D005", "D005"),
        ("  d005", "  d005"),
        ("Ünï 😀", "Ünï 😀"),
        (datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"),
        (b"\x0a\xff", "0x0aff"),
    ],
    ids=ascii,
)
def test_an_id_is_known_in_whatever_form_the_driver_returns_it(value: Any, known: str) -> None:
    passed, refused, counts = due([value], Lookup(known))
    assert (passed, refused, counts.excluded) == ([], [], 1)
    assert due([value])[0] == [known]


@pytest.mark.parametrize(("one", "other"), [("D005", "d005"), ("1", "01"), ("1", "1.5"), (" 1", "1")])
def test_ids_that_differ_are_two_records(one: str, other: str) -> None:
    assert due([one, other], Lookup(one))[0] == [other]


@pytest.mark.parametrize(
    "value",
    [None, "", "   ", True, float("nan"), float("inf"), 1.5, Decimal("NaN"), "\ud800", "x" * 256, [1]],
    ids=ascii,
)
def test_a_row_without_a_usable_id_is_rejected_and_stops_no_other(value: Any) -> None:
    lookup = Lookup()
    passed, refused, _ = due([1, value, 2], lookup)
    assert passed == ["1", "2"]
    assert len(refused) == 1
    assert refused[0].reason
    assert lookup.asked == [["1", "2"]]
    refused[0].id.encode()  # what names the row can be written


def test_a_null_id_is_rejected_without_a_name() -> None:
    _, refused, _ = due([None, None])
    assert [(rejection.id, "NULL" in rejection.reason) for rejection in refused] == [("", True), ("", True)]


def test_of_a_repeated_id_the_first_record_is_taken_and_the_others_are_rejected() -> None:
    refused: list[Rejection] = []
    rows = [["Id", "Name"], [1, "first"], ["1", "second"], [2, "other"], [1.0, "third"]]
    table = exclude.tracked(rows, ["Id"], Lookup(), Flow(refused.append))
    assert [row[2] for row in petl.data(table)] == ["first", "other"]
    assert [rejection.id for rejection in refused] == ['raw:"1"', "1"]
    assert ["same canonical form" in refused[0].reason, "twice" in refused[1].reason] == [True, True]


def test_a_record_that_repeats_a_tracked_id_was_never_sent_and_is_rejected() -> None:
    passed, refused, counts = due([1, 1], Lookup("1"))
    assert (passed, [rejection.id for rejection in refused], counts.excluded) == ([], ["1"], 1)


def test_a_composite_id_is_a_json_array_of_texts() -> None:
    refused: list[Rejection] = []
    rows = [["Emp", "Dept"], [10001, "d005  "], ["10001", "d006"], [None, "d007"], ["10001", "d005"], ['a","b', "c"]]
    lookup = Lookup('["10001","d006"]')
    table = exclude.tracked(rows, ["Emp", "Dept"], lookup, Flow(refused.append))
    assert [row[0] for row in petl.data(table)] == ['["10001","d005"]', '["a\\",\\"b","c"]']
    assert [rejection.id for rejection in refused] == ["", 'raw:["10001", "d005"]']


def test_a_composite_id_may_stand_in_any_order_of_columns() -> None:
    rows = [["Dept", "Name", "Emp"], ["d005", "x", 1]]
    (row,) = petl.data(exclude.tracked(rows, ["Emp", "Dept"], Lookup(), Flow(never)))
    assert row[0] == '["1","d005"]'
    assert tuple(row[1:]) == ("d005", "x", 1)


def test_a_source_without_rows_asks_nothing() -> None:
    lookup = Lookup()
    passed, refused, counts = due([], lookup)
    assert (passed, refused, lookup.asked, counts.read) == ([], [], [], 0)


def test_a_run_that_stops_early_counts_no_record_that_it_did_not_come_to() -> None:
    counts = Counts()
    table = exclude.tracked([["Id"], *[[number] for number in range(9)]], ["Id"], Lookup("1"), Flow(never, counts))
    made = chunk.batches(shape.records(table, entity(), Flow(never, counts)), entity(), Flow(never, counts))
    assert next(made).ids == ("0", "2", "3")
    assert (counts.read, counts.excluded, counts.due) == (4, 1, 3)


@given(st.lists(st.integers(-20, 20)), st.sets(st.integers(-20, 20)), st.integers(1, 7))
def test_every_record_is_excluded_or_rejected_or_passed_whatever_comes(
    values: list[int], known: set[int], size: int
) -> None:
    passed, refused, counts = due(values, Lookup(*map(str, known)), page_size=size)
    assert len(values) == counts.excluded + len(refused) + len(passed)
    assert {int(id_) for id_ in passed} == set(values) - known


# shape


def with_origin(header: Sequence[str], *rows: Sequence[Any]) -> list[list[Any]]:
    return [[ORIGIN, *header], *[[str(row[0]), *row] for row in rows]]


def test_records_have_exactly_the_fields_of_the_contract_in_its_order() -> None:
    fields = (Field("Name", "string", False), Field("Id", "guid", False), Field("Active", "bool", True))
    table = with_origin(
        ["Id", "Secret", "Active", "Name"], [GUID.upper(), "x", 1, "Ann"], [UUID(GUID), "y", None, "Bob"]
    )
    rows = list(shape.records(table, entity(fields=fields), Flow(never)))
    assert tuple(rows[0]) == (ORIGIN, "Name", "Id", "Active")
    assert [tuple(row[1:]) for row in rows[1:]] == [("Ann", GUID, True), ("Bob", GUID, None)]


def test_without_a_contract_every_column_stays_but_the_origin() -> None:
    rows = list(shape.records(with_origin(["Id", "Name"], [1, "x"]), entity(), Flow(never)))
    assert tuple(rows[0][1:]) == ("Id", "Name")
    assert tuple(rows[1][1:]) == (1, "x")


def test_a_field_that_no_column_gives_is_an_error_of_the_entity() -> None:
    shaped = shape.records(with_origin(["Id"], [1]), entity(fields=(Field("Nmae", "string", False),)), Flow(never))
    with pytest.raises(EntityError, match=r"'Users'.*'Nmae'.*Id"):
        list(shaped)


def test_a_broken_contract_rejects_that_record_only_and_names_field_and_value() -> None:
    refused: list[Rejection] = []
    fields = (Field("Id", "int", False), Field("Level", "int", False))
    table = with_origin(["Id", "Level"], [1, "2"], [2, "two"], [3, None], [4, 5])
    rows = petl.data(shape.records(table, entity(fields=fields), Flow(refused.append)))
    assert [tuple(row[1:]) for row in rows] == [(1, 2), (4, 5)]
    assert [rejection.id for rejection in refused] == ["2", "3"]
    assert "'Level'" in refused[0].reason
    assert "'two'" in refused[0].reason
    assert "NULL" in refused[1].reason


def test_a_row_that_is_too_short_is_rejected() -> None:
    refused: list[Rejection] = []
    table = [[ORIGIN, "Id", "Name"], ["1", 1], ["2", 2, "x"]]
    assert [row[1] for row in petl.data(shape.records(table, entity(), Flow(refused.append)))] == [2]
    assert [rejection.id for rejection in refused] == ["1"]


def test_a_record_that_fails_in_a_transform_is_rejected_with_that_reason_and_counts_as_one() -> None:
    refused: list[Rejection] = []
    counts, pending = Counts(), {"1", "2", "3"}
    steps = (make("add", {"Half": "10 / Id"}), make("select", "Id != 3"))
    shaped = shape.records(
        with_origin(["Id"], [0], [2], [3]), entity(transform=steps), Flow(refused.append, counts, pending)
    )
    assert [tuple(row) for row in petl.data(shaped)] == [("2", 2, 5.0)]
    assert [rejection.id for rejection in refused] == ["0"]
    assert "Half" in refused[0].reason
    assert (counts.dropped, pending) == (1, {"1", "2"})


# chunk


def cut(records: Sequence[Sequence[Any]], header: Sequence[str] = ("Id",), **keys: Any) -> list[Batch]:
    return list(chunk.batches(with_origin(header, *records), entity(**keys), Flow(never)))


@given(st.integers(0, 40), st.integers(1, 12))
def test_every_record_is_in_exactly_one_batch_in_order(count: int, size: int) -> None:
    batches = cut([[number] for number in range(count)], batch_size=size)
    expected = list(range(count))
    assert [int(id_) for batch in batches for id_ in batch.ids] == expected
    assert [record["Id"] for batch in batches for record in json.loads(batch.payload)] == expected
    assert all(len(batch.ids) == size for batch in batches[:-1])
    assert all(0 < len(batch.ids) <= size for batch in batches)
    assert len({batch.id for batch in batches} | {batch.key for batch in batches}) == 2 * len(batches)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.lists(JSON_VALUES, max_size=8), st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_the_payload_is_json_equal_to_the_records(values: list[Any], wrap: str | None) -> None:
    batches = cut([[number, value] for number, value in enumerate(values)], ["Id", 'V"\n'], wrap=wrap)
    found = [json.loads(batch.payload) for batch in batches]
    lists = found if wrap is None else [document[wrap] for document in found]
    assert all(wrap is None or list(document) == [wrap] for document in found)
    assert [record for records in lists for record in records] == [
        {"Id": number, 'V"\n': value} for number, value in enumerate(values)
    ]


@given(st.integers())
def test_integers_of_any_size_keep_every_digit(number: int) -> None:
    (batch,) = cut([[1, number, [number, {"inner": number}]]], ["Id", "V", "Nested"])
    assert json.loads(batch.payload) == [{"Id": 1, "V": number, "Nested": [number, {"inner": number}]}]


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**40])
def test_integers_around_64_bits_keep_every_digit(number: int) -> None:
    (batch,) = cut([[1, number]], ["Id", "V"])
    assert batch.payload == b'[{"Id":1,"V":%d}]' % number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.10", b"1.10"),
        ("1E+3", b"1000"),
        ("0E-10", b"0.0000000000"),
        ("-0.50", b"-0.50"),
        ("1" * 40 + ".5", b"1" * 40 + b".5"),
    ],
)
def test_decimals_are_numbers_with_every_digit(value: str, text: bytes) -> None:
    (batch,) = cut([[1, Decimal(value), 2**70]], ["Id", "V", "Wide"])
    assert batch.payload == b'[{"Id":1,"V":' + text + b',"Wide":%d}]' % 2**70


def test_a_wide_number_does_not_turn_true_into_something_else() -> None:
    (batch,) = cut([[1, True, 2**70, None]], ["Id", "Flag", "Wide", "Nothing"])
    assert batch.payload == b'[{"Id":1,"Flag":true,"Wide":%d,"Nothing":null}]' % 2**70


def test_a_record_that_json_cannot_hold_is_rejected_and_the_others_go_on() -> None:
    refused: list[Rejection] = []
    counts = Counts()
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    table = with_origin(["Id", "V"], [1, "a"], [2, object()], [3, "\ud800"], [4, deep], [5, "b"])
    batches = list(chunk.batches(table, entity(), Flow(refused.append, counts)))
    assert [id_ for batch in batches for id_ in batch.ids] == ["1", "5"]
    assert [rejection.id for rejection in refused] == ["2", "3", "4"]
    assert counts.due == 2


def test_a_monstrous_integer_is_written_or_rejected_but_never_stops_the_others() -> None:
    refused: list[Rejection] = []
    table = with_origin(["Id", "V"], [1, 10**5000], [2, "fine"])
    batches = list(chunk.batches(table, entity(), Flow(refused.append)))
    ids = [id_ for batch in batches for id_ in batch.ids]
    assert "2" in ids
    assert sorted([*ids, *[rejection.id for rejection in refused]]) == ["1", "2"]


def test_when_reading_fails_what_was_read_before_is_given_first() -> None:
    def rows() -> Iterator[list[Any]]:
        yield [ORIGIN, "Id"]
        yield from ([str(number), number] for number in range(4))
        raise SourceError("gone")

    given_: list[Batch] = []
    with pytest.raises(SourceError, match="gone"):
        given_.extend(_collect(chunk.batches(rows(), entity(), Flow(never)), given_))
    assert [batch.ids for batch in given_] == [("0", "1", "2"), ("3",)]


def _collect(batches: Iterator[Batch], into: list[Batch]) -> list[Batch]:
    for batch in batches:
        into.append(batch)
    return []


def test_a_limit_reads_no_further_than_it_needs() -> None:
    source = Watched(["Id"], ([number] for number in range(1000)))
    counts = Counts()
    due = exclude.tracked(source, ["Id"], lambda _: Known(), Flow(never, counts), page_size=5, limit=7)
    shaped = shape.records(due, entity(), Flow(never, counts))
    batches = chunk.batches(shaped, entity(), Flow(never, counts))
    assert [len(batch.ids) for batch in batches] == [3, 3, 1]
    assert counts.read == counts.due == 7
    assert source.taken <= 10, "more than the page that was begun"


def test_batches_are_cut_while_rows_flow() -> None:
    source = Watched([ORIGIN, "Id"], ([str(number), number] for number in range(5000)))
    batches = chunk.batches(source, entity(batch_size=10), Flow(never))
    next(batches)
    assert source.taken <= ROWS


FLOW = """
import resource
from tests.unit.sync.test_stages import *
from tests import builders
source = Watched(["Id", "Name"], ((number, f"name {number} " + "x" * 200) for number in range(200_000)))
wanted = entity(batch_size=1000, page_size=2000, fields=(Field("Id", "int", False), Field("Name", "string", False)))
table = exclude.tracked(source, ["Id"], lambda ids: Known(), Flow(never), page_size=wanted.page_size)
batches = chunk.batches(shape.records(table, wanted, Flow(never)), wanted, Flow(never))
total = len(next(batches).ids)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for batch in batches:
    total += len(batch.ids)
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_200000_records_flow_through_in_bounded_memory() -> None:
    """The table is more than 70 MB of Python objects; a page and a batch of it are one or two."""
    finished = subprocess.run(
        [sys.executable, "-c", FLOW], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    total, grown = map(int, finished.stdout.split())
    assert total == 200_000
    assert grown < 20_000, "kilobytes"
