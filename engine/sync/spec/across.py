"""Checks across specs that are each valid: names that two of them share."""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import Problem
from engine.sync.spec.load import Loaded


def across(specs: Iterable[Loaded]) -> list[Problem]:
    """Return the clashes in one ledger: pipelines of one name (the key of lease and runs), and entities of one name."""
    problems: list[Problem] = []
    pipelines: dict[tuple[str, str], str] = {}
    entities: dict[tuple[str, str, str], str] = {}
    for loaded in specs:
        pipeline, document = loaded.pipeline, loaded.document
        ledger = pipeline.connections[pipeline.ledger.connection]
        other = pipelines.setdefault((ledger, pipeline.name), document.file)
        if other != document.file:
            message = f"the pipeline of {other} is also called {pipeline.name!r} and has the same ledger"
            problems.append(document.problem(("name",), message))
        for index, entity in enumerate(pipeline.entities):
            key = (ledger, pipeline.ledger.tracking_table, entity.name)
            other = entities.setdefault(key, document.file)
            if other != document.file:
                message = (
                    f"{other} has an entity {entity.name!r} too, and both specs share a ledger: what one delivered, "
                    "the other never sends"
                )
                problems.append(document.problem(("entities", index, "name"), message, warning=True))
    return problems
