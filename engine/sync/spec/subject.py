"""A pipeline's spec as the semantic checks see it: each entity as written, and merged with the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.spec.reader import Place
from engine.spec.subject import Subject


def entities(subject: Subject) -> Iterator[tuple[int, dict[Any, Any], dict[Any, Any]]]:
    """Yield each entity that is a mapping: its index, as written, and merged with `defaults`."""
    written = subject.data.get("entities")
    for index, entity in enumerate(written if isinstance(written, list) else []):
        if isinstance(entity, dict):
            yield index, entity, merge(subject.mapping("defaults"), entity)


def place(subject: Subject, index: int, entity: dict[Any, Any], key: str) -> Place:
    """Return the place of an entity's value: in the entity, or in `defaults`."""
    return ("entities", index, key) if key in entity or key not in subject.mapping("defaults") else ("defaults", key)


def merge(defaults: dict[Any, Any], entity: dict[Any, Any]) -> dict[Any, Any]:
    """Merge an entity over the defaults. Its own `sql` or `query` replaces either."""
    if "sql" in entity or "query" in entity:
        defaults = {key: value for key, value in defaults.items() if key not in ("sql", "query")}
    return {**defaults, **entity}
