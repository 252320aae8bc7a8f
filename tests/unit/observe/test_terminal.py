"""Text from outside (IDs, answers, file contents) can neither steer a terminal nor pass for a line of ours."""

from __future__ import annotations

import ast
import csv
import io
import json
import logging
import unicodedata
from pathlib import Path

import pytest

from engine.observe import logs
from engine.observe.printable import printable, printable_json
from tests.faultapi import FaultAPI, answer, raw
from tests.project import ROOT, Project

ESC = "\x1b"
FORGED = "T: done, all delivered"
EVIL = [
    f"{ESC}[2J{ESC}[1;1Hred{ESC}[31m",
    f"{ESC}]0;owned\x07title",
    f"{ESC}]8;;http://evil.example{ESC}\\link",
    "user\u202egnp.exe\u2066x\u2069",
    f"a\n{FORGED}",
    f"b\r{FORGED}",
    f"c\u2028{FORGED}\u2029{FORGED}\x85{FORGED}",
    "d\x9b31m\x9d0;owned\x9c\x7f\x08\x00",
]
"""Clear the screen, set a title, hide a link, turn text around, forge a line in five ways, and the same with C1 codes."""


def steering(text: str) -> list[str]:
    """The characters of a text that a terminal would obey, but for line breaks."""
    return [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")]


def forged(text: str) -> list[str]:
    """Lines that pass for a line of ours."""
    return [line for line in text.splitlines() if line.startswith(FORGED)]


def ids() -> list[str]:
    """IDs as bad as the texts; no database takes NUL in one."""
    return [text.replace("\x00", "") for text in EVIL]


@pytest.fixture
def evil(project: Project, api: FaultAPI) -> Project:
    """A source whose IDs, and an API whose verdicts, refusals and headers, hold all of `EVIL`."""
    project.fill("T", "Id TEXT PRIMARY KEY, Name TEXT", [(id_, "x") for id_ in ids()])
    results = {"path": "@", "id": "Id", "accepted": "ok", "reason": "why"}
    project.entity("T", results=results)
    said = [{"Id": id_, "ok": False, "why": text} for id_, text in zip(ids(), EVIL, strict=True)]
    api.script("/t", answer(200, said))
    for name, behaviour in {
        "U": answer(500, "".join(EVIL)),
        "V": answer(302, "", Location="/\u00c2\u009b31mx"),
        "W": raw(b"HTTP/1.1 400 Bad\r\n\x1b[31mNo-Colon-Here\r\nX: \x1b]0;owned\x07\r\nContent-Length: 2\r\n\r\n{}"),
    }.items():
        project.users(1, name)
        project.entity(name)
        api.script(f"/{name.lower()}", behaviour)
    project.spec["api"]["retry"] = {"attempts": 1}
    project.write()
    return project


def test_no_text_of_a_source_or_an_api_steers_the_terminal_or_forges_a_line(evil: Project) -> None:
    """On a real process, and then every command that shows what was stored."""
    run = evil.cli("run", evil.file, process=True)
    assert run.returncode == 1, run.stderr
    assert "\\x1b[2J" in run.stdout, "the reasons are shown"
    shown = {"run stdout": run.stdout, "run stderr": run.stderr}
    for arguments in (
        ["rejects", evil.file], ["status", evil.file], ["why", evil.file, "T", ids()[0]], ["why", evil.file, "T", ids()[4]],
        ["plan", evil.file, "--preview", "1"], ["retry", evil.file, "T", ids()[6]], ["forget", evil.file, "T", ids()[4]],
        ["run", evil.file, "--log-format", "json", "--format", "json"], ["rejects", evil.file, "--format", "json"],
        ["why", evil.file, "T", ids()[3], "--format", "json"], ["status", evil.file, "--format", "json"],
        ["plan", evil.file, "--preview", "1", "--format", "json"],
        ["resolve", evil.file, EVIL[4], "drop"], ["run", evil.file, "--entity", EVIL[0]], ["run", evil.file, f"--{EVIL[0]}"],
    ):  # fmt: skip
        done = evil.cli(*arguments)
        assert done.returncode != 70, done.stderr
        assert done.stdout or done.stderr
        shown[f"{arguments[0]} {arguments[2:]}"] = done.stdout + done.stderr
    assert {name: found for name, text in shown.items() if (found := steering(text) + forged(text))} == {}


def test_json_says_what_was_stored_though_no_terminal_obeys_it(evil: Project) -> None:
    """Escapes of JSON: what reads the document gets every character."""
    evil.cli("run", evil.file)
    done = evil.cli("rejects", evil.file, "--entity", "T", "--format", "json")
    assert steering(done.stdout) == []
    found = {item["id"]: item["reason"] for item in json.loads(done.stdout)["rejects"]}
    assert found == {id_: text.replace("\x00", "\\0") for id_, text in zip(ids(), EVIL, strict=True)}


def test_csv_keeps_one_line_per_record_and_steers_nothing(evil: Project) -> None:
    evil.cli("run", evil.file)
    done = evil.cli("rejects", evil.file, "--entity", "T", "--format", "csv")
    assert steering(done.stdout) == []
    assert len(done.stdout.splitlines()) == 1 + len(EVIL)
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert {row["reason"] for row in rows} == {printable(text.replace("\x00", "\\0")) for text in EVIL}


def test_a_problem_of_a_spec_steers_nothing_in_any_form(project: Project) -> None:
    """The key of a mapping is shown; a GitHub annotation ends with its line."""
    project.spec["entities"] = [{"name": "T", "query": "SELECT 1 AS Id", "endpoint": "/t"}]
    text = "".join(EVIL).replace("\x00", "")
    project.spec[text] = 1
    project.file.write_text(json.dumps(project.spec))
    for form in ("text", "github", "json"):
        done = project.cli("validate", project.file, "--format", form)
        assert done.returncode == 2
        assert "unknown key" in done.stdout
        assert steering(done.stdout + done.stderr) == []
        assert forged(done.stdout) == []


def test_a_log_line_is_one_line_and_a_traceback_is_set_in() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("engine")
    before = logger.handlers[:], logger.propagate, logger.level
    try:
        logs.setup(as_json=False, quiet=False, stream=stream)
        logger.info("T: rejected %s", "".join(EVIL))
        try:
            raise ValueError("".join(EVIL))
        except ValueError:
            logger.exception("T: a bug")
    finally:
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
    first, second, *trace = stream.getvalue().split("\n")
    assert " INFO T: rejected \\x1b[2J" in first
    assert second.endswith(" ERROR T: a bug")
    assert all(line.startswith("  ") for line in trace[:-1])
    assert steering(stream.getvalue()) == []
    assert forged(stream.getvalue()) == []


def test_text_of_any_script_is_shown_as_it_is() -> None:
    for text in (
        "Chlo\u00e9 \u65e5\u672c \u0416 \U0001f600 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
        "a b\u00a0c\u2013d",
    ):
        assert printable(text) == text
        assert printable_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


@pytest.mark.parametrize("text", EVIL)
def test_json_with_escapes_says_the_same(text: str) -> None:
    import orjson

    escaped = printable_json(orjson.dumps({text: [text]}).decode())
    assert json.loads(escaped) == {text: [text]}
    assert steering(escaped) == []


# One way to the screen


SHOWING = {"echo", "secho", "print", "confirm", "prompt", "write"}
SAFE = {"safe", "printable_json"}
ALLOWED = {
    "say.py": "it is the way",
    "common.py": "the table, whose cells are made safe",
}


def _unsafe(call: ast.Call) -> bool:
    """True for a call that shows something that is neither constant nor made safe."""
    function = call.func
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    if name not in SHOWING:
        return False
    if name == "write" and not ast.unparse(function).startswith("sys."):
        return False

    def sound(value: ast.expr) -> bool:
        made = value.func if isinstance(value, ast.Call) else None
        return isinstance(value, ast.Constant) or (isinstance(made, ast.Name) and made.id in SAFE)

    return not all(map(sound, call.args))


@pytest.mark.parametrize("file", sorted((ROOT / "engine" / "cli").glob("*.py")), ids=lambda file: file.name)
def test_a_command_shows_nothing_but_constants_and_safe_texts(file: Path) -> None:
    """`say`, or `safe(...)` inside what click shows: so that no command is written that forgets it."""
    if file.name in ALLOWED:
        return
    calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert [f"{file.name}:{call.lineno}: {ast.unparse(call)}" for call in calls if _unsafe(call)] == []


def test_the_rule_finds_what_breaks_it() -> None:
    bad = [
        "click.echo(f'{x}')",
        "console.print(x)",
        "print(x)",
        "click.confirm(f'{x}?', abort=True)",
        "sys.stdout.write(x)",
    ]
    good = ["click.echo('x')", "click.echo()", "click.confirm(safe(x))", "file.write(x)", "say(x)"]
    assert [_unsafe(ast.parse(text, mode="eval").body) for text in bad + good] == [True] * 5 + [False] * 5  # type: ignore[arg-type]
