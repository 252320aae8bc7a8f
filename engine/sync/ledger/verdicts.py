"""The history of verdicts: who said what of a record, when, in which batch. Rows are only ever added.

Every refusal of the API is a row, and one of the record's own contract where it is new. Acceptances are rows where a record
may be accepted more than once, and for a record that had been rejected; of all others the tracking table tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine.identity import is_guid
from engine.sync.ledger import tracking
from engine.sync.ledger.states import VerdictKind
from engine.sync.ledger.store import Store
from engine.sync.model import Outcome, Rejection

_BY_HAND = "resolved by hand"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of them. `verdict` is accepted, rejected or unknown; `batch` is None where it was not said of a batch."""

    time: Any
    verdict: VerdictKind
    reason: str | None
    status: int | None
    run: str
    batch: str | None

    @property
    def by(self) -> str | None:
        """Who said it: `api`, `contract` or `person`; None for a delivery of which only the time is known."""
        if self.batch:
            return "person" if self.reason == _BY_HAND else "api"
        return "contract" if self.verdict is VerdictKind.REJECTED else None

    def as_json(self) -> dict[str, Any]:
        """One item of `verdicts`."""
        return {
            "time": str(self.time), "verdict": self.verdict, "by": self.by, "reason": self.reason,
            "http_status": self.status, "run_id": self.run, "batch_id": self.batch,
        }  # fmt: skip


def refused(store: Store, entity: str, rejections: Sequence[Rejection], batch: str | None) -> None:
    """Add refusals, before the table of rejected records is written. Inside a transaction.

    Without a batch the contract refused: where the table says the same already, that is no news.
    """
    said: dict[str, Rejection] = {}
    for rejection in rejections:
        # Of several for one ID the last counts, but a second record of an ID says nothing of the first one.
        if rejection.id and not (rejection.spare and rejection.id in said):
            said[rejection.id] = rejection
    rows = [[one.id, store.storable(one.reason), one.status, int(one.spare)] for one in said.values()]
    if rows:
        whole = orjson.dumps(rows).decode()
        values = {"pipeline": store.pipeline, "run": store.run, "entity": entity, "batch": batch}
        store.statement("verdict_refused", said=whole, **values)


def accepted(store: Store, outcome: Outcome, *, refused: bool = False) -> None:
    """Add the acceptances of a batch; with `refused` only those of records that had been rejected. Inside a transaction."""
    _given(store, outcome, outcome.accepted, VerdictKind.ACCEPTED, None, refused=refused)


def unknown(store: Store, outcome: Outcome) -> None:
    """Add the records that an answer left out. Inside a transaction."""
    _given(store, outcome, outcome.in_doubt, VerdictKind.UNKNOWN, outcome.reason)


def resolved(store: Store, entity: str, batch: str, ids: Sequence[str]) -> None:
    """Add that a person said that the API has accepted a batch. Inside a transaction."""
    values = {"batch": batch, "reason": _BY_HAND, "status": None, "refused": False}
    _add(store, entity, ids, VerdictKind.ACCEPTED, values)


def forgotten(store: Store, entity: str, ids: Sequence[str]) -> None:
    """Keep when records were delivered whose tracking rows are about to go. Inside a transaction."""
    wanted = tracking.as_json(tracking.either_case(ids))
    store.statement("verdict_forgotten", pipeline=store.pipeline, run=store.run, entity=entity, ids=wanted)


def of(store: Store, entity: str, record: str) -> list[Verdict]:
    """The verdicts on a record, the oldest first."""
    upper = record.upper() if is_guid(record) else record
    rows = store.statement("verdicts", entity=entity, record=record, upper=upper).rows
    return [
        Verdict(time, VerdictKind(verdict), reason, status, run, batch)
        for time, verdict, reason, status, run, batch in rows
    ]


def since(store: Store) -> Any:
    """Since when verdicts are kept; None where every batch of the journal is younger than that."""
    return store.statement("verdict_since").scalar()


def _given(
    store: Store,
    outcome: Outcome,
    ids: Sequence[str],
    verdict: VerdictKind,
    reason: str | None,
    *,
    refused: bool = False,
) -> None:
    values = {"batch": outcome.batch.id, "reason": reason, "status": outcome.status, "refused": refused}
    _add(store, outcome.batch.entity, ids, verdict, values)


def _add(store: Store, entity: str, ids: Sequence[str], verdict: VerdictKind, values: dict[str, Any]) -> None:
    if ids:
        where = {"pipeline": store.pipeline, "run": store.run, "entity": entity, "ids": tracking.as_json(ids)}
        store.statement("verdict_given", **where, verdict=verdict.value, **values)
