"""Counts read right, and one word stands for a state on every screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.observe.words import count, state
from tests.faultapi import FaultAPI, answer
from tests.inprocess import Engine
from tests.project import Project

GLOSSARY = (Path(__file__).parent.parent.parent.parent / "docs" / "glossary.md").read_text(encoding="utf-8")


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "record", "1 record"), (0, "record", "0 records"), (1000, "batch", "1,000 batches"), (1, "batch", "1 batch"),
        (2, "rejected record", "2 rejected records"), (2, "entity", "2 entities"),
    ],
)  # fmt: skip
def test_a_count_has_the_right_plural(number: int, noun: str, text: str) -> None:
    assert count(number, noun) == text


def test_every_state_of_a_record_is_in_the_glossary() -> None:
    words = ["rejected", "parked", "resting", "in doubt", "held", "failed", "not sent", "delivered", "dropped"]
    assert [word for word in words if GLOSSARY.count(f"- **{word}**: ") != 1] == []
    assert state("in_doubt") == "in doubt"


def test_a_rejected_record_is_called_so_on_every_screen(project: Project, engine: Engine, api: FaultAPI) -> None:
    """`status`, `why`, `rejects`, `retry` and `plan` use the word of `run`; one record is no `1 records`."""
    project.users(1)
    project.entity()
    api.script("/users", answer(422, {"error": "no"}))
    screens = [engine("run", project.write(), code=1), engine("status", project.file)]
    screens += [engine("why", project.file, "Users", "1"), engine("rejects", project.file)]
    screens.append(engine("retry", project.file, "Users"))
    assert "offers 1 rejected record again" in screens[-1]
    for text in screens[:-1]:
        assert "rejected" in text.casefold()
        assert "1 records" not in text.replace("0 records delivered", "")
    assert "Resting" not in engine("plan", project.file)
    api.script("/users", answer())
    engine("run", project.file)
    assert "No record is rejected." in engine("rejects", project.file)


def test_a_batch_in_doubt_is_called_so(project: Project, engine: Engine, api: FaultAPI) -> None:
    project.spec["api"].update(in_doubt="hold", retry={"attempts": 1})
    project.users(1)
    project.entity()
    api.script("/users", answer(500))
    engine("run", project.write(), code=1)
    assert "in_doubt" not in engine("status", project.file)
    assert " held " in engine.out
