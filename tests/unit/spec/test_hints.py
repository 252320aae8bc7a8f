"""What `validate` says where a value misses its form, a text is not YAML, or a setting gives secrets away: what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import Problem
from engine.runtime.connection_check import check_connections
from engine.sync.spec.load import examine, load
from tests.project import Project

HEAD = 'version: 1\nname: sync\nconnections: { default: "sqlite:///source.db", log: "sqlite:///log.db" }\n'
USERS = "entities:\n  - name: Users\n    endpoint: /users\n    query: SELECT Id, Name FROM Users\n"


@pytest.fixture
def made(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def look(made: Project, api: str, rest: str = "", **variables: str) -> list[Problem]:
    text = f"{HEAD}api:\n" + "".join(f"  {line}\n" for line in api.splitlines()) + rest + USERS
    return examine(made.write(text), variables).problems


def only(made: Project, api: str, rest: str = "", **variables: str) -> Problem:
    (found,) = look(made, api, rest, **variables)
    return found


# Values


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("10", "write 10s"),
        ('"10"', "write 10s"),
        ("1.5", "write 1.5s"),
        ("10 s", "write 10s"),
        ("2d", "write 48h"),
        ("soon", "write a number with ms, s, m or h"),
    ],
)
def test_a_duration_without_its_unit_says_what_to_write(made: Project, written: str, hint: str) -> None:
    assert hint in only(made, f"base_url: https://x\ntimeout: {written}").message


@pytest.mark.parametrize("written", ["25:00", "2:00", "24:00", "12"])
def test_a_time_of_day_that_there_is_not_says_the_range(made: Project, written: str) -> None:
    assert "00:00 to 23:59" in only(made, "base_url: https://x", f"schedule: {{ daily_at: {written} }}\n").message


@pytest.mark.parametrize(
    ("written", "variables", "said"),
    [
        ("api.example.com/v1", {}, "'api.example.com/v1'; write https://api.example.com/v1"),
        ('"${URL}"', {"URL": "api.example.com"}, "'api.example.com' (from ${URL}); write https://api.example.com"),
        ('"${URL}"', {"URL": "127.0.0.1:8900"}, "write http://127.0.0.1:8900"),
        ("ftp://x", {}, "'ftp://x'; write https://..."),
    ],
)
def test_a_base_url_without_a_scheme_shows_the_value(
    made: Project, written: str, variables: dict[str, str], said: str
) -> None:
    assert said in only(made, f"base_url: {written}", **variables).message


def test_a_base_url_that_is_shown_never_shows_a_password_or_a_query(made: Project) -> None:
    message = only(made, 'base_url: "${URL}"', URL="hr:s3cret@api.example.com/x?key=s3cret").message
    assert "api.example.com/x" in message
    assert "s3cret" not in message


def test_a_token_url_over_http_says_that_https_is_needed(made: Project) -> None:
    auth = "oauth2: { token_url: http://x/token, client_id: a, client_secret: b }"
    assert "write https://" in only(made, f"base_url: https://x\nauth: {{ {auth} }}").message


# YAML


@pytest.mark.parametrize(
    ("api", "line", "said"),
    [
        ("base_url: https://x\nauth: { bearer: ${TOKEN} }", 6, 'quote it: bearer: "${TOKEN}"'),
        ("base_url: https://x\nauth: {bearer: ${TOKEN}}", 6, 'quote it: bearer: "${TOKEN}"'),
        ("base_url: https://x\n timeout: 10s", 6, "indented further than the line before it"),
        ("headers:\n  A: b\n C: d", 7, "indented differently from the keys of its mapping"),
        ("base_url: https://x\ntimeout 10s", 6, "no `key: value`"),
        ("base_url: https://x\nproxy: http://x: 5", 6, "a second `: ` in one line"),
        ("base_url: 'https://x", 5, "this quote is never closed"),
        ("headers: { A: b", 6, "the `{` of line 5 is never closed"),
        ("base_url: @x", 5, "a text that begins with @ stands in quotes"),
    ],
)
def test_a_text_that_is_not_yaml_is_explained_in_plain_words(made: Project, api: str, line: int, said: str) -> None:
    """Indentation, quotes and braces; never the parser's own terms."""
    found = only(made, api, TOKEN="t0ken")
    assert said in found.message
    assert found.line == line
    assert "while parsing" not in found.message


