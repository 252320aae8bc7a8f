"""Puts a pipeline's parts together: connections, ledgers, the tools of a run. With `engine.runtime.runner` the only place that builds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from engine.context import RunContext, new_id
from engine.db import connect, dsn
from engine.db.connection import Connection
from engine.errors import ConnectionFailed, LedgerError
from engine.http.session import Caller
from engine.observe.secrets import Secrets
from engine.observe.words import count
from engine.store.retries import Patience
from engine.sync.ledger.due import Due
from engine.sync.ledger.history import History
from engine.sync.ledger.ledger import Ledger
from engine.sync.ledger.operator import Acts
from engine.sync.ledger.rejects import Policy
from engine.sync.ledger.store import Store
from engine.sync.model import Entity, Pipeline
from engine.sync.send.pace import Pace
from engine.sync.spec.load import Loaded
from engine.sync.tools import Tools


@dataclass(slots=True)
class Connections:
    """Opens each alias when it is first asked for and closes them all."""

    pipeline: Pipeline
    _stack: ExitStack
    _opened: dict[str, Connection] = field(default_factory=dict)

    def source(self, alias: str) -> Connection:
        """The source connection of an alias. Raises `ConnectionFailed`."""
        if alias not in self._opened:
            pipeline = self.pipeline
            opened = connect.open_source(alias, pipeline.connections[alias], pipeline.root, pipeline.timeouts)
            self._stack.callback(opened.close)
            self._opened[alias] = opened
        return self._opened[alias]

    def another_ledger(self) -> Connection:
        """One more connection to the ledger; who asks for it closes it. Raises `ConnectionFailed`."""
        pipeline = self.pipeline
        alias = pipeline.ledger.connection
        text = pipeline.connections[alias]
        return connect.open_ledger(alias, text, pipeline.root, pipeline.timeouts, create=True)

    def ledger(self, *, create: bool) -> Connection:
        """The ledger's connection. Raises `LedgerError`."""
        pipeline = self.pipeline
        alias = pipeline.ledger.connection
        text = pipeline.connections[alias]
        try:
            opened = connect.open_ledger(alias, text, pipeline.root, pipeline.timeouts, create=create)
        except ConnectionFailed as failure:
            raise LedgerError(f"the ledger cannot be opened: {failure}") from failure.__cause__
        self._stack.callback(opened.close)
        return opened


@contextmanager
def connections(pipeline: Pipeline) -> Iterator[Connections]:
    """The connections of a pipeline, closed at the end."""
    with ExitStack() as stack:
        yield Connections(pipeline, stack)


def open_ledger(opened: Connections, run: RunContext, secrets: Secrets) -> Ledger:
    """The ledger of one run, its tables made where they are absent."""
    pipeline = opened.pipeline
    policies = {
        entity.name: Policy(entity.reject_delay, entity.reject_after, entity.resend == "changed")
        for entity in pipeline.entities
    }
    ledger = Ledger.on(_store(opened, run.id, secrets, patience=Patience(pipeline.ledger.wait)), policies)
    ledger.prepare()
    return ledger


def _store(
    opened: Connections, run: str, secrets: Secrets, *, create: bool = True, patience: Patience | None = None
) -> Store:
    pipeline = opened.pipeline
    return Store(opened.ledger(create=create), pipeline.ledger, pipeline.name, run, secrets.mask, patience)


def open_acts(opened: Connections, secrets: Secrets) -> Acts:
    """The ledger for what a person does, its tables made where they are absent."""
    store = _store(opened, new_id(), secrets)
    store.prepare()
    return Acts(store)


def open_due(opened: Connections, secrets: Secrets) -> Due:
    """The ledger's due times, their table made where it is absent."""
    due = Due(_store(opened, new_id(), secrets))
    due.prepare()
    return due


def read_due(opened: Connections, secrets: Secrets) -> Due | None:
    """The ledger's due times for reading, never written; None where it is a SQLite file that does not exist yet."""
    return Due(_store(opened, new_id(), secrets, create=False)) if ledger_exists(opened.pipeline) else None


def open_history(opened: Connections, secrets: Secrets, *, migrated: bool = True) -> History | None:
    """The ledger for reading, never written; None where it is a SQLite file that does not exist yet.

    Raises `LedgerError` also where it has to be `migrated` first.
    """
    pipeline = opened.pipeline
    if not ledger_exists(pipeline):
        return None
    store = _store(opened, new_id(), secrets, create=False)
    waiting = store.pending()
    if waiting and migrated:
        raise LedgerError(
            f"the ledger {store.db.description} is older than this SyncLedger: {count(len(waiting), 'migration')} to run, the last one "
            f"to version {waiting[-1]}. A run does it at its start; or: syncledger migrate {pipeline.shown}"
        )
    return History(store)


def visible(pipeline: Pipeline, entity: Entity) -> str | None:
    """The tracking table as the source of an entity names it; None where the source does not see it."""
    ledger = pipeline.ledger
    if ledger.visible_as:
        return f"{ledger.visible_as}.{ledger.tracking_table.rpartition('.')[2]}"
    connections = pipeline.connections
    return ledger.tracking_table if connections[entity.connection] == connections[ledger.connection] else None


def audit(opened: Connections, secrets: Secrets, verb: str) -> None:
    """Record in the audit log that somebody read the ledger, where there is one. Raises `LedgerError`."""
    if ledger_exists(opened.pipeline):
        acts = Acts(_store(opened, new_id(), secrets))
        if acts.history.in_use():
            acts.act(verb, opened.pipeline.name, {})


def ledger_is_an_empty_file(pipeline: Pipeline) -> bool:
    """True where the ledger is a SQLite file without content: none that a run has made."""
    text = pipeline.connections[pipeline.ledger.connection]
    if not text.startswith(dsn.SQLITE):
        return False
    file = connect.sqlite_file(text, pipeline.root)
    return file.is_file() and not file.stat().st_size


def ledger_exists(pipeline: Pipeline) -> bool:
    """False where the ledger is a SQLite file that no run has made yet."""
    text = pipeline.connections[pipeline.ledger.connection]
    return not text.startswith(dsn.SQLITE) or connect.sqlite_file(text, pipeline.root).exists()


@contextmanager
def tools(
    loaded: Loaded, opened: Connections, ledger: Ledger, run: RunContext, *, counts_rows: bool = False, share: int = 1
) -> Iterator[Tools]:
    """What a run works with, closed at the end. `share` is the number of processes that share the API's rate."""
    pipeline = opened.pipeline
    api = pipeline.api
    caller = Caller(api, loaded.secrets.add)
    try:
        with ThreadPoolExecutor(api.in_flight, thread_name_prefix="post") as pool:
            yield Tools(
                run,
                ledger,
                caller,
                api,
                opened.source,
                pool,
                counts_rows,
                loaded.secrets.mask,
                ledger.lease.mine.valid,
                Pace(api.pause * share, run.sleep),
                lambda entity: visible(pipeline, entity),
            )
    finally:
        caller.close()
