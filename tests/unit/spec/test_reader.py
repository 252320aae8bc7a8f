"""Text to data: YAML 1.2 core, exact places, and never anything but a document or a `SpecError`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Problem, SpecError
from engine.spec.reader import Document, parse, read
from engine.sync.spec.load import Examined, examine
from tests.project import ROOT, Project

SYNC = (ROOT / "pipelines" / "sync.yaml").read_bytes()


def document(text: str | bytes) -> Document:
    return parse(text if isinstance(text, bytes) else text.encode(), "spec.yaml")


def data(text: str | bytes) -> Any:
    return document(text).data


def problems(text: str | bytes) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        document(text)
    return caught.value.problems


def problem(text: str | bytes) -> Problem:
    (found,) = problems(text)
    assert found.file == "spec.yaml"
    assert found.severity == "error"
    return found


def place(text: str | bytes) -> tuple[int, int]:
    found = problem(text)
    return found.line, found.column


# Values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"), ("no", "no"), ("yes", "yes"), ("Yes", "Yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("n", "n"),
        ("22:30", "22:30"), ("12:30:45", "12:30:45"), ("2026-01-01", "2026-01-01"),
        ("2026-01-01T02:03:04Z", "2026-01-01T02:03:04Z"), ("1_000", "1_000"), ("0b11", "0b11"), ("=", "="), ("<<", "<<"),
        ("nUll", "nUll"), ("tRue", "tRue"), ("-0x1", "-0x1"), ("0o8", "0o8"), (".", "."), ("1.2.3", "1.2.3"), ("1,5", "1,5"),
        ("-", None), ("0o17", 15), ("0x1F", 31), ("0777", 777), ("+12", 12), ("-7", -7), ("00", 0),
        ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0), ("-1.5E-2", -0.015), (".inf", math.inf), ("-.INF", -math.inf),
        ("+.Inf", math.inf), ("true", True), ("TRUE", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("'12'", "12"), ('"true"', "true"), ("!!str 12", "12"), ("'null'", "null"),
    ],
)  # fmt: skip
def test_a_plain_value_is_read_by_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    # `-` alone is an item of a list; everything else stands behind a key.
    found = data("- ")[0] if text == "-" else data(f"key: {text}\n")["key"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_a_float() -> None:
    assert math.isnan(data("key: .nan")["key"])


def test_a_number_of_thousands_of_digits_does_not_end_the_reader() -> None:
    assert data(f"key: {'1' * 5000}")["key"] in (math.inf, "1" * 5000)


def test_keys_are_resolved_like_values() -> None:
    assert list(data("NO: a\n5: b\n'2': d\n")) == ["NO", 5, "2"]


def test_block_scalars_keep_their_lines() -> None:
    assert data("a: |\n  SELECT 1\n  FROM t\nb: >-\n  one\n  two\n") == {"a": "SELECT 1\nFROM t\n", "b": "one two"}


def test_a_yaml_1_1_directive_does_not_bring_back_the_norway_problem() -> None:
    assert data("%YAML 1.1\n---\ncountry: NO\n") == {"country": "NO"}


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    plain = "version: 1\nname: sync\napi:\n  headers: { X: \u00e9 }\n"
    windows = b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode()
    assert data(windows) == data(plain)
    assert document(windows).values == document(plain).values
    assert document(windows).keys == document(plain).keys


# Places


def test_keys_and_values_know_their_lines_and_columns() -> None:
    found = document(
        "version: 1\n"
        "api:   # a comment\n"
        "  base_url:   https://x\n"
        "  headers: { A: b, 'C D': [1, 22] }\n"
        "entities:\n"
        "  - name: Users\n"
        "    id: [Id,\n"
        "         Other]\n"
        "  -\n"
        "    name: |\n"
        "      Org\n"
    )
    assert found.keys["api",] == (2, 1)
    assert found.values["api",] == (3, 3)
    assert found.values["api", "base_url"] == (3, 15)
    assert found.keys["api", "headers", "C D"] == (4, 20)
    assert found.values["api", "headers", "C D", 1] == (4, 31)
    assert found.values["entities", 0] == (6, 5)
    assert found.keys["entities", 0, "name"] == (6, 5)
    assert found.values["entities", 0, "name"] == (6, 11)
    assert found.values["entities", 0, "id", 1] == (8, 10)
    assert found.keys["entities", 1, "name"] == (10, 5)
    assert found.values["entities", 1, "name"] == (10, 11)


def test_columns_count_characters_not_bytes() -> None:
    assert document("{ \u00e9\u4e2d\U0001f600: 1, b: 2 }").keys["b",] == (1, 11)


def test_an_empty_value_has_a_place() -> None:
    found = document("api:\nname: x\n")
    assert found.data == {"api": None, "name": "x"}
    assert found.values["api",][0] == 1


def test_a_problem_of_an_absent_place_is_shown_at_its_nearest_parent() -> None:
    found = document("api:\n  timeout: 1s\n").problem(("api", "retry", "wait"), "message")
    assert (found.line, found.column) == (2, 3)


# What is refused


def test_a_duplicate_key_names_both_lines() -> None:
    found = problem("name: a\nversion: 1\nname: b\n")
    assert (found.line, found.column) == (3, 1)
    assert "duplicate key 'name'" in found.message
    assert "line 1" in found.message


def test_every_duplicate_key_is_reported_at_once_at_any_depth() -> None:
    found = problems("a: 1\na: 2\nb: { c: 1, 'c': 2 }\nd:\n  - e: 1\n    e: 2\n")
    assert [(one.line, one.column) for one in found] == [(2, 1), (3, 12), (6, 5)]


def test_the_same_key_in_two_mappings_is_no_duplicate() -> None:
    assert data("a: { x: 1 }\nb: { x: 1 }\n") == {"a": {"x": 1}, "b": {"x": 1}}


@pytest.mark.parametrize("text", ["name: x\nwith:\n\tkey: y\n", "\tname: x\n", "a:\n  b: 1\n\tc: 2\n"])
def test_a_tab_is_called_a_tab(text: str) -> None:
    found = problem(text)
    assert "tab" in found.message
    assert found.line == text[: text.index("\t")].count("\n") + 1


@pytest.mark.parametrize("text", ["", "\n\n", "   \n", "# only a comment\n", "\ufeff"])
def test_an_empty_file_says_how_to_begin(text: str) -> None:
    found = problem(text)
    assert "empty" in found.message
    assert "init" in found.message


def test_a_second_document_is_refused_where_it_begins() -> None:
    found = problem("name: x\n---\nname: y\n")
    assert (found.line, found.column) == (2, 1)
    assert "second YAML document" in found.message


@pytest.mark.parametrize(
    "text",
    ["a: !secret x\n", "a: !secret [x]\n", "a: !secret { b: c }\n", "a: !secret\n  - x\n", "a: !!python/object:os.x {}\n",
     "!secret a: x\n", "!secret\na: x\n", "a: !!set { x, y }\n"],
)  # fmt: skip
def test_an_unknown_tag_is_refused_on_values_of_every_kind_and_on_keys(text: str) -> None:
    found = problem(text)
    assert "tag" in found.message
    assert found.line == 1
    assert found.column == text.index("!") + 1


def test_the_core_tags_of_lists_and_mappings_are_known() -> None:
    assert data("a: !!seq [1]\nb: !!map { c: 1 }\n") == {"a": [1], "b": {"c": 1}}


@pytest.mark.parametrize("text", ["? [a]\n: b\n", "? { a: b }\n: c\n", "a: &k b\n*k : c\n"])
def test_a_key_that_is_not_text_is_refused(text: str) -> None:
    assert "key" in problem(text).message


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_a_file_that_nests_thousands_deep_is_refused_not_crashed(opening: str) -> None:
    assert "nested deeper" in problem(opening * 3000).message


def test_a_reasonable_depth_is_read() -> None:
    assert data("[" * 30 + "]" * 30)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("name: x\x01y\n", 1, 8),
        ("a: b\nname: x\x08\n", 2, 8),
        ("# \u00e9\u00e9\u00e9\nname: x\x01y\n", 2, 8),
        ("a: \u4e2d\x02\n", 1, 5),
        ("a: \x7f\n", 1, 4),
        ("a: b\r\nc: \x00\r\n", 2, 4),
    ],
)
def test_a_control_character_is_named_at_its_place(text: str, line: int, column: int) -> None:
    found = problem(text)
    control = next(character for character in text if character in "\x00\x01\x02\x08\x7f")
    assert f"U+{ord(control):04X}" in found.message
    assert (found.line, found.column) == (line, column)


@pytest.mark.parametrize(
    ("raw", "byte", "line", "column"),
    [
        (b"name: caf\xe9\n", "0xe9", 1, 10),
        (b"a: b\nname: \xff\n", "0xff", 2, 7),
        # Columns count characters everywhere else, so here too.
        ("name: \u00e9\u4e2d".encode() + b"\xff\n", "0xff", 1, 9),
        (b"a: 1\r\nb: \xa0\r\n", "0xa0", 2, 4),
        # The mark at the start of the file is no character of the text.
        (b"\xef\xbb\xbfname: ab\xff\n", "0xff", 1, 9),
        (b"\xef\xbb\xbfa: 1\nname: \xfe\n", "0xfe", 2, 7),
    ],
)
def test_a_byte_that_is_not_utf_8_is_named_at_its_place(raw: bytes, byte: str, line: int, column: int) -> None:
    found = problem(raw)
    assert "UTF-8" in found.message
    assert byte in found.message
    assert (found.line, found.column) == (line, column)


def test_utf_16_as_windows_writes_it_is_refused_with_the_remedy() -> None:
    assert "save the file as UTF-8" in problem("name: x\n".encode("utf-16")).message


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: b: c\n", 1), ("a: [1, 2\nb: 3\n", 2), ("a: 'x\nb: 3\n", 1), ("- a\nb: c\n", 2), ("a: @x\n", 1), ("a: 1\n b: 2\n", 2)],
)  # fmt: skip
def test_a_syntax_error_has_a_line(text: str, line: int) -> None:
    found = problem(text)
    assert found.message.startswith("not YAML: ")
    assert line <= found.line <= line + 1
    assert "\n" not in found.message


# Anchors


def test_an_alias_is_what_its_anchor_says() -> None:
    found = document("a: &x { b: [1, 2] }\nc: *x\nd: &y text\ne: [*y, *y]\n")
    assert found.data == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": "text", "e": ["text", "text"]}
    # What is wrong in the copy is mended where it is written.
    assert found.values["c", "b", 1] == found.values["a", "b", 1] == (1, 16)


def test_an_unknown_anchor_is_refused_at_the_alias() -> None:
    found = problem("a: 1\nb: *nothing\n")
    assert "anchor" in found.message
    assert (found.line, found.column) == (2, 4)


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a { b: *a }\n", "&a [*a, *a]\n"])
def test_an_anchor_that_holds_itself_is_refused(text: str) -> None:
    assert "anchor" in problem(text).message


def test_a_billion_laughs_is_refused_at_once() -> None:
    lines = ["l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]" for level in range(1, 10)]
    started = time.monotonic()
    assert "values" in problem("\n".join(lines)).message
    assert time.monotonic() - started < 5


def test_many_small_aliases_are_read_or_refused_at_once() -> None:
    # Far below every limit on size and on values; what an alias costs must not grow with the file.
    text = "a: &a x\nb: [" + ", ".join(["*a"] * 6000) + "]\n"
    started = time.monotonic()
    assert len(data(text)["b"]) == 6000
    assert time.monotonic() - started < 2


def test_the_lines_of_a_block_scalar_are_right_through_an_alias(tmp_path: Path) -> None:
    made = Project(tmp_path / "project")
    text = (
        "version: 1\nname: sync\nconnections: { default: 'sqlite:///a.db', log: 'sqlite:///b.db' }\n"
        "api: { base_url: 'https://x' }\n"
        "entities:\n"
        "  - name: A\n    endpoint: /a\n    query: &q |\n      SELECT Id,\n        {{ nothing }} FROM T\n"
        "  - name: B\n    endpoint: /b\n    query: *q\n"
    )
    found = {(one.line, one.column) for one in examine(made.write(text), {}).problems}
    assert found == {(10, 12)}


# Files


def test_a_missing_file_is_a_problem_of_the_spec(tmp_path: Path) -> None:
    (found,) = examine(tmp_path / "none.yaml", {}).problems
    assert found.message == "no such file"
    assert (found.file, found.line, found.column) == (str(tmp_path / "none.yaml"), 1, 1)


def test_a_directory_is_a_problem_of_the_spec(tmp_path: Path) -> None:
    (found,) = examine(tmp_path, {}).problems
    assert "directory" in found.message


def test_a_file_under_a_file_is_a_problem_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1")
    (found,) = examine(tmp_path / "a.yaml" / "b.yaml", {}).problems
    assert found.message


def test_five_megabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_bytes(b"a: " + b"x" * 5_000_000)
    started = time.monotonic()
    (found,) = examine(file, {}).problems
    assert "5.0 MB" in found.message
    assert time.monotonic() - started < 3


def test_a_large_spec_within_the_limits_is_read(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("\n".join(f"key{number}: value {number}" for number in range(20_000)))
    assert len(read(file, "large.yaml").data) == 20_000


# Whatever the bytes


def _mutate(raw: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for where, length, text in edits:
        start = where % (len(raw) + 1)
        raw = raw[:start] + text + raw[start + length :]
    return raw


FRAGMENTS = [
    b"\t", b"\n", b"\r", b" ", b"  ", b":", b": ", b"- ", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"!x ", b"!!int ", b"|", b">-",
    b"'", b'"', b"#", b"%", b"@", b"`", b"?", b"? ", b",", b"---\n", b"...\n", b"\xff", b"\x00", b"\xef\xbb\xbf", b"\xc2\x85",
    b"\xe2\x80\xa8", b"~", b"null", b"true", b"1", b"-1", b".nan", b".inf", b"1e999", b"0x", b"${", b"${A}", b"${A:-}", b"$${",
    b"{{", b"}}", b"{%", b"<<: *a", b"'\\ud800'", b'"\\0"', b"name", b"sql: ", b"query: ", b"fields: ", b"id: ", b"\n\n  - ",
]  # fmt: skip
EDIT = st.tuples(st.integers(0, len(SYNC)), st.integers(0, 12), st.sampled_from(FRAGMENTS) | st.binary(max_size=4))
MUTATED = st.lists(EDIT, min_size=1, max_size=6).map(lambda edits: _mutate(SYNC, edits))
YAMLISH = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join)
ANYTHING = st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))


def _is_a_document_or_a_spec_error(raw: bytes) -> None:
    lines = raw.count(b"\n") + raw.count(b"\r") + raw.count(b"\xc2\x85") + raw.count(b"\xe2\x80") + 1
    problems: list[Problem] = []
    found = None
    try:
        found = parse(raw, "spec.yaml")
    except SpecError as failure:
        problems = failure.problems
    assert (found is None) == bool(problems)
    for one in problems:
        assert 1 <= one.line <= lines + 1, one
        assert one.column >= 1
        assert one.message
    if found is not None:
        assert isinstance(found, Document)
        assert all(line >= 1 and column >= 1 for line, column in found.values.values())
        assert set(found.keys) <= set(found.values) or _has_nan(found.data)


def _has_nan(value: Any) -> bool:
    # A NaN is unequal to itself, so a key that is one is found by no place.
    return "nan" in repr(value)


@settings(max_examples=150)
@given(ANYTHING | YAMLISH)
def test_any_bytes_are_a_document_or_a_spec_error(raw: bytes) -> None:
    _is_a_document_or_a_spec_error(raw)


@settings(max_examples=60)
@given(MUTATED)
def test_any_damage_to_a_spec_is_a_document_or_a_spec_error(raw: bytes) -> None:
    _is_a_document_or_a_spec_error(raw)


VALUES = st.recursive(
    st.sampled_from(
        ["~", "1", "-1", "0", "1.5", ".nan", ".inf", "true", "''", "x", "sqlite:///a.db", "POST", "'${A}'", "'${B:-4}'", "guid",
         "'{{ x'", "'((('", "users.sql.j2", "'../x'", "/etc/passwd", "'SELECT Id FROM T'", "'a.b['", "UTC", "30s", "0s", "'* * * * *'"]
    )
    | st.text(alphabet="ab1:{}%$()[]\\\"'-/\u00e9\0\n", max_size=6).map(lambda text: repr(text).replace("\\'", "''"))
    | st.just("'x'"),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    | st.dictionaries(
        st.sampled_from(
            ["name", "sql", "query", "id", "endpoint", "every", "cron", "timezone", "bearer", "basic", "user", "base_url", "retry",
             "fields", "transform", "results", "path", "accepted", "rename", "convert", "add", "select", "split", "field",
             "pattern", "into", "connection", "default", "log", "1", "true", "~", "x y"]
        ),
        inner,
        max_size=4,
    ).map(lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}"),
    max_leaves=12,
)  # fmt: skip
TOP = [
    "version",
    "name",
    "description",
    "connections",
    "schedule",
    "ledger",
    "api",
    "lease",
    "defaults",
    "entities",
    "1",
    "x",
]
SHAPED = st.dictionaries(st.sampled_from(TOP), VALUES, max_size=8).map(
    lambda pairs: "\n".join(f"{key}: {value}" for key, value in pairs.items()).encode()
)


@pytest.fixture
def look(tmp_path: Path) -> Callable[[bytes], Examined]:
    made = Project(tmp_path / "project")
    made.template("users.sql.j2", '{% extends "page.sql.j2" %}{% block query %}SELECT Id FROM T{% endblock %}')

    def examined(raw: bytes) -> Examined:
        made.file.write_bytes(raw)
        return examine(made.file, {"A": "text", "DEFAULT_CONNECTION": "sqlite:///a.db"})

    return examined


def _has_problems_or_a_pipeline(loaded: Examined) -> None:
    errors = [one for one in loaded.problems if one.severity == "error"]
    assert loaded.loaded is None or not errors
    assert loaded.loaded is not None or loaded.problems
    assert all(one.line >= 1 and one.column >= 1 and "\n" not in str(one) for one in loaded.problems)


@settings(max_examples=40)
@given(raw=ANYTHING)
def test_a_file_of_any_bytes_gives_problems(look: Callable[[bytes], Examined], raw: bytes) -> None:
    loaded = look(raw)
    assert loaded.problems
    _has_problems_or_a_pipeline(loaded)


@settings(max_examples=40)
@given(raw=MUTATED)
def test_a_damaged_spec_gives_problems_or_a_pipeline(look: Callable[[bytes], Examined], raw: bytes) -> None:
    _has_problems_or_a_pipeline(look(raw))


@settings(max_examples=150)
@given(raw=SHAPED)
def test_a_spec_of_any_shape_gives_problems_or_a_pipeline(look: Callable[[bytes], Examined], raw: bytes) -> None:
    _has_problems_or_a_pipeline(look(raw))


def test_the_limit_of_values_is_the_number_that_is_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.spec.reader.MAX_NODES", 5)
    assert data("[1, 2, 3, 4]") == [1, 2, 3, 4]
    assert "more than 5 values" in problem("[1, 2, 3, 4, 5]").message
