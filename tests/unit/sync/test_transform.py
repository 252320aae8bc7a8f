"""The `transform` of an entity: each operation on plain tables, and several end to end."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import petl
import pytest

from engine.errors import EntityError
from engine.spec import expressions
from engine.sync.counts import Counts, Flow
from engine.sync.model import Field, Rejection
from engine.sync.read.block import ORIGIN
from engine.sync.shape import shape
from engine.sync.shape.operations import make
from tests import builders
from tests.faultapi import FaultAPI
from tests.project import ROOT, Project, check_sums

Result = tuple[list[dict[str, Any]], list[Rejection], Counts]


def apply(
    header: Sequence[str], rows: Sequence[Sequence[Any]], *steps: dict[str, Any], fields: dict[str, str] | None = None
) -> Result:
    """Records after the operations, the rejections and the counts. A row's ID is its number, from 1."""
    refused: list[Rejection] = []
    counts = Counts()
    operations = tuple(make(name, argument) for step in steps for name, argument in step.items())
    contract = (
        tuple(Field(name, kind.rstrip("?"), kind.endswith("?")) for name, kind in fields.items()) if fields else None  # type: ignore[arg-type]
    )
    wanted = builders.entity(batch_size=10, page_size=10, transform=operations, fields=contract)
    table = [[ORIGIN, *header], *[[str(number), *row] for number, row in enumerate(rows, 1)]]
    shaped = shape.records(table, wanted, Flow(refused.append, counts))
    names = list(petl.header(shaped))[1:]
    counts.dropped, refused[:] = 0, []
    return [dict(zip(names, row[1:], strict=True)) for row in petl.data(shaped)], refused, counts


def one(column: str, value: Any, *steps: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """The one record of a table with one column and one row, which must not be rejected."""
    records, refused, _ = apply([column], [[value]], *steps, **keys)
    assert not refused, refused
    return records[0]


def names(record: dict[str, Any]) -> list[str]:
    return list(record)


# rename


def test_rename_keeps_positions_and_may_swap_names() -> None:
    records, _, _ = apply(["A", "B", "C"], [[1, 2, 3]], {"rename": {"A": "B", "B": "A"}})
    assert records == [{"B": 1, "A": 2, "C": 3}]
    assert names(records[0]) == ["B", "A", "C"]


# convert


@pytest.mark.parametrize(
    ("mapping", "value", "expected"),
    [
        ({"M": "Male", "F": "Female"}, "M", "Male"),
        ({"M": "Male"}, "X", "X"),
        ({"M": "Male"}, None, None),
        ({"M": None}, "M", None),
        ({"1": "yes"}, 1, "yes"),
        ({"1": "yes"}, "1", "yes"),
        ({1: "yes"}, 1, "yes"),
        ({1: "yes"}, "1", "yes"),
        ({"1": "yes"}, Decimal("1"), "yes"),
        ({"1": "yes"}, 2, 2),
        ({"m": "x"}, "M", "M"),
        ({"": "none"}, "", "none"),
        ({"a": {"k": [1]}}, "a", {"k": [1]}),
        ({"a": 1}, [1, 2], [1, 2]),
    ],
)
def test_convert_maps_values_and_leaves_the_others(mapping: dict[Any, Any], value: Any, expected: Any) -> None:
    assert one("V", value, {"convert": {"V": mapping}}) == {"V": expected}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("int", "12", 12),
        ("float", "1.5", 1.5),
        ("decimal", "1.10", Decimal("1.10")),
        ("bool", "true", True),
        ("string", 12, "12"),
        ("date", "2026-01-02 00:00:00", "2026-01-02"),
        ("datetime", "2026-01-02 03:04:05", "2026-01-02T03:04:05"),
        ("binary", b"ab", "YWI="),
        ("guid", "4F9D1C9E-52A0-4A53-8F0E-2A4F7B1C7A11", "4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11"),
        ("lower", "ÄBC", "äbc"),
        ("upper", "äbc", "ÄBC"),
        ("strip", "  x \n", "x"),
        ("upper", 12, 12),
    ],
)
def test_convert_by_name(name: str, value: Any, expected: Any) -> None:
    assert one("V", value, {"convert": {"V": name}}) == {"V": expected}
    assert one("V", None, {"convert": {"V": name}}) == {"V": None}


