"""Statements are cut apart at `;`, each with its own values; what stands in quotes, comments and bodies is left alone."""

from __future__ import annotations

import pytest

from engine.db.statement import Statement
from engine.errors import DatabaseError
from engine.jobs.script import split


@pytest.mark.parametrize(
    ("text", "values", "wanted"),
    [
        ("SELECT ?", (1,), [("SELECT ?", (1,))]),
        (
            "INSERT INTO t VALUES (?); UPDATE t SET a = ?, b = ?;",
            (1, 2, 3),
            [("INSERT INTO t VALUES (?)", (1,)), ("UPDATE t SET a = ?, b = ?", (2, 3))],
        ),
        ("SELECT '?;', ? ; SELECT \"a;?\"", (1,), [("SELECT '?;', ?", (1,)), ('SELECT "a;?"', ())]),
        (
            "-- one; ?\nSELECT ?; /* two; ? */ SELECT ?",
            (1, 2),
            [("-- one; ?\nSELECT ?", (1,)), ("/* two; ? */ SELECT ?", (2,))],
        ),
        ("SELECT 1;\n-- nothing else\n", (), [("SELECT 1", ())]),
        (";;", (), []),
    ],
)
def test_split(text: str, values: tuple[int, ...], wanted: list[tuple[str, tuple[int, ...]]]) -> None:
    assert [(one.text, one.parameters) for one in split(Statement(text, values))] == wanted


def test_a_value_inside_quotes_is_an_error_and_not_a_shift_of_the_others() -> None:
    with pytest.raises(DatabaseError, match="1 places for 2 values"):
        list(split(Statement("SELECT '?'; SELECT ?", (1, 2))))
