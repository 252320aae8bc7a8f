"""A document as seen by the semantic checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.spec.environment import Interpolated
from engine.spec.reader import Document, Place


@dataclass(slots=True)
class Subject:
    """The input of a rule: data that may be invalid elsewhere, and the project's folder."""

    document: Document
    data: dict[str, Any]
    found: Interpolated
    root: Path

    def text(self, place: Place) -> str | None:
        """Return the text at a place; None if it is not text or one of its variables is not set."""
        value: Any = self.data
        for step in place:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return None
        return value if isinstance(value, str) and place not in self.found.missing else None

    def mapping(self, key: str) -> dict[Any, Any]:
        """Return the mapping under a top-level key; empty if it is absent or not a mapping."""
        value = self.data.get(key)
        return value if isinstance(value, dict) else {}
