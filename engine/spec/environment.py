"""Replaces `${NAME}` and `${NAME:-default}` after parsing, so that a password needs no YAML escaping."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from engine.errors import Problem, SpecError
from engine.spec.reader import Document, Place

_REFERENCE = re.compile(r"\$\$(?=\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}")


@dataclass(slots=True)
class Interpolated:
    """The data with its references replaced, and where they were."""

    data: Any
    places: dict[Place, list[tuple[int, int]]] = field(default_factory=dict)
    """The texts that contain variables, with the spans that came from them."""
    missing: dict[Place, list[str]] = field(default_factory=dict)


def variables(root: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Merge the project's `.env` file with the environment, which takes precedence. Raises `SpecError`."""
    file = root / ".env"
    known: dict[str, str] = {}
    try:
        if file.is_file():
            found = dotenv_values(file, interpolate=False, encoding="utf-8")
            known = {name: value for name, value in found.items() if value is not None}
    except (OSError, UnicodeDecodeError) as failure:
        what = "not UTF-8" if isinstance(failure, UnicodeDecodeError) else f"cannot be read: {failure.strerror}"
        raise SpecError([Problem(str(file), 1, 1, what)]) from failure
    return {**known, **(os.environ if environment is None else environment)}


def interpolate(document: Document, known: Mapping[str, str]) -> Interpolated:
    """Replace the references in every text. `$${` stands for a literal `${`."""
    result = Interpolated(None)
    result.data = _walk(document.data, (), known, result)
    return result


def _walk(value: Any, place: Place, known: Mapping[str, str], result: Interpolated) -> Any:
    if isinstance(value, dict):
        return {key: _walk(inner, (*place, key), known, result) for key, inner in value.items()}
    if isinstance(value, list):
        return [_walk(inner, (*place, index), known, result) for index, inner in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        return _replace(value, place, known, result)
    return value


def _replace(text: str, place: Place, known: Mapping[str, str], result: Interpolated) -> str:
    # No reference ends after the last brace. Searching there takes quadratic time on many `${a:-`.
    end = text.rfind("}") + 1
    made, done = "", 0
    for match in _REFERENCE.finditer(text[:end]):
        made += text[done : match.start()]
        done = match.end()
        name, has_default, default = match.groups()
        if name is None:
            made += "$"
            continue
        value = known.get(name)
        # As in a shell, `:-` also replaces an empty variable.
        if has_default and not value:
            value = default or ""
        if value is None:
            result.missing.setdefault(place, []).append(name)
            value = match.group()
        result.places.setdefault(place, []).append((len(made), len(made) + len(value)))
        made += value
    return made + text[done:end] + text[end:].replace("$${", "${")
