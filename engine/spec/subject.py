"""A document as the checks of meaning see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.spec.environment import Interpolated
from engine.spec.reader import Document, Place


@dataclass(slots=True)
class Subject:
    """What a rule looks at: data that may be wrong elsewhere, and the project's folder."""

    document: Document
    data: dict[str, Any]
    found: Interpolated
    root: Path

    def text(self, place: Place) -> str | None:
        """The text at a place, if it is text and all of its variables are known."""
        value: Any = self.data
        for step in place:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return None
        return value if isinstance(value, str) and place not in self.found.missing else None

    def mapping(self, key: str) -> dict[Any, Any]:
        """The mapping under a top-level key; empty where it is absent or something else."""
        value = self.data.get(key)
        return value if isinstance(value, dict) else {}
