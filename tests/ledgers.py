"""The parts of a ledger on an open connection, for tests that use them without a run."""

from __future__ import annotations

from collections import defaultdict

from engine.db.connection import Connection
from engine.store.retries import Patience
from engine.sync.ledger.due import Due
from engine.sync.ledger.history import History
from engine.sync.ledger.ledger import Ledger
from engine.sync.ledger.operator import Acts
from engine.sync.ledger.rejects import Policy
from engine.sync.ledger.store import Store
from engine.sync.model import LedgerSpec


def ledger_on(
    db: Connection,
    spec: LedgerSpec,
    pipeline: str = "sync",
    run: str = "run",
    patience: Patience | None = Patience(30),  # noqa: B008 - frozen
) -> Ledger:
    """What a run changes."""
    policies = defaultdict[str, Policy](lambda: Policy(3600.0, 5, changed=False))
    return Ledger.on(Store(db, spec, pipeline, run, patience=patience), policies)


def history_on(db: Connection, spec: LedgerSpec, pipeline: str = "sync", run: str = "run") -> History:
    """What is read."""
    return History(Store(db, spec, pipeline, run))


def acts_on(db: Connection, spec: LedgerSpec, pipeline: str = "sync", run: str = "run") -> Acts:
    """What a person does."""
    return Acts(Store(db, spec, pipeline, run))


def due_on(db: Connection, spec: LedgerSpec, pipeline: str = "sync", run: str = "run") -> Due:
    """What the schedule has served."""
    return Due(Store(db, spec, pipeline, run))
