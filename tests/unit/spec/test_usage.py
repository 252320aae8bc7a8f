"""Words a user mistypes on the command line, and what a shell completes."""

from __future__ import annotations

import subprocess

import pytest

from engine.cli.completion import PROGRAM
from engine.cli.main import COMPLETE
from tests.inprocess import Engine
from tests.project import Project


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.mark.parametrize(("typed", "meant"), [("rum", "run"), ("Validate", "validate"), ("scheduel", "schedule")])
def test_a_misspelt_command_is_answered_with_the_nearest(engine: Engine, typed: str, meant: str) -> None:
    engine(typed, code=2)
    assert f"no such command {typed!r}; did you mean {meant!r}?" in engine.err


def test_a_command_like_no_other_is_answered_with_where_the_list_is(engine: Engine) -> None:
    engine("xyzzy\x1b[2J", code=2)
    assert "--help` lists the commands" in engine.err
    assert "\x1b" not in engine.err


def test_a_misspelt_option_is_answered_with_the_nearest(engine: Engine) -> None:
    engine("run", "x.yaml", "--limti", "3", code=2)
    assert "--limit" in engine.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_every_shell_has_its_script(engine: Engine, shell: str) -> None:
    script = engine("completion", shell)
    assert COMPLETE in script
    assert PROGRAM in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("shell", "variables", "offered"),
    [
        ("bash", {"COMP_WORDS": "syncledger va", "COMP_CWORD": "1"}, "plain,validate"),
        ("bash", {"COMP_WORDS": "syncledger run --wor", "COMP_CWORD": "2"}, "plain,--workers"),
        ("powershell", {"COMP_WORDS": "syncledger\nsche", "COMP_WORD": "sche"}, "schedule\tKeep running"),
        ("powershell", {"COMP_WORDS": "syncledger\nrun\n--lim", "COMP_WORD": "--lim"}, "--limit\tDue records"),
        ("powershell", {"COMP_WORDS": "syncledger\ncompletion", "COMP_WORD": ""}, "zsh\tzsh"),
    ],
)
def test_a_shell_is_offered_commands_options_and_choices(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, shell: str, variables: dict[str, str], offered: str
) -> None:
    for name, value in {**variables, COMPLETE: f"{shell}_complete"}.items():
        monkeypatch.setenv(name, value)
    assert offered in engine(code=None)


@pytest.mark.parametrize("command", [["run"], ["plan"], ["validate", "--connect"]])
def test_a_connection_that_fails_for_several_entities_is_said_once(
    project: Project, engine: Engine, command: list[str]
) -> None:
    """Three entities read one database that is not there: one message on each stream, not three."""
    project.spec["connections"] = {"default": "sqlite:///gone.db", "log": "sqlite:///log.db"}
    for name in ("Users", "Orgs", "Jobs"):
        project.entity(name)
    engine(command[0], project.write(), *command[1:], code=4)
    for stream in (engine.out, engine.err):
        assert stream.count("there is no SQLite file") <= 1
    assert "there is no SQLite file" in engine.out
