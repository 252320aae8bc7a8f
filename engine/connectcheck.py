"""Compares a spec with the databases it names: columns, IDs, ledger tables. Nothing is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine import compose
from engine.context import RunContext
from engine.errors import ConnectionFailed, EntityError, LedgerError, Problem, SourceError
from engine.ledger.known import Known
from engine.model import Entity
from engine.observe.words import count
from engine.spec.load import Loaded
from engine.spec.reader import Place
from engine.stages import exclude, shape, since, sorting, source
from engine.stages.flow import Flow


@dataclass(slots=True)
class Checked:
    """What was found. `database_failed` when a connection could not be opened or read."""

    problems: list[Problem] = field(default_factory=list)
    database_failed: bool = False

    def said(self, text: str) -> bool:
        """True when a problem that was found is this one, or its cause."""
        return any(problem.message in text for problem in self.problems)


def check_connections(loaded: Loaded) -> Checked:
    """Open every connection that the pipeline uses and look."""
    pipeline = loaded.pipeline
    assert pipeline is not None  # noqa: S101 - the caller has one
    found = Checked()
    with compose.connections(pipeline) as opened:
        for index, entity in enumerate(pipeline.entities):
            try:
                _check_entity(loaded, found, opened, index, entity)
            except ConnectionFailed as failure:
                found.database_failed = True
                # The same connection fails for every entity that reads it.
                if not found.said(str(failure)):
                    found.problems.append(loaded.document.problem(("connections", entity.connection), str(failure)))
            except SourceError as failure:
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
            if not found.said(str(failure)):
                found.problems.append(loaded.document.problem(("ledger",), str(failure)))
    return found


def _check_entity(loaded: Loaded, found: Checked, opened: compose.Connections, index: int, entity: Entity) -> None:
    place: Place = ("entities", index)
    run = RunContext.start()
    connection = opened.source(entity.connection)
    header = source.columns(connection, entity, run)
    flow = Flow(lambda _: None)
    # The stages themselves say what does not fit: an empty table goes through them.
    due = exclude.tracked([header], entity.id, lambda _: Known(), flow)
    for _ in shape.records(due, entity, flow):
        pass
    try:
        since.look(source.Reader(connection, entity, run), "", lambda _: None, strict=True)
    except EntityError as failure:
        found.problems.append(loaded.document.problem((*place, "changed_since"), str(failure)))
    keys = source.check_keys(connection, entity, run)
    sorts = sorting.advice(source.Reader(connection, entity, run)) if keys and keys.rows >= sorting.WORTH else None
    if sorts:
        found.problems.append(loaded.document.problem((*place, "id"), f"entity {entity.name!r}: {sorts}", warning=True))
    if keys and keys.repeated:
        message = f"entity {entity.name!r}: the ID {', '.join(entity.id)} is not unique: {count(keys.repeated, 'row')} beyond the first of its ID; only the first of each is sent"
        found.problems.append(loaded.document.problem((*place, "id"), message))
    if keys and keys.without_id:
        message = f"entity {entity.name!r}: {count(keys.without_id, 'row')} without an ID (NULL), to be rejected"
        found.problems.append(loaded.document.problem((*place, "id"), message, warning=True))