def test_convert_by_an_expression_over_value_and_record() -> None:
    records, _, _ = apply(["A", "B"], [[2, 5], [3, 7]], {"convert": {"A": "value * B"}})
    assert records == [{"A": 10, "B": 5}, {"A": 21, "B": 7}]
    assert one("V", "ann lee", {"convert": {"V": "value | title"}}) == {"V": "Ann Lee"}


def test_a_failed_conversion_is_never_sent_as_null() -> None:
    """petl's own `convert` turns any failure into None; jinja's truncate fails with an AssertionError."""
    records, refused, _ = apply(
        ["V"], [["a long name"], ["x"]], {"convert": {"V": "value | truncate(2)"}}, fields={"V": "string?"}
    )
    assert {"V": None} not in records
    assert [rejection.id for rejection in refused][:1] == ["1"]


def test_a_mistyped_conversion_is_found_before_anything_runs() -> None:
    with pytest.raises(expressions.ExpressionError, match=r"'uper'.*did you mean 'upper'"):
        expressions.converter("uper")


# add


def test_add_computes_new_columns_and_later_ones_see_earlier_ones() -> None:
    record = one("Name", "Ann", {"add": {"Greeting": "'Hi ' ~ Name", "Loud": "Greeting | upper ~ '!'"}})
    assert record == {"Name": "Ann", "Greeting": "Hi Ann", "Loud": "HI ANN!"}
    assert names(record) == ["Name", "Greeting", "Loud"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", None),
        ("Name is none", False),
        ("1 if Name else 0", 1),
        ("[Name, 1]", ["Ann", 1]),
        ("{'n': Name}", {"n": "Ann"}),
        ("Name | length", 3),
        ("Name[0]", "A"),
        ("'😀'", "😀"),
        ("Missing | default('x')", "x"),
        ("7 // 2", 3),
    ],
)
def test_add_gives_values_of_any_json_kind(text: str, expected: Any) -> None:
    assert one("Name", "Ann", {"add": {"V": text}})["V"] == expected


def test_adding_a_column_that_is_there_never_sends_the_old_value_unnoticed() -> None:
    """Either the new value replaces the old one, or the entity says that there is such a column."""
    try:
        record = one("Name", "old", {"add": {"Name": "'new'"}}, fields={"Name": "string"})
    except EntityError as failure:
        assert "Name" in str(failure)  # noqa: PT017 - one of two good ways
    else:
        assert record == {"Name": "new"}


def test_renaming_to_a_column_that_is_there_never_sends_one_of_the_two_unnoticed() -> None:
    with pytest.raises(EntityError, match="B"):
        apply(["A", "B"], [[1, 2]], {"rename": {"A": "B"}}, fields={"B": "int"})


# select


def test_select_keeps_what_is_true_and_counts_what_it_drops() -> None:
    records, refused, counts = apply(["V"], [[1], [0], [2], [None], [""]], {"select": "V"})
    assert records == [{"V": 1}, {"V": 2}]
    assert (refused, counts.dropped) == ([], 3)


def test_a_failing_select_rejects_the_record_instead_of_dropping_it() -> None:
    records, refused, counts = apply(["V"], [[1], ["x"], [0]], {"select": "V > 0"})
    assert records == [{"V": 1}]
    assert [rejection.id for rejection in refused] == ["2"]
    assert "select" in refused[0].reason
    assert counts.dropped == 1


def test_two_selects_drop_a_record_once() -> None:
    records, _, counts = apply(["V"], [[1], [2], [3]], {"select": "V != 1"}, {"select": "V != 1 and V != 2"})
    assert records == [{"V": 3}]
    assert counts.dropped == 2


# cut, cut_out, move, fill


def test_cut_keeps_columns_in_its_own_order() -> None:
    records, _, _ = apply(["A", "B", "C"], [[1, 2, 3]], {"cut": ["C", "A"]})
    assert names(records[0]) == ["C", "A"]
    assert records == [{"C": 3, "A": 1}]


def test_cut_out_leaves_columns_out() -> None:
    records, _, _ = apply(["A", "B", "C"], [[1, 2, 3]], {"cut_out": ["B"]})
    assert records == [{"A": 1, "C": 3}]


