"""Messages as data: a key and its values are stored, and the text is made in the reader's language."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from engine import assets
from engine.spec.reader import read

ENGLISH = "en"
KEYS = frozenset(
    {
        "run.started", "run.resumed", "run.cancelled", "run.ended", "step.failed", "step.skipped_by_person", "step.retried", "item.skipped", "item.locked",
    }
)  # fmt: skip
"""Every message of the engine. A test holds the shipped languages to it."""


def locales() -> list[str]:
    """The languages that ship with the engine."""
    return sorted(file.stem for file in assets.folder("messages").glob("*.yaml"))


@cache
def texts(locale: str, root: Path | None = None) -> Mapping[str, str]:
    """The texts of a language: English ones where it has none, and a project's own before the shipped ones.

    Raises `SpecError` for a file that cannot be read.
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys((ENGLISH, locale)):
        for folder in (assets.folder("messages"), root / "messages" if root else None):
            file = folder / f"{name}.yaml" if folder else None
            if file and file.is_file():
                data = read(file, str(file)).data
                found |= {str(key): str(text) for key, text in data.items()} if isinstance(data, dict) else {}
    return found


def text(key: str, parts: Mapping[str, Any], locale: str = ENGLISH, root: Path | None = None) -> str:
    """A message as people read it; the key itself where no language has a text."""
    made = texts(locale, root).get(key, key)
    for name, value in parts.items():
        made = made.replace("{" + name + "}", "" if value is None else str(value))
    return " ".join(made.split())
