"""Compares a spec with the databases it names: columns, IDs, ledger tables. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from engine import compose
from engine.context import RunContext
from engine.errors import ConnectionFailed, EntityError, LedgerError, Problem, SourceError
from engine.ledger.known import Known
from engine.model import Entity
from engine.spec import columns
from engine.spec.load import Loaded
from engine.spec.reader import Place
from engine.stages import exclude, shape, since, source
from engine.stages.flow import Flow


@dataclass(slots=True)
class Checked:
    """What was found. `database_failed` when a connection could not be opened or read."""

    problems: list[Problem] = field(default_factory=list)
    database_failed: bool = False


def check_connections(loaded: Loaded) -> Checked:
    """Open every connection that the pipeline uses and look."""
    pipeline = loaded.pipeline
    assert pipeline is not None  # noqa: S101 - the caller has one
    found = Checked()
    with compose.connections(pipeline) as opened:
        for index, entity in enumerate(pipeline.entities):
            try:
                _check_entity(loaded, found, opened, index, entity)
            except (ConnectionFailed, SourceError) as failure:
                found.database_failed = True
                found.problems.append(loaded.document.problem(("entities", index), str(failure)))
            except EntityError as failure:
                found.problems.append(loaded.document.problem(("entities", index, "fields"), str(failure)))
        try:
            ledger = compose.open_history(opened, loaded.secrets)
            if ledger:
                ledger.standings()
            else:
                message = "the ledger does not exist yet: the first run creates it, and every record counts as new"
                found.problems.append(loaded.document.problem(("ledger",), message, warning=True))
        except LedgerError as failure:
            found.database_failed = True
            found.problems.append(loaded.document.problem(("ledger",), str(failure)))
    return found


def _check_entity(loaded: Loaded, found: Checked, opened: compose.Connections, index: int, entity: Entity) -> None:
    place: Place = ("entities", index)
    run = RunContext.start()
    connection = opened.source(entity.connection)
    header = source.columns(connection, entity, run)
    flow = Flow(lambda _: None)
    misspelt = list(_misspelt(loaded, index, entity, header))
    found.problems += misspelt
    # The stages themselves say what else does not fit: an empty table goes through them.
    due = exclude.tracked([header], entity.id, lambda _: Known(), flow)
    if not misspelt:
        for _ in shape.records(due, entity, flow):
            pass
    try:
        since.look(source.Reader(connection, entity, run), "", lambda _: None, strict=True)
    except EntityError as failure:
        found.problems.append(loaded.document.problem((*place, "changed_since"), str(failure)))
    keys = source.check_keys(connection, entity, run)
    if keys and keys.repeated:
        message = f"entity {entity.name!r}: the ID {', '.join(entity.id)} is not unique: {keys.repeated:,} rows repeat one; only the first of each is sent"
        found.problems.append(loaded.document.problem((*place, "id"), message))
    if keys and keys.without_id:
        message = f"entity {entity.name!r}: {keys.without_id:,} rows have no ID (NULL) and will be rejected"
        found.problems.append(loaded.document.problem((*place, "id"), message, warning=True))


def _misspelt(loaded: Loaded, index: int, entity: Entity, header: Iterable[str]) -> Iterator[Problem]:
    """Names of the spec that no column of the source has, each at its place."""
    own: dict[str, Place] = {
        key: ("entities", index, key) if ("entities", index, key) in loaded.document.values else ("defaults", key)
        for key in ("transform", "fields")
    }
    places = columns.Places(entity.name, own["transform"], own["fields"])
    steps = [(operation.name, operation.argument) for operation in entity.transform]
    return columns.check(loaded.document, places, steps, [item.name for item in entity.fields or ()], header)
