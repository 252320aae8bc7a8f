"""Compares a spec with the databases it names: columns, IDs, ledger tables. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from engine import app
from engine.context import RunContext
from engine.db import dsn
from engine.db.drivers import sqlite
from engine.errors import ConnectionFailed, EntityError, LedgerError, Problem, SourceError
from engine.observe.words import count
from engine.spec.reader import Place
from engine.sync.counts import Flow
from engine.sync.ledger.history import History
from engine.sync.ledger.lookup import Known
from engine.sync.model import Entity
from engine.sync.read import duplicates, exclude, incremental, sorting, source
from engine.sync.shape import shape
from engine.sync.spec import columns
from engine.sync.spec.load import Loaded


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
    found = Checked()
    with app.connections(pipeline) as opened:
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
            ledger = app.open_history(opened, loaded.secrets, migrated=False)
            if ledger:
                ledger.standings()
                ledger.store.check_rights()
                _check_privacy(loaded, found)
                waiting = ledger.store.pending()
                if waiting:
                    message = f"the next run migrates the ledger to version {waiting[-1]}; or: syncledger migrate {pipeline.shown}"
                    found.problems.append(loaded.document.problem(("ledger",), message, warning=True))
                    return found
                _check_indexes(loaded, found, ledger)
                _check_encoding(loaded, found, ledger)
                for index, entity in enumerate(pipeline.entities):
                    _check_clashes(loaded, found, opened, index, entity, ledger)
            else:
                message = "the ledger does not exist yet: the first run creates it, and every record counts as new"
                found.problems.append(loaded.document.problem(("ledger",), message, warning=True))
        except LedgerError as failure:
            found.database_failed = True
            if not found.said(str(failure)):
                found.problems.append(loaded.document.problem(("ledger",), str(failure)))
    return found


def _check_indexes(loaded: Loaded, found: Checked, ledger: History) -> None:
    for index, sql in ledger.missing_indexes():
        message = (
            f"the ledger has no index on {index}: `why`, `status` and `prune` read the whole table; "
            f"the next run creates it where its user may, else have it created: {sql}"
        )
        found.problems.append(loaded.document.problem(("ledger",), message, warning=True))


def _check_encoding(loaded: Loaded, found: Checked, ledger: History) -> None:
    if ledger.store.codec():
        message = (
            f"the ledger's text is {ledger.store.encoding()}, which cannot hold every ID and every answer: move it to a database (MariaDB: "
            "tables) with UTF-8"
        )
        found.problems.append(loaded.document.problem(("ledger",), message))


def _check_clashes(
    loaded: Loaded, found: Checked, opened: app.Connections, index: int, entity: Entity, ledger: History
) -> None:
    """IDs that the tracking table cannot hold beside each other, where it ignores case."""
    lookup = ledger.lookup(entity.name, changed=False)
    if not lookup.folds:
        return
    clashing: dict[str, str] = {}
    with suppress(ConnectionFailed, SourceError):  # said before
        reader = source.Reader(opened.source(entity.connection), entity, RunContext.start())
        for ids in source.ids(reader):
            clashing.update(lookup(ids).clashing)
    if clashing:
        first, why = next(iter(clashing.items()))
        message = (
            f"entity {entity.name!r}: {len(clashing):,} IDs cannot be tracked and will be rejected; {first!r}: {why}"
        )
        found.problems.append(loaded.document.problem(("entities", index, "id"), message))


def _check_privacy(loaded: Loaded, found: Checked) -> None:
    """A SQLite ledger holds what was sent: it should be readable for its owner alone."""
    pipeline = loaded.pipeline
    text = pipeline.connections[pipeline.ledger.connection]
    if not text.startswith(dsn.SQLITE):
        return
    file = sqlite.file_of(text, pipeline.root)
    if sqlite.readable_by_others(file):
        message = f"the ledger {file} can be read by other users of this machine, and it holds what was sent: chmod 600 {file}"
        found.problems.append(loaded.document.problem(("ledger",), message, warning=True))


def _check_entity(loaded: Loaded, found: Checked, opened: app.Connections, index: int, entity: Entity) -> None:
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
        incremental.look(source.Reader(connection, entity, run), "", lambda _: None, strict=True)
    except EntityError as failure:
        found.problems.append(loaded.document.problem((*place, "changed_since"), str(failure)))
    keys = source.check_keys(connection, entity, run)
    sorts = sorting.advice(source.Reader(connection, entity, run)) if keys and keys.rows >= sorting.WORTH else None
    if sorts:
        found.problems.append(loaded.document.problem((*place, "id"), f"entity {entity.name!r}: {sorts}", warning=True))
    if keys and keys.repeated:
        message = f"entity {entity.name!r}: the ID {', '.join(entity.id)} is not unique: {count(keys.repeated, 'row')} beyond the first of its ID; only the first of each is sent"
        found.problems.append(loaded.document.problem((*place, "id"), message))
    same = duplicates.of(source.Reader(connection, entity, run))
    if same:
        message = f"entity {entity.name!r}: {len(same):,} rows have an ID that is another row's but for case or spaces at the end ({same[0].id.removeprefix(duplicates.PREFIX)}); only the first of each is sent"
        found.problems.append(loaded.document.problem((*place, "id"), message))
    if keys and keys.without_id:
        message = f"entity {entity.name!r}: {count(keys.without_id, 'row')} without an ID (NULL), to be rejected"
        found.problems.append(loaded.document.problem((*place, "id"), message, warning=True))


def _misspelt(loaded: Loaded, index: int, entity: Entity, header: Iterable[str]) -> Iterator[Problem]:
    """Names of the spec that no column of the source has, each at its place."""
    own: dict[str, Place] = {
        key: ("entities", index, key) if ("entities", index, key) in loaded.document.values else ("defaults", key)
        for key in ("transform", "fields")
    }
    places = columns.Places(entity.name, own["transform"], own["fields"])
    return columns.check(loaded.document, places, entity.transform, [item.name for item in entity.fields or ()], header)
