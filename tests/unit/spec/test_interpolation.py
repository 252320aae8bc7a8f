"""`${NAME}` and `.env`: what a variable becomes, what a missing one does, and which folder is the project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.http.settings import BearerAuth
from engine.spec.load import project_root
from engine.sync.model import Pipeline
from engine.sync.spec.load import Examined, examine
from tests.faultapi import FaultAPI
from tests.project import Project


@pytest.fixture
def made(tmp_path: Path) -> Project:
    """A project whose API is never called."""
    project = Project(tmp_path / "project")
    project.entity()
    return project


def look(made: Project, environment: Mapping[str, str] | None = None) -> Examined:
    return examine(made.write(), environment or {})


def pipeline(made: Project, environment: Mapping[str, str] | None = None) -> Pipeline:
    loaded = look(made, environment)
    assert loaded.loaded, loaded.problems
    return loaded.loaded.pipeline


def described(made: Project, text: str, environment: Mapping[str, str] | None = None) -> str:
    """What a text in the spec becomes."""
    made.spec["description"] = text
    return pipeline(made, environment).description


@pytest.mark.parametrize(
    ("text", "environment", "value"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("-${A}-${B}-", {"A": "x", "B": "y"}, "-x-y-"),
        ("${A}${A}", {"A": "x"}, "xx"),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": "x"}, "x"),
        # As in a shell, `:-` stands in for an empty variable too.
        ("${A:-d}", {"A": ""}, "d"),
        ("${A:-}", {}, ""),
        ("${A}", {"A": ""}, ""),
        ("${A:-a:b#c 'd'}", {}, "a:b#c 'd'"),
        ("${A:-http://x:1/}", {}, "http://x:1/"),
        ("${A:--1}", {}, "-1"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$${A} ${A}", {"A": "x"}, "${A} x"),
        ("$$ $A $", {"A": "x"}, "$$ $A $"),
        # A value is text, never read again.
        ("${A}", {"A": "${B}", "B": "y"}, "${B}"),
        ("${A}", {"A": "*x &y {z} [1] #"}, "*x &y {z} [1] #"),
        ("${A}", {"A": "NO"}, "NO"),
        ("${A}", {"A": "007"}, "007"),
        ("${A}", {"A": "\u00e9\U0001f600"}, "\u00e9\U0001f600"),
        ("${_a_1}", {"_a_1": "x"}, "x"),
    ],
)
def test_a_reference_becomes_its_value(made: Project, text: str, environment: dict[str, str], value: str) -> None:
    assert described(made, text, environment) == value


def test_keys_are_not_interpolated(made: Project) -> None:
    made.spec["api"]["headers"] = {"X-A": "${A}"}
    made.entity("B", fields={"Id": "int", "${A}": "string"})
    found = pipeline(made, {"A": "x"})
    assert found.api.headers == {"X-A": "x"}
    assert [field.name for field in found.entities[1].fields or ()] == ["Id", "${A}"]


@pytest.mark.parametrize(
    "password",
    ["pa:ss#word", "a # b", "'single'", '"double"', "a: b", "%40{}[]", "back\\slash", "{{ x }}", "- x", "!t", "@a`"],
)
def test_a_password_needs_no_escaping(made: Project, password: str) -> None:
    made.spec["api"]["auth"] = {"bearer": "${TOKEN}"}
    assert pipeline(made, {"TOKEN": password}).api.auth == BearerAuth(password)


@pytest.mark.parametrize(
    ("keys", "name", "text", "value"),
    [
        (("api",), "in_flight", "8", 8),
        (("api",), "gzip", "true", True),
        (("api",), "gzip", "false", False),
        (("api", "retry"), "attempts", "7", 7),
        # Text is possible here, but no file is called `true`: a switch is meant.
        (("api",), "verify", "true", True),
        (("api",), "verify", "false", False),
        (("entities", 0), "batch_size", "12", 12),
        (("entities", 0), "page_size", "0x10", 16),
    ],
)
def test_a_variable_becomes_the_number_or_switch_that_its_key_takes(
    made: Project, keys: tuple[Any, ...], name: str, text: str, value: Any
) -> None:
    holder: Any = made.spec
    for key in keys:
        holder = holder[key]
    holder[name] = "${X}"
    built = pipeline(made, {"X": text})
    found: Any = built.entities[0] if keys[0] == "entities" else built.api
    found = getattr(found.retry if "retry" in keys else found, name)
    assert found == value
    assert type(found) is type(value)


def test_a_default_becomes_a_number_too(made: Project) -> None:
    made.spec["api"]["in_flight"] = "${X:-3}"
    made.spec["version"] = "${V:-1}"
    assert pipeline(made).api.in_flight == 3


def test_a_number_stays_text_where_text_is_wanted(made: Project) -> None:
    made.spec["name"] = "${X}"
    made.spec["api"]["headers"] = {"X-Tenant": "${X}"}
    found = pipeline(made, {"X": "42"})
    assert (found.name, found.api.headers) == ("42", {"X-Tenant": "42"})


def test_a_number_written_as_text_in_the_spec_is_not_converted(made: Project) -> None:
    made.spec["api"]["in_flight"] = "4"
    (problem,) = look(made).problems
    assert "'in_flight'" in problem.message


@pytest.mark.parametrize("text", ["four", "", "4.5", "0", "1000", "true", " 4"])
def test_a_variable_that_is_no_such_number_is_a_problem_that_shows_no_value(made: Project, text: str) -> None:
    made.spec["api"]["in_flight"] = "${X}"
    (problem,) = look(made, {"X": text}).problems
    assert problem.severity == "error"
    assert "in_flight" in problem.message
    lines = made.file.read_text().splitlines()
    assert lines[problem.line - 1][problem.column - 1 :].startswith("${X}")


# Missing


def test_a_missing_variable_is_a_warning_at_its_value_and_leaves_no_pipeline(made: Project) -> None:
    made.spec["connections"]["default"] = "${NOWHERE}"
    loaded = look(made)
    (problem,) = loaded.problems
    assert (problem.severity, problem.line, problem.column) == ("warning", 4, 12)
    assert "NOWHERE" in problem.message
    assert loaded.loaded is None


def test_every_missing_variable_of_one_text_is_named(made: Project) -> None:
    made.spec["description"] = "${ONE} ${TWO:-x} ${THREE}"
    messages = [problem.message for problem in look(made).problems]
    assert len(messages) == 2
    assert any("ONE" in message for message in messages)
    assert any("THREE" in message for message in messages)


def test_a_missing_variable_hides_no_other_problem(made: Project) -> None:
    made.spec["connections"]["default"] = "${NOWHERE}"
    made.spec["api"]["in_flight"] = "${NOWHERE_TOO}"
    made.spec["api"]["tiemout"] = "1s"
    found = look(made).problems
    assert [problem.severity for problem in found].count("warning") == 2
    assert ["tiemout" in problem.message for problem in found if problem.severity == "error"] == [True]


def test_a_missing_variable_is_a_warning_in_validate_and_an_error_in_run(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity()
    project.spec["api"]["auth"] = {"bearer": "${NOT_SET_ANYWHERE}"}
    project.write()
    checked = project.cli("validate", "pipelines/sync.yaml")
    assert checked.returncode == 0, checked.stdout
    assert "warning: the environment variable NOT_SET_ANYWHERE is not set" in checked.stdout
    ran = project.cli("run", "pipelines/sync.yaml")
    assert ran.returncode == 2
    assert "NOT_SET_ANYWHERE" in ran.stderr
    assert "warning" not in ran.stderr
    as_json = project.cli("run", "pipelines/sync.yaml", "--format", "json")
    assert as_json.returncode == 2
    (problem,) = json.loads(as_json.stdout)["problems"]
    assert problem["file"] == "pipelines/sync.yaml"
    assert "NOT_SET_ANYWHERE" in problem["message"]
    connected = project.cli("validate", "pipelines/sync.yaml", "--connect")
    assert connected.returncode == 2
    assert ": warning:" not in connected.stdout
    assert not api.requests


# .env


def test_the_env_file_of_the_project_is_read(made: Project) -> None:
    (made.folder / ".env").write_text("A=from file\n# a comment\nexport B='q: #u'\n\nC=\"two\"\nD=p#a:s\n")
    assert described(made, "${A}|${B}|${C}|${D}") == "from file|q: #u|two|p#a:s"


def test_the_environment_wins_over_the_env_file(made: Project) -> None:
    (made.folder / ".env").write_text("A=file\nB=file\n")
    assert described(made, "${A} ${B}", {"A": "environment"}) == "environment file"


def test_the_env_file_is_not_interpolated(made: Project) -> None:
    (made.folder / ".env").write_text("A=pa${B}ss\nB=x\n")
    assert described(made, "${A}") == "pa${B}ss"


def test_the_env_file_may_come_from_windows(made: Project) -> None:
    (made.folder / ".env").write_bytes(b"\xef\xbb\xbfA=one\r\nB=two\r\n")
    assert described(made, "${A} ${B}") == "one two"


def test_an_env_file_that_is_not_utf_8_is_a_problem_and_no_crash(made: Project) -> None:
    (made.folder / ".env").write_bytes(b"A=caf\xe9\n")
    loaded = look(made)
    assert any(".env:1:1: not UTF-8" in str(problem) for problem in loaded.problems), loaded.problems


def test_the_env_file_beside_the_spec_is_not_the_projects(made: Project) -> None:
    (made.folder / "pipelines" / ".env").write_text("A=beside\n")
    made.spec["description"] = "${A}"
    assert look(made).loaded is None


def test_a_real_process_takes_both_and_leaves_the_current_folder_alone(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    project.spec["api"]["headers"] = {"X-One": "${ONE}", "X-Two": "${TWO}"}
    project.spec["connections"]["default"] = "${SOURCE}"
    (project.folder / ".env").write_text("ONE=file\nTWO=file\nSOURCE=sqlite:///source.db\n")
    (project.folder / "pipelines" / ".env").write_text("ONE=wrong\n")
    project.write()
    # The command's current folder decides nothing.
    elsewhere = project.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".env").write_text("ONE=wrong\nTWO=wrong\n")
    project.folder, home = elsewhere, project.folder
    finished = project.cli("run", project.file, env={"TWO": "environment"})
    project.folder = home
    assert finished.returncode == 0, finished.stderr
    (request,) = api.of("/users")
    assert (request.headers["x-one"], request.headers["x-two"]) == ("file", "environment")
    assert project.tracked() == ["1", "2"]
    assert list(elsewhere.iterdir()) == [elsewhere / ".env"]


# The project root


def test_the_project_root_is_the_nearest_folder_above_with_sql_templates(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    for folder in (outer, inner):
        (folder / "templates" / "sql").mkdir(parents=True)
    (inner / "a" / "b").mkdir(parents=True)
    (outer / "c" / "templates").mkdir(parents=True)
    assert project_root(inner / "a" / "b" / "spec.yaml") == inner
    assert project_root(inner / "spec.yaml") == inner
    # A folder `templates` without `sql` is not it.
    assert project_root(outer / "c" / "spec.yaml") == outer


def test_without_sql_templates_the_root_is_the_folder_of_the_spec(tmp_path: Path) -> None:
    assert project_root(tmp_path / "a" / "spec.yaml") == tmp_path / "a"


def test_a_relative_spec_has_the_same_root(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.folder / "pipelines")
    assert project_root(Path("sync.yaml")) == made.folder
    assert project_root(Path("../pipelines/sync.yaml")).resolve() == made.folder.resolve()
    (made.folder / ".env").write_text("A=x\n")
    made.spec["description"] = "${A}"
    made.write()
    loaded = examine(Path("sync.yaml"), {})
    assert loaded.loaded
    pipeline = loaded.loaded.pipeline
    assert (pipeline.description, pipeline.root) == ("x", made.folder)


def test_certificates_are_sought_in_the_project_root(
    made: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (made.folder / "certs").mkdir()
    (made.folder / "certs" / "ca.pem").write_text("x")
    made.spec["api"]["verify"] = "certs/ca.pem"
    assert pipeline(made).api.verify == made.folder / "certs" / "ca.pem"
    made.spec["api"]["verify"] = "certs/none.pem"
    (problem,) = look(made).problems
    assert "none.pem" in problem.message
