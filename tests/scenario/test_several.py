"""`run a.yaml b.yaml`: both, in order."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.faultapi import FaultAPI, answer
from tests.inprocess import Engine
from tests.project import Project


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def two(project: Project) -> tuple[Path, Path]:
    """Two sound specs of one source: the first sends Users, the second Orgs."""
    project.users(2)
    project.users(3, "Orgs")
    project.entity()
    first = project.write()
    project.spec.update(name="orgs", entities=[])
    project.entity("Orgs")
    second = first.with_name("orgs.yaml")
    second.write_text(yaml.safe_dump(project.spec), encoding="utf-8")
    return first, second


def test_two_specs_run_in_order_and_json_is_one_document(two: tuple[Path, Path], engine: Engine, api: FaultAPI) -> None:
    runs = engine.json("run", *reversed(two))["runs"]
    assert [(run["pipeline"], run["status"]) for run in runs] == [("orgs", "delivered"), ("sync", "delivered")]
    assert [request.path for request in api.requests] == ["/orgs", "/users"]
    # One spec alone stays the document of its run.
    assert engine.json("run", two[0])["pipeline"] == "sync"
    text = engine("run", *two)
    assert text.index(f"{two[0]}:") < text.index("Users") < text.index(f"{two[1]}:") < text.index("Orgs")


def test_the_exit_code_is_the_gravest_and_the_second_runs_all_the_same(
    two: tuple[Path, Path], engine: Engine, api: FaultAPI
) -> None:
    api.script("/users", answer(400, {"error": "no"}))
    runs = engine.json("run", *two, code=1)["runs"]
    assert [run["status"] for run in runs] == ["incomplete", "delivered"]


def test_nothing_is_sent_where_one_of_the_specs_is_wrong(two: tuple[Path, Path], engine: Engine, api: FaultAPI) -> None:
    text = two[1].read_text().replace("endpoint:", "endpiont:")
    two[1].write_text(text)
    assert any("endpiont" in problem["message"] for problem in engine.json("run", *two, code=2)["problems"])
    assert api.requests == []


def test_an_entity_is_named_of_one_spec_only(two: tuple[Path, Path], engine: Engine) -> None:
    engine("run", *two, "--entity", "Users", code=2)
    assert "--entity names an entity of one SPEC" in engine.err