@pytest.mark.parametrize(
    ("move", "expected"),
    [({"C": 0}, "CAB"), ({"A": 1}, "BAC"), ({"A": 2}, "BCA"), ({"A": 99}, "BCA"), ({"C": 0, "B": 0}, "BCA")],
)
def test_move_counts_positions_from_0(move: dict[str, int], expected: str) -> None:
    records, _, _ = apply(["A", "B", "C"], [[1, 2, 3]], {"move": move})
    assert "".join(records[0]) == expected
    assert records[0] == {"A": 1, "B": 2, "C": 3}


@pytest.mark.parametrize("value", ["x", 0, False, ""])
def test_fill_replaces_null_and_nothing_else(value: Any) -> None:
    records, _, _ = apply(["A", "B"], [[None, None], ["", 0], [0, 1]], {"fill": {"A": value}})
    assert [record["A"] for record in records] == [value, "", 0]
    assert [record["B"] for record in records] == [None, 0, 1]


@pytest.mark.parametrize("value", [[1, 2], {"k": "v"}, bytearray(b"ab")], ids=["list", "dict", "bytearray"])
def test_fill_never_loses_a_value_that_cannot_be_hashed(value: Any) -> None:
    expected = "YWI=" if isinstance(value, bytearray) else value
    assert one("A", value, {"fill": {"A": "none"}}) == {"A": expected}


# split


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Ann Lee", ["Ann", "Lee"]),
        ("Ann", ["Ann", None]),
        ("Ann van der Lee", ["Ann", "van der Lee"]),
        (None, [None, None]),
        ("", ["", None]),
        (" Lee", ["", "Lee"]),
    ],
)
def test_split_cuts_text_into_its_columns(value: Any, expected: list[Any]) -> None:
    step = {"split": {"field": "Name", "pattern": " ", "into": ["First", "Last"]}}
    assert one("Name", value, step) == dict(zip(["First", "Last"], expected, strict=True))


def test_split_takes_a_regular_expression() -> None:
    step = {"split": {"field": "V", "pattern": r"\s*[,;]\s*", "into": ["A", "B", "C"]}}
    assert one("V", "1 , 2;3", step) == {"A": "1", "B": "2", "C": "3"}


def test_split_of_what_is_not_text_rejects_that_record_only() -> None:
    step = {"split": {"field": "V", "pattern": " ", "into": ["A", "B"]}}
    records, refused, _ = apply(["V"], [[12], ["x y"]], step)
    assert records == [{"A": "x", "B": "y"}]
    assert [(rejection.id, "'V'" in rejection.reason, "12" in rejection.reason) for rejection in refused] == [
        ("1", True, True)
    ]


# unpack_dict


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"City": "Bonn", "Zip": 1}, ["Bonn", 1]),
        ('{"City": "Bonn", "Zip": null, "More": 1}', ["Bonn", None]),
        ('{"Zip": [1, 2]}', [None, [1, 2]]),
        (None, [None, None]),
        ("{}", [None, None]),
        ("null", [None, None]),
        ('{"City": "😀"}', ["😀", None]),
    ],
)
def test_unpack_dict_makes_columns_of_keys(value: Any, expected: list[Any]) -> None:
    records, refused, _ = apply(["Id", "V"], [[1, value]], {"unpack_dict": {"field": "V", "keys": ["City", "Zip"]}})
    assert refused == []
    assert records == [{"Id": 1, "City": expected[0], "Zip": expected[1]}]
    assert names(records[0]) == ["Id", "City", "Zip"]


@pytest.mark.parametrize(
    "value", ["not json", "[1]", '"text"', 12, "", '{"City":', "[" * 100_000], ids=lambda value: str(value)[:10]
)
def test_unpack_dict_of_what_is_no_object_rejects_that_record_only(value: Any) -> None:
    records, refused, _ = apply(["V"], [[value], ['{"City": 1}']], {"unpack_dict": {"field": "V", "keys": ["City"]}})
    assert records == [{"City": 1}]
    assert [(rejection.id, "'V'" in rejection.reason) for rejection in refused] == [("1", True)]


