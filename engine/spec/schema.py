"""A JSON Schema (2020-12) for one kind of document. Editors use the same file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import orjson
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from engine import assets
from engine.spec.reader import Place

_VARIABLE = {"type": "string", "pattern": "\\$\\{"}
"""The alternative to a proper value that the schema file allows: a variable."""


def _pattern(validator: Any, pattern: str, instance: Any, _part: Any) -> Iterator[ValidationError]:
    """Match `$` at the end of the text only, as in JSON Schema; Python's also matches before a final line break."""
    if validator.is_type(instance, "string") and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator: Any = validators.extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


class Schema:
    """The schema in a file of `schema/`, for documents whose variables are replaced.

    The file also serves editors and so allows `${NAME}` in place of a number; here only the number is valid.
    """

    def __init__(self, file: str) -> None:
        self._file = file

    @cached_property
    def whole(self) -> dict[str, Any]:
        """The schema as data."""
        read = orjson.loads((assets.folder("schema") / self._file).read_bytes())
        made: dict[str, Any] = _without_variables(read)
        return made

    @cached_property
    def validator(self) -> Any:
        """The validator for this schema."""
        return _Validator(self.whole)

    def of(self, place: Place) -> dict[str, Any]:
        """Return the subschema for a place; empty if there is none."""
        return self._way(place)[-1]

    def is_secret(self, place: Place) -> bool:
        """True for a value that is never shown: it or a parent is `writeOnly` (JSON Schema validation, 9.4)."""
        return any(part.get("writeOnly") for part in self._way(place))

    def _way(self, place: Place) -> list[dict[str, Any]]:
        """The subschemas along the path to a place, the root first."""
        parts = [self.whole]
        for step in place:
            part = parts[-1]
            other = part.get("additionalProperties")
            inner = part.get("items") if isinstance(step, int) else part.get("properties", {}).get(step, other)
            part = inner if isinstance(inner, dict) else {}
            if "$ref" in part:
                target = self.whole
                for name in part["$ref"].removeprefix("#/").split("/"):
                    target = target[name]
                part = target
            parts.append(part)
        return parts


def _without_variables(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_variables(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    if _VARIABLE in part.get("anyOf", ()):
        part = {**{key: value for key, value in part.items() if key != "anyOf"}, **part["anyOf"][0]}
    return {key: _without_variables(inner) for key, inner in part.items()}