def test_an_item_of_a_list_with_keys_out_of_line_is_explained(made: Project) -> None:
    text = HEAD + "api: { base_url: https://x }\nentities:\n  - name: Users\n   endpoint: /users\n"
    (found,) = examine(made.write(text), {}).problems
    assert "indented differently from the items of its list" in found.message


def test_no_hint_takes_long_for_a_long_line(made: Project) -> None:
    for letter in ("a", "$", "{", " ", "-", "0"):
        look(made, f"base_url: https://x\nauth: {{ x: {letter * 100_000}: ${{X}} }}")
        look(made, f"base_url: https://x\ntimeout: '{letter * 100_000}'")


# How secrets travel


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("api.example.com", True),
        ("10.0.0.7:8080", True),
        ("127.0.0.1:8900", False),
        ("localhost", False),
        ("[::1]:80", False),
    ],
)
@pytest.mark.parametrize(
    "auth", ["bearer: abc", "basic: { user: a, password: b }", "header: { name: X-Key, value: b }"]
)
def test_credentials_over_plain_http_to_another_machine_are_a_warning(
    made: Project, host: str, auth: str, told: bool
) -> None:
    found = look(made, f"base_url: http://{host}\nauth: {{ {auth} }}")
    assert [problem.severity for problem in found] == ["warning"] * told
    assert all("clear text" in problem.message for problem in found)
    assert look(made, f"base_url: https://{host}\nauth: {{ {auth} }}") == []
    assert look(made, f"base_url: http://{host}") == []


def test_trusting_any_server_is_a_warning(made: Project) -> None:
    found = only(made, "base_url: https://x\nverify: false")
    assert found.severity == "warning"
    assert "`verify: false` trusts any server" in found.message


@pytest.mark.parametrize("value", ["x\r\nX-Other: y", "x\n", "x\0", "\x1b[2J"])
@pytest.mark.parametrize(
    "api",
    [
        'headers: { X-Key: "${V}" }',
        'auth: { bearer: "${V}" }',
        'auth: { basic: { user: "${V}", password: b } }',
        'auth: { header: { name: X-Key, value: "${V}" } }',
    ],
)
def test_a_control_character_in_a_header_or_a_secret_is_an_error(made: Project, api: str, value: str) -> None:
    """A line break in a header would begin another header; a token read from a file often ends with one."""
    found = only(made, f"base_url: https://x\n{api}", V=value)
    assert found.severity == "error"
    assert "holds a" in found.message
    assert value not in found.message


@pytest.mark.parametrize("written", ["null", '""', '"  "', '"${V}"'])
def test_an_empty_token_is_an_error(made: Project, written: str) -> None:
    found = only(made, f"base_url: https://x\nauth: {{ bearer: {written} }}", V="")
    assert found.severity == "error"
    assert "'bearer'" in found.message


@pytest.mark.parametrize(
    ("ledger", "said"),
    [
        ("tracking_table: SchedulerLog", "are both"),
        ("tracking_table: dbo.schedulerlog", "are both"),
        ("log_table: TB_R_SYNC_TRACKING", "are both"),
        ("tracking_table: TB_R_SYNC_BATCH", "the engine's own"),
        ("log_table: dbo.TB_R_SYNC_RUN", "the engine's own"),
    ],
)
def test_one_table_for_two_things_is_an_error(made: Project, ledger: str, said: str) -> None:
    found = look(made, "base_url: https://x", f"ledger: {{ {ledger} }}\n")
    assert [problem.severity for problem in found] == ["error"] * len(found)
    assert any(said in problem.message for problem in found)


def test_tables_of_other_names_are_sound(made: Project) -> None:
    names = "tracking_table: a.SchedulerLog, log_table: b.SchedulerLog"
    assert look(made, "base_url: https://x", f"ledger: {{ {names} }}\n") == []


def test_columns_of_one_name_are_called_by_that_name(made: Project) -> None:
    """SQLite calls the second `Name` of a derived table `Name:1`; the user wrote `Name`."""
    made.users(1)
    made.entity(query="SELECT u.Id, u.Name, v.name FROM Users u JOIN Users v ON u.Id = v.Id")
    loaded = load(made.write(), {})
    (failure,) = [p for p in check_connections(loaded).problems if p.severity == "error"]
    assert "two columns called 'Name'" in failure.message
    assert ":1" not in failure.message