def test_unpack_dict_keeps_every_digit_of_a_number() -> None:
    digits = "12345678901234567890.12345678901234567890"
    record = one(
        "V",
        f'{{"Amount": {digits}}}',
        {"unpack_dict": {"field": "V", "keys": ["Amount"]}},
        fields={"Amount": "decimal"},
    )
    assert record == {"Amount": Decimal(digits)}


def test_unpack_dict_then_fill_keeps_nested_values() -> None:
    record = one("V", '{"Tags": ["a", "b"]}', {"unpack_dict": {"field": "V", "keys": ["Tags"]}}, {"fill": {"Tags": ""}})
    assert record == {"Tags": ["a", "b"]}


# Order, errors


def test_operations_run_in_the_order_they_are_written() -> None:
    steps: list[dict[str, Any]] = [{"convert": {"V": "upper"}}, {"add": {"Copy": "V"}}, {"convert": {"V": "lower"}}]
    assert one("V", "Ann", *steps) == {"V": "ann", "Copy": "ANN"}
    assert one("V", "Ann", *reversed(steps)) == {"V": "ANN", "Copy": "ann"}


def test_the_first_failure_of_a_record_is_the_reason_and_nothing_more_is_done_for_it() -> None:
    records, refused, counts = apply(
        ["V"],
        [["x"], ["1"]],
        {"convert": {"V": "int"}},
        {"add": {"Half": "1 / 0 if V is none else V / 2"}},
        {"select": "V == 1"},
    )
    assert records == [{"V": 1, "Half": 0.5}]
    assert [rejection.id for rejection in refused] == ["1"]
    assert "'V'" in refused[0].reason
    assert "'x'" in refused[0].reason
    assert counts.dropped == 0


@pytest.mark.parametrize("text", ["Missing", "Missing + 1", "Name + 1", "Name.nothing", "1 / 0", "[1][5]"])
def test_an_expression_that_fails_names_the_field_and_stops_only_that_record(text: str) -> None:
    records, refused, _ = apply(["Name", "Good"], [["Ann", 0], ["Bob", 1]], {"add": {"V": f"1 if Good else ({text})"}})
    assert [record["Name"] for record in records] == ["Bob"]
    assert [(rejection.id, "'V'" in rejection.reason) for rejection in refused] == [("1", True)]


@pytest.mark.parametrize(
    "step",
    [
        {"rename": {"Nmae": "N"}},
        {"convert": {"Nmae": "int"}},
        {"cut": ["Nmae"]},
        {"cut_out": ["Nmae"]},
        {"move": {"Nmae": 0}},
        {"fill": {"Nmae": 0}},
        {"split": {"field": "Nmae", "pattern": " ", "into": ["A"]}},
        {"unpack_dict": {"field": "Nmae", "keys": ["A"]}},
    ],
    ids=lambda step: next(iter(step)),
)
def test_an_unknown_column_is_an_error_of_the_entity_that_names_it(step: dict[str, Any]) -> None:
    with pytest.raises(EntityError, match=r"'Users'.*'Nmae'.*Name"):
        apply(["Name"], [["Ann"]], step)


# Sandbox


@pytest.mark.parametrize(
    "text",
    [
        "''.__class__.__mro__",
        "''['__class__']",
        "Name.__class__",
        "cycler.__init__.__globals__",
        "lipsum.__globals__['os'].popen('id').read()",
        "Name | attr('__class__')",
        "'{0.__class__.__mro__}'.format(Name)",
        "'{0.__class__}' | format(Name)",
        "joiner.__init__.__globals__.os",
        "namespace.__init__.__globals__",
        "range.__self__",
        "(Name.upper).__self__",
        "Name.format.__func__",
        "dict.mro()",
        "'%s' | format(cycler.__init__.__globals__)",
        "[Name] | map(attribute='__class__') | list",
        "().__class__.__bases__[0].__subclasses__()",
    ],
)
def test_the_sandbox_gives_nothing_of_python_away(text: str) -> None:
    try:
        evaluate = expressions.compile_expression(text)
        value = evaluate({"Name": "Ann"})
    except expressions.ExpressionError as refused:
        value = str(refused).replace(repr(text), "").replace("'function' object", "")
    shown = json.dumps(value, default=repr)
    for leak in ("<class", "<module", "<function", "<built-in", "object at", "uid="):
        assert leak not in shown


