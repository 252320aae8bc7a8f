"""What an expression may use, how much it may make, and the rule for NULL."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sandbox.filters import FILTERS
from engine.sandbox.methods import NAMES
from engine.sandbox.tests import TESTS
from engine.spec import expressions
from engine.spec.expressions import ExpressionError, compile_condition, compile_expression

RECORD: dict[str, Any] = {
    "Name": "Ann Lee", "Long": "x" * 50_000, "Number": 7, "Price": Decimal("12.50"), "Huge": Decimal("1E+999999"), "Half": 0.5,
    "Born": date(1990, 2, 3), "Seen": datetime(2026, 1, 2, 3, 4, 5), "Key": UUID(int=5), "Raw": b"\x01\xff", "Tags": ["b", "a", "b"],
    "Map": {"city": "Bonn", "lines": [{"zip": 1}, {"zip": 2}]}, "Nothing": None, "Yes": True,
}  # fmt: skip


def value(text: str) -> Any:
    return compile_expression(text)(RECORD)


def failure(text: str) -> str:
    """What is said of an expression that cannot be compiled, or fails for the record."""
    with pytest.raises(ExpressionError) as caught:
        value(text)
    return str(caught.value)


# What people need


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Name.split(' ')[1] | upper", "LEE"),
        ("Name.replace('n', 'm', 1)", "Amn Lee"),
        ("Name.startswith('Ann') and not Name.endswith('x')", True),
        ("Name[:3] ~ '-' ~ Number", "Ann-7"),
        ("(Number | string).zfill(3)", "007"),
        ("'%03d' % Number", "007"),
        ("'%s: %.1f%%' | format(Name, Half)", "Ann Lee: 0.5%"),
        ("Price * 2", Decimal("25.00")),
        ("Price | round(1)", Decimal("12.5")),
        ("7 // 2 + 2 ** 10 % 1000 - -1", 3 + 24 + 1),
        ("Born.year", 1990),
        ("Seen.strftime('%d.%m.%Y')", "02.01.2026"),
        ("Seen.date().isoformat()", "2026-01-02"),
        ("(Seen - Seen).days", 0),
        ("Key.hex", "0" * 31 + "5"),
        ("Raw.hex()", "01ff"),
        ("Tags | unique | sort | join(', ')", "a, b"),
        ("[Name, Nothing] | select | join(' ')", "Ann Lee"),
        ("Tags | select('eq', 'b') | list | length", 2),
        ("Map.city ~ Map['city']", "BonnBonn"),
        ("Map.get('street', '-')", "-"),
        ("Map.lines | map(attribute='zip') | sum", 3),
        ("Map.lines | selectattr('zip', 'gt', 1) | first", {"zip": 2}),
        ("Tags | map('upper') | list", ["B", "A", "B"]),
        ("Map.lines | tojson", '[{"zip": 1}, {"zip": 2}]'),
        ("Name | truncate(5, leeway=0)", "An..."),
        ("Name | title | trim | lower | capitalize | replace('lee', 'Li')", "Ann Li"),
        ("'a b' | urlencode", "a%20b"),
        ("Number in range(1, 10)", True),
        ("3 < Number <= 7", True),
        ("Name is string and Number is odd and Missing is not defined", True),
        ("'yes' if Yes else 'no'", "yes"),
        ("Nothing | default('-', true)", "-"),
        ("Map.street | default('-')", "-"),
        ("'12' | int + ('1.5' | float)", 13.5),
        ("{'n': Name, 'list': [1, 2]}", {"n": "Ann Lee", "list": [1, 2]}),
    ],
)  # fmt: skip
def test_what_records_need_is_there(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize("name", sorted(set(FILTERS) | set(TESTS) | NAMES))
def test_every_filter_test_and_method_stands_in_the_guide(name: str) -> None:
    from tests.project import ROOT

    assert f"`{name}`" in (ROOT / "docs" / "expressions.md").read_text(encoding="utf-8")


# Bounds

ATTACKS = [
    "'%999999999d' | format(1)",
    "'%999999999d' % 1",
    "'%*d' % (999999999, 1)",
    "'%.999999999f' % 1.5",
    "'%(a)999999999d' | format(a=1)",
    "'%999999999d' is odd",
    "'%999999999d' is divisibleby(3)",
    "'{:>999999999}'.format(1)",
    "'{:>999999999}'.format_map({})",
    "'x' * 10**9",
    "10**9 * 'x'",
    "[1] * 10**9",
    "[Long] * 1000 | join",
    "([[Long] * 10] * 10) * 10",
    "10 ** (10 ** 9)",
    "(Number + 9) ** 99999999",
    "9 ** 999 * 9 ** 999 * 9 ** 999",
    "Huge | int",
    "'%d' % Huge",
    "Huge | round(2)",
    "Number | round(999999999)",
    "'x' | indent(999999999)",
    "'x\ny'|indent(width=999999999)",
    "[1] | batch(999999999, 0) | list",
    "[1] | slice(999999999) | list",
    "lipsum(n=100000)",
    "cycler(1)",
    "joiner(',')",
    "namespace(a=1)",
    "dict(a=1)",
    "'\t'.expandtabs(999999999)",
    "'x'.translate({120: 'y' * 99999})",
    "'x'.ljust(999999999)",
    "'x'.rjust(999999999)",
    "'x'.center(999999999)",
    "'1'.zfill(999999999)",
    "'x' | center(999999999)",
    "'x' | wordwrap(1, wrapstring='y' * 99999)",
    "'xxxx'.replace('', 'x' * 90000).replace('', 'x' * 1000).replace('', 'x' * 1000)",
    "Long | replace('x', Long)",
    "Long.replace('', Long)",
    "Long.join([Long] * 1000)",
    "Tags | join(Long * 90)",
    "Long.split('x') | join(Long)",
    "Long | list | map('replace', 'x', Long) | list",
    "Long | list | map('center', 99999) | list",
    "Long | list | tojson | tojson | list | tojson | list | tojson | list | tojson",
    "range(10**12)",
    "range(900000) | list | tojson",
    "range(450000) | select('in', range(450000)) | list",
    " ~ ".join(["Long"] * 100),
    "[" + ", ".join(["Long | upper"] * 100) + "]",
    "Seen.strftime('%999999999Y')",
    "Seen.strftime('%Y' * 999)",
    "Raw.decode('punycode')",
    "Name | attr('upper')",
    "Name | map('attr', 'upper') | list",
    "Name | pprint",
    "Name | xmlattr",
    "Name | random",
    "Name.encode('utf-16')",
    "Name.format",
    "Map.update({'a': 1})",
    "Tags.append(1)",
    "(1 for x in y)",
    "range(*[1, 2])",
    "-" * 500 + "1",
    "+".join(["1"] * 2000),
    "Name" + " | upper" * 400,
    "x" * 20_000,
]  # fmt: skip


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: str(text)[:40])
def test_no_expression_takes_much_memory_or_time(text: str) -> None:
    """Each is refused, when it is compiled or for the record, before memory is taken for what it asks for."""
    gc.collect()
    tracemalloc.start()
    began = time.process_time()
    try:
        said = failure(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000
    assert time.process_time() - began < 10
    assert "expression" in said
    assert len(said) < 1000


PARTS = st.sampled_from([
    "Name", "Long", "Number", "Price", "Huge", "Tags", "Map", "Nothing", "9", "99999", "999999999", "'%9999d'", "'x'", "[1, 2]", "{'a': 1}",
])  # fmt: skip
WRAPS: st.SearchStrategy[Callable[[str, str], str]] = st.one_of(
    st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or"]).map(
        lambda sign: lambda a, b: f"({a}) {sign} ({b})"
    ),
    st.sampled_from(sorted(FILTERS)).map(lambda name: lambda a, b: f"({a}) | {name}({b})"),
    st.sampled_from(sorted(FILTERS)).map(lambda name: lambda a, _: f"({a}) | {name}"),
    st.sampled_from(sorted(FILTERS)).map(lambda name: lambda a, b: f"({a}) | map('{name}', {b}) | list"),
    st.sampled_from(sorted(NAMES)).map(lambda name: lambda a, b: f"({a}).{name}({b})"),
    st.sampled_from(sorted(NAMES)).map(lambda name: lambda a, b: f"({a}).{name}({b}, {a})"),
    st.just(lambda a, b: f"[{a}, {b}]"),
    st.just(lambda a, b: f"({a})[{b}]"),
)


@settings(max_examples=150, deadline=None)
@given(PARTS, st.lists(st.tuples(WRAPS, PARTS), max_size=7))
def test_whatever_is_combined_an_expression_ends_and_stays_small(
    first: str, steps: list[tuple[Callable[[str, str], str], str]]
) -> None:
    text = first
    for wrap, part in steps:
        text = wrap(text, part)
    tracemalloc.start()
    began = time.process_time()
    try:
        value(text)
    except ExpressionError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 200_000_000, text
    assert time.process_time() - began < 10, text


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("Name | uper", "did you mean 'upper'"),
        ("Name | indent(2)", "the filter 'indent' is not allowed"),
        ("Name.uper()", "did you mean 'upper'"),
        ("Name.format(1)", "the method 'format' is not allowed"),
        ("Name is nune", "did you mean 'none'"),
        ("Name is callable", "the test 'callable' is not allowed"),
        ("lipsum()", "'lipsum' cannot be called"),
        ("Tags | map('uper')", "did you mean 'upper'"),
        ("Tags | select('nune')", "did you mean 'none'"),
        ("Name | round(1, 2, 3)", "the filter 'round'"),
    ],
)
def test_what_is_unknown_or_forbidden_is_found_when_it_is_compiled(text: str, near: str) -> None:
    with pytest.raises(ExpressionError, match=near.replace("(", r"\(")):
        compile_expression(text)


def test_a_bound_is_of_one_record_not_of_a_run() -> None:
    evaluate = compile_expression("Long ~ Long")
    assert all(len(evaluate(RECORD)) == 100_000 for _ in range(100))


def test_text_of_a_megabyte_may_still_be_worked_on() -> None:
    assert compile_expression("Body | trim")({"Body": " " + "x" * 900_000}) == "x" * 900_000


# NULL


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("built > 2000", False),
        ("not (built > 2000)", False),
        ("built > 2000 or Name == 'Ann'", True),
        ("Name == 'Ann' or built > 2000", True),
        ("built > 2000 or Name == 'Bob'", False),
        ("Name == 'Bob' or built > 2000", False),
        ("built > 2000 and Name == 'Ann'", False),
        ("not (built > 2000 and Name == 'Bob')", True),
        ("not (Name == 'Bob' and built > 2000)", True),
        ("not (built > 2000 and Name == 'Ann')", False),
        ("not (built > 2000 or Name == 'Bob')", False),
        ("1 < built < 3", False),
        ("not (1 < built < 3)", False),
        ("not (3 < 1 < built)", True),
        ("not (built < 1 < 0)", True),
        ("built + 1 == 2", False),
        ("not (built + 1 == 2)", False),
        ("built is none", True),
        ("built is not none", False),
        ("built == none", True),
        ("built != none", False),
        ("built == 2000", False),
        ("built != 2000", True),
        ("built in [2000, none]", True),
        ("built not in [2000]", True),
        ("'x' in built", False),
        ("built", False),
        ("not built", True),
        ("built.year > 2000", False),
        ("built | upper == 'X'", False),
        ("built.lower() == 'x'", False),
        ("built is divisibleby(2)", False),
        ("not (built is gt(2))", False),
        ("'yes' if built > 2000 else 'no'", False),
        ("(built | default(2001, true)) > 2000", True),
    ],
)
def test_a_condition_over_null_is_unknown_as_in_sql(text: str, kept: bool) -> None:
    """Unknown is not kept, and not kept under `not` either; what decides without it decides."""
    assert compile_condition(text)({"built": None, "Name": "Ann"}) is kept


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("built + 1", "built"),
        ("2 - built", "built"),
        ("-built", "built"),
        ("built * 2", "built"),
        ("built % 2", "built"),
        ("'%d' % built", "built"),
        ("'%d' | format(built)", "built"),
        ("built > 2000", "built"),
        ("2000 >= built", "built"),
        ("Name ~ built", "built"),
        ("built | upper", "built"),
        ("built | int", "built"),
        ("built | length", "built"),
        ("built.year", "built"),
        ("built[0]", "built"),
        ("built[0:1]", "built"),
        ("built.lower()", "built"),
        ("Name.replace('a', built)", "built"),
        ("Name | replace('a', built)", "built"),
        ("'x' in built", "built"),
        ("Map.gone + 1", "Map.gone"),
        ("Map['gone'] + 1", "Map['gone']"),
        ("1 if built > 2000 else 0", "built"),
        ("built is even", "built"),
    ],
)
def test_an_operation_over_null_says_what_is_null(text: str, named: str) -> None:
    record = {"built": None, "Name": "Ann", "Map": {"gone": None}}
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)(record)
    assert f"{named} is NULL" in str(caught.value)
    assert repr(text) in str(caught.value)
    assert "NoneType" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["[Name, built] | join", "[1, built] | sum", "[1, built] | max", "[built] | map('upper') | list"]
)
def test_a_list_with_a_null_is_not_joined_as_the_word_none(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"NULL|NoneType"):
        compile_expression(text)({"built": None, "Name": "Ann"})


@pytest.mark.parametrize("text", ["none", "built", "[built]", "{'a': built}", "built if Name else 1", "Name and built"])
def test_null_itself_is_a_value(text: str) -> None:
    assert compile_expression(text)({"built": None, "Name": "Ann"}) in (None, [None], {"a": None})


def test_the_names_of_an_expression_are_told_apart() -> None:
    """`needed` must be columns; `optional` are asked for."""
    text = "A ~ (B | default('x')) ~ range(3) ~ D.e ~ C[F] if G is defined else H.lower()"
    assert expressions.needed(text) == {"A", "C", "D", "F", "H"}
    assert expressions.variables(text) == {"A", "B", "C", "D", "F", "G", "H"}
