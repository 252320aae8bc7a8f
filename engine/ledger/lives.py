"""The life of one record, as the ledger's tables tell it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from engine.ledger import tracking
from engine.ledger.rejects import Reject
from engine.ledger.store import Store


@dataclass(frozen=True, slots=True)
class Call:
    """One API call of a batch. `milliseconds` is its duration; `status` None where no answer came."""

    time: Any
    run: str
    attempt: int
    status: int | None
    milliseconds: int
    error: str | None
    resent: bool

    def as_json(self) -> dict[str, Any]:
        """One item of a batch's `calls`."""
        return {
            "time": str(self.time), "run_id": self.run, "attempt": self.attempt, "http_status": self.status,
            "milliseconds": self.milliseconds, "error": self.error, "resent": self.resent,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Carried:
    """A batch that carried the record."""

    id: str
    run: str
    key: str
    state: str
    records: int
    status: int | None
    reason: str | None
    created: Any
    settled: Any
    calls: list[Call]

    def as_json(self) -> dict[str, Any]:
        """One item of `batches`."""
        return {
            "batch_id": self.id, "run_id": self.run, "idempotency_key": self.key, "state": self.state,
            "records": self.records, "http_status": self.status, "reason": self.reason, "created": str(self.created),
            "settled": str(self.settled) if self.settled else None, "calls": [call.as_json() for call in self.calls],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Act:
    """What a person did that touched the record."""

    what: str
    who: str
    when: Any

    def as_json(self) -> dict[str, Any]:
        """One item of `acts`."""
        return {"what": self.what, "who": self.who, "when": str(self.when)}


@dataclass(frozen=True, slots=True)
class Life:
    """All that the ledger holds of one record. `tracked` is when it was; `accepted` and `refused` are hashes of contents."""

    tracked: Any = None
    accepted: str | None = None
    refused: str | None = None
    batches: list[Carried] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    reject: Reject | None = None


def tracked(store: Store, entity: str, record: str) -> Any:
    """When the record was tracked; None when it is not."""
    ids = tracking.as_json(tracking.either_case([record]))
    rows = store.statement("tracked_row", entity=entity, ids=ids).rows
    return rows[0][1] if rows else None


def content(store: Store, entity: str, kind: tracking.Kind, record: str) -> str | None:
    """The hash of the content that the API accepted, or refused, last, where it is kept."""
    return tracking.contents(store.db, store.names, entity, kind, [record]).get(record)


def batches(store: Store, entity: str, record: str) -> list[Carried]:
    """The batches that carried the record, the oldest first, each with its calls."""
    rows = store.statement("batches_of", pipeline=store.pipeline, entity=entity, record=record).rows
    return [
        Carried(
            row[0], row[1], row[2], row[3], int(row[4]), row[5], row[6], row[7], row[8], _calls(store, entity, row[0])
        )
        for row in rows
    ]


def acts(store: Store, entity: str, record: str, tracked: Any, reject: Reject | None) -> list[Act]:
    """What people did to the record: by name, or to all of its entity when it was there already."""
    made: list[Act] = []
    rows = [
        (activity.partition(":")[0], who, when, _information(information).get("EntityIds"))
        for activity, who, when, information in store.statement("acts_on", entity=entity).rows
    ]
    forgotten = max(
        (str(when) for verb, _, when, ids in rows if verb == "Forget" and record in (ids or ())), default=""
    )
    for verb, who, when, ids in rows:
        if verb == "Baseline":
            # It has no list of IDs: it tracked what is tracked since before it, or was when it was forgotten later.
            meant = (tracked is not None and str(tracked) <= str(when)) or str(when) < forgotten
        elif verb == "Retry" and ids is None:
            meant = reject is not None and str(reject.first_seen) <= str(when)
        else:
            meant = record in (ids or ())
        if meant:
            made.append(Act(verb.casefold(), who or "", when))
    return made


def _calls(store: Store, entity: str, batch: str) -> list[Call]:
    pattern = f'%"BatchId":"{batch}"%'
    rows = store.statement("calls_of", activity=f"Sync Batch: {entity}", pattern=pattern).rows
    return [_call(row) for row in rows]


def _call(row: Any) -> Call:
    said = _information(row[2])
    return Call(
        row[3], row[0], int(said.get("Attempt") or 0), said.get("HttpResponseCode"), int(said.get("DurationMs") or 0), row[4],
        bool(said.get("Resent")),
    )  # fmt: skip


def _information(text: str | None) -> dict[str, Any]:
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:  # a row that something else wrote
        return {}
    return found if isinstance(found, dict) else {}
