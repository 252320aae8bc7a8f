"""Typed parameters: what each type takes, what it refuses, and how values are kept for a resumed run."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ParametersWrong
from engine.jobs import parameters
from engine.jobs.model import Job, Parameter


def parameter(kind: str, name: str = "p", **changed: Any) -> Parameter:
    bare = kind.removesuffix("?")
    many = bare.startswith("list[")
    values: dict[str, Any] = {
        "name": name, "kind": bare[5:-1] if many else bare, "many": many, "nullable": kind.endswith("?"), "required": True,
        "title": "", "description": "", "default": None, "choices": None, "pattern": None, "least": None, "most": None,
        "secret": False, **changed,
    }  # fmt: skip
    return Parameter(**values)


def job(*given: Parameter) -> Job:
    file = Path("jobs/x.yaml")
    return Job("x", "x", file, "x", Path(), "", {}, given, None, None, None, (), (), 10.0)


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("int", "7", 7), ("int", 7.0, 7), ("float", "0.5", 0.5), ("decimal", "0.10", Decimal("0.10")), ("bool", "no", False),
        ("bool", True, True), ("date", "2026-11-24", date(2026, 11, 24)), ("string", 7, "7"), ("int?", None, None),
        ("guid", "{4F9D1C9E-52A0-4A53-8F0E-2A4F7B1C7A11}", "4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11"),
        ("list[int]", "1, 2,3", [1, 2, 3]), ("list[string]", "", []), ("list[int]", [1, "2"], [1, 2]),
    ],
)  # fmt: skip
def test_a_type_takes(kind: str, given: Any, wanted: Any) -> None:
    found = parameters.typed(parameter(kind), given)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("int", "1.5", "'1.5' is no int"), ("int", True, "True is no int"), ("decimal", "NaN", "'NaN' is no decimal"),
        ("bool", "perhaps", "'perhaps' is no bool"), ("date", "2026-13-01", "'2026-13-01' is no date"), ("guid", "x", "'x' is no guid"),
        ("list[int]", "1,x", "'x' is no int"), ("int", None, "null is not allowed"), ("list[int]", 7, "7 is no list"),
    ],
)  # fmt: skip
def test_a_type_refuses(kind: str, given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parameters.typed(parameter(kind), given)


@pytest.mark.parametrize(
    ("changed", "given", "said"),
    [
        ({"least": 2}, "a", "it has 1 characters; at least 2"), ({"most": 2}, "abc", "it has 3 characters; at most 2"),
        ({"pattern": "[0-9]{6}"}, "2023", r"'2023' does not match \[0-9\]"), ({"choices": ("a", "b")}, "c", "'c' is not one of: a, b"),
        ({"pattern": "[0-9]{6}", "secret": True}, "2023", r"\*\*\* does not match"),
    ],
)  # fmt: skip
def test_bounds(changed: dict[str, Any], given: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parameters.typed(parameter("string", **changed), given)


def test_settings_stand_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "given.yaml"
    file.write_text("a: 1\nb: 2\n")
    made = job(*(parameter("int", name, required=False, default=9) for name in "abc"))
    assert parameters.given(made, ["b=3"], file) == {"a": 1, "b": 3, "c": 9}
    file.write_text("[1]")
    with pytest.raises(ParametersWrong, match="a parameters file is a mapping"):
        parameters.given(made, [], file)


def test_a_value_that_is_given_twice_is_no_value_but_a_list_takes_both() -> None:
    made = job(parameter("int", "a"), parameter("list[int]", "b"))
    assert parameters.given(made, ["a=1", "b=1", "b=2"], None) == {"a": 1, "b": [1, 2]}
    with pytest.raises(ParametersWrong, match="'a' is given 2 times"):
        parameters.given(made, ["a=1", "a=2", "b=1"], None)


def test_what_is_kept_comes_back_as_it_was() -> None:
    made = job(parameter("decimal", "a"), parameter("date", "b"), parameter("list[int]", "c"), parameter("int?", "d"))
    values = {"a": Decimal("0.10"), "b": date(2026, 1, 2), "c": [1, 2], "d": None}
    assert parameters.restored(made, parameters.stored(made, values), []) == values
    with pytest.raises(ParametersWrong, match="leave out --set c"):
        parameters.restored(made, parameters.stored(made, values), ["c=1"])