@pytest.mark.parametrize("text", ["Items.append(1)", "Items.clear()", "Map.update({'a': 2})", "Map.pop('a')"])
def test_an_expression_cannot_change_the_record(text: str) -> None:
    record = {"Items": [1], "Map": {"a": 1}}
    with pytest.raises(expressions.ExpressionError):
        expressions.compile_expression(text)(record)
    assert record == {"Items": [1], "Map": {"a": 1}}


def _small() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


@pytest.mark.parametrize(
    "text",
    [
        "'x' * 10**10",
        "range(10**9) | list",
        "10**(10**9)",
        "(Id + 9)**(10**9)",
        "'%10000000000d' % Id",
        "'x' | center(10**10)",
    ],
)
def test_a_monstrous_expression_is_refused_or_rejects_its_record_and_never_takes_the_machine_down(
    project: Project, api: FaultAPI, text: str
) -> None:
    project.users(1)
    project.entity(transform=[{"add": {"V": text}}])
    project.write()
    try:
        finished = subprocess.run(
            project.command("run", project.file, "--format", "json"),
            cwd=project.folder,
            env=project.env(),
            timeout=100,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=_small,
        )
    except subprocess.TimeoutExpired:
        pytest.fail("one expression kept the process busy for minutes")
    assert finished.returncode in (1, 2), finished.stderr[-500:]
    assert api.requests == []


# End to end


def test_several_operations_end_to_end(project: Project, api: FaultAPI) -> None:
    project.fill(
        "Users",
        "Id INTEGER PRIMARY KEY, NoReg TEXT, Name TEXT, Gender TEXT, IsActive INTEGER, Address TEXT, Password TEXT",
        [
            (1, " n1 ", "Ann Lee", "F", 1, '{"City": "Bonn"}', "p"),
            (2, "n2", "Bob", None, 1, None, "p"),
            (3, "n3", "Cy Old", "M", 0, "{}", "p"),
            (4, "n4", "Di Bad", "F", 1, "{broken", "p"),
            (5, "n5", "Émile 😀 O'Neil", "X", 1, '{"City": null}', "p"),
        ],
    )
    project.entity(
        transform=[
            {"select": "IsActive == 1"},
            {"rename": {"NoReg": "EmployeeNumber"}},
            {"convert": {"EmployeeNumber": "strip", "Gender": {"M": "Male", "F": "Female"}}},
            {"convert": {"IsActive": {1: "yes", 0: "no"}}},
            {"add": {"FullName": "Name ~ ' (' ~ EmployeeNumber ~ ')'"}},
            {"split": {"field": "Name", "pattern": " ", "into": ["First", "Last"]}},
            {"unpack_dict": {"field": "Address", "keys": ["City"]}},
            {"fill": {"City": "-"}},
            {"cut_out": ["Password"]},
            {"move": {"FullName": 0}},
        ]
    )
    report = project.run(code=1)
    (request,) = api.of("/users")
    assert request.records == [
        {
            "FullName": "Ann Lee (n1)",
            "Id": 1,
            "EmployeeNumber": "n1",
            "Gender": "Female",
            "IsActive": "yes",
            "First": "Ann",
            "Last": "Lee",
            "City": "Bonn",
        },
        {
            "FullName": "Bob (n2)",
            "Id": 2,
            "EmployeeNumber": "n2",
            "Gender": None,
            "IsActive": "yes",
            "First": "Bob",
            "Last": None,
            "City": "-",
        },
        {
            "FullName": "Émile 😀 O'Neil (n5)",
            "Id": 5,
            "EmployeeNumber": "n5",
            "Gender": "X",
            "IsActive": "yes",
            "First": "Émile",
            "Last": "😀 O'Neil",
            "City": "-",
        },
    ]
    assert next(iter(request.records[0])) == "FullName"
    (counts,) = report["entities"]
    assert (counts["read"], counts["dropped"], counts["due"], counts["accepted"], counts["rejected"]) == (5, 1, 4, 3, 1)
    check_sums(report)
    assert list(project.rejects()) == ["4"]
    assert "'Address'" in project.rejects()["4"]
    assert project.tracked() == ["1", "2", "5"]


