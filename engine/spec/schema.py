"""A JSON Schema (2020-12) that documents of one kind are checked against, and that editors read as it stands."""

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
"""What the schema's file allows beside the right form of a value."""


def _pattern(validator: Any, pattern: str, instance: Any, _part: Any) -> Iterator[ValidationError]:
    """`$` means the end of the text, as in JSON Schema's dialect; Python's also matches before a last line break."""
    if validator.is_type(instance, "string") and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator: Any = validators.extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


class Schema:
    """The schema in a file of `schema/`, for documents whose variables are replaced.

    The file is for editors as well, which see `${NAME}` where a number will stand; here only the number is right.
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
        """What checks a document against it."""
        return _Validator(self.whole)

    def of(self, place: Place) -> dict[str, Any]:
        """What it says of the value at a place; empty where it says nothing."""
        return self._way(place)[-1]

    def is_secret(self, place: Place) -> bool:
        """True for a value that is never shown: it, or what it is a part of, is `writeOnly` (JSON Schema validation, 9.4)."""
        return any(part.get("writeOnly") for part in self._way(place))

    def _way(self, place: Place) -> list[dict[str, Any]]:
        """The subschemas on the way to a place, the whole first."""
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
