"""SQL text with separate parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with `?` for each of its parameters, in order."""

    text: str
    parameters: tuple[Any, ...]