def test_an_entity_with_an_unknown_column_ends_with_1_while_the_others_go_on(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.users(2, "Others")
    project.entity(transform=[{"cut": ["Id", "Nmae"]}])
    project.entity("Others")
    report = project.run(code=1)
    users, others = report["entities"]
    assert "'Nmae'" in users["error"]
    assert (users["accepted"], users["calls"], others["accepted"]) == (0, 0, 2)
    assert [request.path for request in api.requests] == ["/others"]


def test_a_record_that_a_transform_refuses_is_offered_again(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER PRIMARY KEY, Level TEXT", [(1, "one"), (2, "2")])
    entity = project.entity(transform=[{"convert": {"Level": "int"}}])
    project.run(code=1)
    assert "'Level'" in project.rejects()["1"]
    assert "'one'" in project.rejects()["1"]
    entity["transform"] = []
    assert project.run()["entities"][0]["accepted"] == 1
    assert api.of("/users")[-1].records == [{"Id": 1, "Level": "one"}]


def test_the_id_is_taken_before_transforms_change_it(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity(transform=[{"add": {"Key": "'K' ~ Id"}}, {"cut": ["Key"]}])
    project.run()
    assert api.of("/users")[0].records == [{"Key": "K1"}, {"Key": "K2"}]
    assert project.tracked() == ["1", "2"]
    assert project.run()["entities"][0]["excluded"] == 2


# Cost, bounds, NULL


def _calls(columns: int, *steps: dict[str, Any]) -> int:
    """Python calls that a table with so many columns and 20 rows costs."""
    header = [f"C{number}" for number in range(columns)]
    rows = [["1"] * columns for _ in range(20)]
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        records, refused, _ = apply(header, rows, *steps)
    finally:
        sys.setprofile(None)
    assert (len(records), refused) == (20, [])
    return counted


@pytest.mark.parametrize(
    "step",
    [
        lambda names: {"convert": dict.fromkeys(names, "int")},
        lambda names: {"convert": dict.fromkeys(names, "value ~ C0")},
        lambda names: {"convert": {name: {"1": "one"} for name in names}},
        lambda names: {"add": {f"New{name}": f"{name} ~ 'x'" for name in names}},
        lambda names: {"fill": dict.fromkeys(names, 0)},
        lambda names: {"move": dict.fromkeys(names, 0)},
        lambda names: {"rename": {name: f"New{name}" for name in names}},
        lambda names: {"cut": names[::-1]},
    ],
    ids=["convert", "convert by expression", "convert by map", "add", "fill", "move", "rename", "cut"],
)
def test_an_operation_over_many_columns_costs_in_proportion_to_them(step: Any) -> None:
    """Counted in calls, not in time: twice the columns cost twice as much, not four times."""
    few, many = (_calls(columns, step([f"C{number}" for number in range(columns)])) for columns in (50, 200))
    assert many < 4.5 * few


@pytest.mark.parametrize("name", ["convert", "add", "fill", "move", "rename"])
def test_hundreds_of_columns_in_one_operation(name: str) -> None:
    """More columns than Python's stack is deep."""
    header = [f"C{number}" for number in range(1200)]
    argument = {
        "convert": dict.fromkeys(header, "int"), "add": {f"N{column}": column for column in header}, "fill": dict.fromkeys(header, 0),
        "move": dict.fromkeys(header, 0), "rename": {column: f"N{column}" for column in header},
    }[name]  # fmt: skip
    records, refused, _ = apply(header, [["1"] * 1200], {name: argument})
    assert refused == []
    assert len(records[0]) == (2400 if name == "add" else 1200)


def test_hundreds_of_operations_in_a_row() -> None:
    steps: list[dict[str, Any]] = [{"convert": {"V": "value + 1"}} for _ in range(1200)]
    assert one("V", 0, *steps, {"select": "V > 0"}) == {"V": 1200}


def test_a_column_of_one_convert_sees_what_those_before_it_became() -> None:
    records, _, _ = apply(["A", "B"], [["a", "b"]], {"convert": {"A": "upper", "B": "A ~ value"}})
    assert records == [{"A": "A", "B": "Ab"}]


def test_an_add_cannot_see_a_column_that_comes_after_it() -> None:
    _, refused, _ = apply(["A"], [[1]], {"add": {"B": "C", "C": "1"}})
    assert "'C' is undefined" in refused[0].reason


def test_a_failed_column_keeps_its_reason_and_the_columns_after_it_are_not_tried() -> None:
    records, refused, _ = apply(["A", "B"], [["x", "y"], ["1", "2"]], {"convert": {"A": "int", "B": "int"}})
    assert records == [{"A": 1, "B": 2}]
    assert [(rejection.id, rejection.reason) for rejection in refused] == [
        ("1", "field 'A': 'x' is not a whole number")
    ]


def test_select_drops_what_null_leaves_unknown_and_add_names_it() -> None:
    rows = [["Ann", 1999], ["Bob", 2001], ["Cy", None]]
    records, refused, counts = apply(["Name", "built"], rows, {"select": "built > 2000"})
    assert ([record["Name"] for record in records], refused, counts.dropped) == (["Bob"], [], 2)
    records, refused, counts = apply(["Name", "built"], rows, {"select": "not (built > 2000)"})
    assert ([record["Name"] for record in records], refused, counts.dropped) == (["Ann"], [], 2)
    records, refused, _ = apply(["Name", "built"], rows, {"add": {"Age": "2026 - built"}})
    assert [record["Age"] for record in records] == [27, 25]
    assert [(rejection.id, rejection.reason) for rejection in refused] == [
        ("3", "field 'Age': expression '2026 - built' fails: built is NULL")
    ]
    _, refused, _ = apply(["Name", "built"], rows, {"convert": {"built": "value + 1"}})
    assert [rejection.reason for rejection in refused] == ["field 'built': expression 'value + 1' fails: value is NULL"]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", r"(?=(a+)+$)b|(a|a)*c"])
def test_a_pattern_that_backtracks_rejects_that_record_and_the_run_goes_on(
    project: Project, api: FaultAPI, pattern: str
) -> None:
    project.fill(
        "Users",
        "Id INTEGER PRIMARY KEY, Name TEXT",
        [(1, "b,c"), (2, "a" * 50_000 + "!"), (3, "a" * 60 + "!"), (4, "d")],
    )
    project.entity(transform=[{"split": {"field": "Name", "pattern": pattern, "into": ["First", "Last"]}}])
    report = project.run(code=None)
    assert {"1", "4"} <= set(project.tracked())
    assert report["entities"][0]["accepted"] + report["entities"][0]["rejected"] == 4
    assert "2" in project.rejects()
    assert "'Name'" in project.rejects()["2"]
    assert "the pattern takes more than 0.2 s" in project.rejects()["2"]


@pytest.mark.parametrize("pattern", [r"(?<=,) ", r"(?i)\bvan\b", r"\u00a0", r"(?x) , \s*", r"(,)\1", r"\s", r"\Z"])
def test_patterns_are_those_of_python(pattern: str) -> None:
    text = "Ann van, der\u00a0Lee,,x"
    wanted = re.split(pattern, text, maxsplit=2)
    split = one("V", text, {"split": {"field": "V", "pattern": pattern, "into": ["A", "B", "C"]}})
    assert list(split.values()) == [*wanted, None, None][:3]


def test_a_signal_is_heard_while_a_pattern_backtracks(project: Project, api: FaultAPI) -> None:
    project.fill(
        "Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(number, "a" * 50_000 + "!") for number in range(1, 31)]
    )
    project.entity(transform=[{"split": {"field": "Name", "pattern": "(a+)+$", "into": ["First", "Last"]}}])
    project.write()
    process = project.popen("run", project.file)
    try:
        deadline = time.monotonic() + 60
        while not (project.folder / "log.db").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        # 1 where the last value was given up before the signal came.
        assert process.wait(timeout=60) in (130, 1)
    finally:
        process.kill()
        process.communicate()
    assert api.requests == []


def test_only_a_spec_that_splits_pays_for_the_import_of_its_engine() -> None:
    text = "import sys, engine.runtime.runner, engine.cli.run; print('regex' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert finished.stdout.strip() == "False"
