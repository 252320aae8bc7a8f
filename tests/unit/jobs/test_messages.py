"""Messages of jobs: every shipped language has a text for every key, and a project's own texts come first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.jobs import messages
from tests.project import ROOT


@pytest.mark.parametrize("locale", messages.locales())
def test_every_language_has_every_text_with_the_same_places(locale: str) -> None:
    english, here = messages.texts(messages.ENGLISH), messages.texts(locale)
    assert set(here) == messages.KEYS
    places = re.compile(r"\{(\w+)\}")
    assert {key: set(places.findall(text)) for key, text in here.items()} == {
        key: set(places.findall(text)) for key, text in english.items()
    }


def test_three_languages_ship_and_differ() -> None:
    assert messages.locales() == ["en", "fr", "id"]
    assert len({messages.texts(locale)["run.ended"] for locale in messages.locales()}) == 3


def test_the_code_writes_no_message_that_has_no_key() -> None:
    written = {
        key
        for file in (ROOT / "engine").rglob("*.py")
        for key in re.findall(r'\.say\(\s*\w+(?:\.\w+)?,\s*"([a-z_.]+)"', file.read_text(encoding="utf-8"))
    }
    assert written == messages.KEYS


def test_a_language_without_a_text_shows_the_english_one_and_a_project_may_say_it_otherwise(tmp_path: Path) -> None:
    (tmp_path / "messages").mkdir()
    (tmp_path / "messages" / "nl.yaml").write_text('run.ended: "Klaar: {state}."\n')
    assert messages.text("run.ended", {"state": "lost"}, "nl", tmp_path) == "Klaar: lost."
    assert messages.text("run.started", {"user": "anna"}, "nl", tmp_path) == "anna started the run."
    assert messages.text("own.key", {}, "nl", tmp_path) == "own.key"
