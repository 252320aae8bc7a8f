"""Checks data against the JSON Schema and reports every violation in the user's terms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from jsonschema.exceptions import ValidationError

from engine.errors import Problem
from engine.spec import hints
from engine.spec.environment import Interpolated
from engine.spec.field_types import FieldType
from engine.spec.reader import Document, Place, resolve
from engine.spec.schema import Schema
from engine.spec.suggest import did_you_mean

_KINDS = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number"}


def check(document: Document, found: Interpolated, schema: Schema) -> list[Problem]:
    """Return all violations of the schema. Converts in place numbers and booleans that a variable gives as text."""
    errors = list(schema.validator.iter_errors(found.data))
    # Not short-circuited: each error may concern a different variable.
    converted = [_convert(error, found, schema) for error in errors]
    if _convert_booleans(found, schema) or any(converted):
        errors = list(schema.validator.iter_errors(found.data))
    problems: dict[Problem, None] = {}
    for error in errors:
        if tuple(error.absolute_path) not in found.missing:
            problems.update(dict.fromkeys(_explain(error, document, schema)))
    return list(problems)


def _convert_booleans(found: Interpolated, schema: Schema) -> bool:
    """Convert a variable's true or false to a boolean where the schema allows both a boolean and text."""
    changed = False
    for place in found.places:
        holder: Any = None
        value = found.data
        for step in place:
            holder, value = value, value[step]
        if value in ("true", "false") and "boolean" in schema.of(place).get("type", ()):
            holder[place[-1]] = value == "true"
            changed = True
    return changed


def _convert(error: ValidationError, found: Interpolated, schema: Schema) -> bool:
    place = tuple(error.absolute_path)
    if error.validator != "type" or place not in found.places or not isinstance(error.instance, str):
        return False
    value = resolve(error.instance)
    if not schema.validator.evolve(schema=error.schema).is_valid(value):
        return False
    holder = found.data
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    return True


def _explain(error: ValidationError, document: Document, schema: Schema) -> Iterator[Problem]:
    place: Place = tuple(error.absolute_path)
    part: dict[str, Any] = error.schema  # type: ignore[assignment]  # every subschema of ours is an object
    expected: Any = error.validator_value
    instance: Any = error.instance
    match error.validator:
        case "additionalProperties":
            known = part.get("properties", {})
            for key in instance:
                if key not in known:
                    yield document.problem(
                        (*place, key), f"unknown key {str(key)!r}{did_you_mean(key, known)}", at_key=True
                    )
        case "required":
            for name in expected:
                if name not in instance:
                    yield document.problem(place, f"{_here(place)}the key {name!r} is missing")
        case "propertyNames":
            yield document.problem((*place, instance), f"{instance!r} cannot be a name here", at_key=True)
        case _ if error.parent is None and list(error.absolute_schema_path)[-2:-1] == ["propertyNames"]:
            yield document.problem((*place, instance), f"{instance!r} cannot be a name here", at_key=True)
        case _:
            yield document.problem(place, _sentence(error, place, document, schema))


def _here(place: Place) -> str:
    return f"{'.'.join(str(step) for step in place)}: " if place else ""


def _sentence(error: ValidationError, place: Place, document: Document, schema: Schema) -> str:
    part: dict[str, Any] = error.schema  # type: ignore[assignment]  # every subschema of ours is an object
    expected: Any = error.validator_value
    shown, title = _shown(error.instance, place, document, schema), part.get("title", "value")
    hint = hints.for_value(str(place[-1]), part, error.instance) if place and error.instance is not None else None
    if hint and error.validator in ("type", "pattern"):
        return f"{_name(place)} is {shown}; {hint}"
    match error.validator:
        case "type":
            kinds = [expected] if isinstance(expected, str) else [kind for kind in expected if kind != "null"]
            wanted = " or ".join(_KINDS.get(kind, f"a {kind}") for kind in kinds)
            return f"{_name(place)} is {shown}; it must be {wanted}"
        case "enum":
            return f"{_name(place)} is {shown}; it must be one of {', '.join(map(str, expected))}{did_you_mean(error.instance, expected)}"
        case "const":
            return f"{_name(place)} is {shown}; it must be {expected!r}"
        case "pattern" if "guid|string" in expected:
            near = did_you_mean(str(error.instance).rstrip("?"), get_args(FieldType))
            return f"unknown type {shown}{near} (`?` makes it nullable)"
        case "pattern":
            like = f"; write it like {part['examples'][0]!r}" if part.get("examples") else ""
            return f"{_name(place)} is {shown}, which is not of the form of {title.lower()!r}{like}"
        case "oneOf":
            options = [option["required"][0] for option in expected if "required" in option]
            return f"{_here(place)}exactly one of {', '.join(options)} must be given"
        case "minProperties" | "maxProperties":
            options = list(part.get("properties", {}))
            return (
                f"{_here(place)}exactly one of {', '.join(options)} must be given"
                if options
                else f"{_name(place)} must not be empty"
            )
        case "minLength" | "minItems":
            return f"{_name(place)} must not be empty"
        case "minimum" | "maximum":
            return f"{_name(place)} is {shown}; the {error.validator} is {expected}"
        case "uniqueItems":
            return f"{_name(place)} names something twice"
    return f"{_name(place)}: {error.validator} is {expected!r}"


def _name(place: Place) -> str:
    names = [str(step) for step in place if not isinstance(step, int)]
    return repr(names[-1]) if names else "the document"


def _shown(value: Any, place: Place, document: Document, schema: Schema) -> str:
    """The value as written in the file, without the content of variables (but for URLs) and without secrets."""
    if schema.of(place).get("format") == "uri" and isinstance(value, str):
        # For a URL from a variable, the variable's name alone would not show what is wrong.
        return repr(hints.url(value)) + (
            f" (from {document.raw[place]})" if document.raw.get(place, value) != value else ""
        )
    if schema.is_secret(place) and not isinstance(value, (dict, list)):
        return "not shown" if value is not None else "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "empty"
    text = document.raw.get(place, str(value))
    return repr(text if len(text) <= 60 else text[:57] + "...") if isinstance(value, str) else text
