"""What a run would send: the stages up to the call, with a ledger that is only read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.context import RunContext
from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.errors import ConnectionFailed, EntityError, SourceError
from engine.http.session import Caller
from engine.sync import head
from engine.sync.counts import Counts, Flow
from engine.sync.head import Reading
from engine.sync.ledger.history import History
from engine.sync.ledger.lookup import Lookup
from engine.sync.ledger.parks import Park
from engine.sync.model import Batch, Entity, Exclusion, Rejection
from engine.sync.read import duplicates, exclusion, sorting, source


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it would be sent."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    records: int


@dataclass(slots=True)
class EntityPlan:
    """What a run would find and send of one entity.

    `since` is the value from which it would be read, where only what changed is. `in_doubt` are records of open batches, `without_id` and `repeated` rows that it would reject. While its endpoint is
    parked, nothing is sent. `statements` read its source, each with what it is for; `sorts` says what the database sorts for every page.
    """

    name: str
    counts: Counts = field(default_factory=Counts)
    exclude: Exclusion | None = None
    since: str | None = None
    in_doubt: int = 0
    without_id: int = 0
    repeated: int = 0
    twins: int = 0
    """Rows whose ID has the same canonical form as another's."""
    reasons: dict[str, int] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    statements: list[tuple[str, Statement]] = field(default_factory=list)
    sorts: str | None = None
    park: Park | None = None
    rows: int | None = None
    """Rows of the source, where less than all of them was read."""
    error: str | None = None
    database_failed: bool = False

    @property
    def due(self) -> int:
        """Records that a run would send."""
        return self.counts.due - self.counts.rejected

    @property
    def in_source(self) -> int:
        """Rows of the source."""
        return self.counts.read if self.rows is None else self.rows

    def as_json(self) -> dict[str, Any]:
        """The document of one entity."""
        counts = self.counts
        return {
            "name": self.name, "exclude": self.exclude, "since": self.since, "in_source": counts.read, "tracked": counts.excluded, "dropped": counts.dropped,
            "in_doubt": self.in_doubt, "resting": counts.resting, "due": self.due, "batches": counts.batches, "rejected": counts.rejected,
            "without_id": self.without_id, "repeated_ids": self.repeated, "twin_ids": self.twins,
            "sorts": self.sorts, "parked_until": str(self.park.until) if self.park else None, "error": self.error,
        }  # fmt: skip


def plan_entity(
    entity: Entity,
    connect: Callable[[str], Connection],
    history: History | None,
    visible: str | None,
    run: RunContext,
    caller: Caller,
    requests: int,
    *,
    statements: bool = False,
) -> EntityPlan:
    """Read the entity as a run would, and count; without a ledger everything is due.

    The first `requests` requests are kept, and the `statements` that read the source.
    """
    made = EntityPlan(entity.name)
    try:
        lookup, flow = _lookup(history, entity), _flow(made)
        connection = connect(entity.connection)
        reader = source.Reader(connection, entity, run)
        reading = _reading(reader, history)
        made.since = reading.since
        due = head.due(reader, lookup, visible, flow, reading.span)
        made.exclude = due.source.how
        if statements:
            made.statements = list(exclusion.statements(due.source))
        for batch in due.batches:
            made.counts.send()
            if len(made.requests) < requests:
                made.requests.append(_request(entity, batch, caller))
        made.in_doubt = len(flow.met)
        keys = source.check_keys(connection, entity, run)
        if keys:
            made.without_id, made.repeated = keys.without_id, keys.repeated
            made.sorts = sorting.advice(reader) if keys.rows >= sorting.WORTH else None
        made.twins = len(duplicates.of(reader))
    except (SourceError, ConnectionFailed) as failure:
        made.error, made.database_failed = str(failure), True
    except EntityError as failure:
        made.error = str(failure)
    return made


def _lookup(history: History | None, entity: Entity) -> Lookup:
    return history.lookup(entity.name, changed=entity.resend == "changed") if history else Lookup(None, entity.name)


def _flow(made: EntityPlan) -> Flow:
    """Counts what the stages refuse, with the reasons."""

    def refuse(rejection: Rejection) -> None:
        made.counts.break_contract()
        # One reason stands for many records: the value shown in it is the first one's.
        if rejection.reason in made.reasons or len(made.reasons) < 20:
            made.reasons[rejection.reason] = made.reasons.get(rejection.reason, 0) + 1

    return Flow(refuse, made.counts)


def _reading(reader: source.Reader, history: History | None) -> Reading:
    """As a run would read it; without a ledger there is no watermark."""
    if history is None:
        return Reading(reader, source.WHOLE, None)
    return head.reading(reader, history.store.tables.tracking.name, history.watermark)


def _request(entity: Entity, batch: Batch, caller: Caller) -> Request:
    prepared = caller.prepared(entity.method, caller.url(entity.endpoint), batch.payload, "<a new key for each batch>")
    return Request(entity.method, str(prepared.url), dict(prepared.headers), batch.payload, len(batch.ids))
