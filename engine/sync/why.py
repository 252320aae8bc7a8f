"""Why a record is where it is: the source as it is now, the ledger, and what follows for the next run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from engine.context import RunContext
from engine.db.connection import Connection
from engine.errors import ConnectionFailed, EntityError, SourceError
from engine.store.base import moment
from engine.sync.counts import Flow
from engine.sync.ledger.history import History
from engine.sync.ledger.lookup import Known
from engine.sync.ledger.parks import Park
from engine.sync.ledger.record_history import Life
from engine.sync.ledger.states import BatchState, RejectState
from engine.sync.ledger.watermarks import Watermark
from engine.sync.model import Entity, Rejection
from engine.sync.payload import content_hash
from engine.sync.read import exclude, seek
from engine.sync.send import chunk
from engine.sync.shape import shape


@dataclass(slots=True)
class Source:
    """The record in its source now: `missing`, `unreadable`, `dropped` by a `select`, `broken` by its contract, or `sendable`."""

    state: str
    reason: str | None = None
    content: str | None = None
    """The hash of what would be sent."""


@dataclass(slots=True)
class Answer:
    """All that is known of a record, and what the next run does with it."""

    entity: str
    id: str
    source: Source
    life: Life = field(default_factory=Life)
    park: Park | None = None
    watermark: Watermark | None = None
    verdict: str = ""

    @property
    def known(self) -> bool:
        """False when neither the source nor the ledger has ever seen it."""
        life = self.life
        return self.source.state != "missing" or bool(
            life.tracked or life.batches or life.reject or life.acts or life.verdicts
        )

    def as_json(self) -> dict[str, Any]:
        """The document of `why --format json`."""
        life = self.life
        return {
            "entity": self.entity, "id": self.id, "verdict": self.verdict,
            "source": {"state": self.source.state, "reason": self.source.reason},
            "tracked": str(life.tracked) if life.tracked else None,
            "open_batch": next((b.id for b in life.batches if b.state.is_open), None),
            "rejected": life.reject.as_json() if life.reject else None,
            "endpoint_parked": self.park.as_json() if self.park else None,
            "verdicts": [verdict.as_json() for verdict in life.verdicts],
            "batches": [batch.as_json() for batch in life.batches],
            "not_searched_before": str(life.unsearched) if life.unsearched else None,
            "acts": [act.as_json() for act in life.acts],
        }  # fmt: skip


def ask(entity: Entity, wanted: str, connect: Callable[[str], Connection], history: History | None, url: str) -> Answer:
    """Look everywhere. A source that cannot be read is part of the answer; raises `LedgerError` only."""
    run = replace(RunContext.start(), last_success=history.last_success() if history else None)
    answer = Answer(entity.name, wanted, _source(entity, wanted, connect, run))
    if history:
        answer.life, answer.park = history.life(entity.name, wanted), history.parked(url)
        answer.watermark = history.watermark(entity.name) if entity.changed_since else None
    answer.verdict = _verdict(answer, entity)
    return answer


def _source(entity: Entity, wanted: str, connect: Callable[[str], Connection], run: RunContext) -> Source:
    refused: list[Rejection] = []
    flow = Flow(refused.append)
    try:
        found = seek.find(connect(entity.connection), entity, run, wanted)
        if found is None:
            return Source("missing")
        # The stages themselves say what would become of the row.
        due = exclude.tracked(found, entity.id, lambda _ids: Known(), flow)
        shaped = shape.records(due, entity, flow)
        header, *rows = iter(shaped)
        if rows:
            record = chunk.encode(dict(zip([str(name) for name in header[1:]], rows[0][1:], strict=True)))
            return Source("sendable", content=content_hash(record))
    except (SourceError, ConnectionFailed, EntityError) as failure:
        return Source("unreadable", str(failure))
    except (TypeError, ValueError, RecursionError) as failure:
        return Source("broken", f"the record cannot be written as JSON: {failure}")
    return Source("broken", refused[0].reason) if refused else Source("dropped", "a `select` of the spec leaves it out")


def _verdict(answer: Answer, entity: Entity) -> str:
    """One sentence: what the next run does with the record, and why."""
    life, state = answer.life, answer.source.state
    waiting = next((batch for batch in life.batches if batch.state.is_open), None)
    if waiting and waiting.state is BatchState.HELD:
        return (
            f"It waits for a person: batch {waiting.id}, which may have been processed, is held; `resolve` settles it."
        )
    if waiting:
        then = f"; {answer.park}, and a run settles it after that" if answer.park else "; the next run settles it first"
        return f"Its fate is open: batch {waiting.id} may have been processed{then}."
    if state == "unreadable":
        return "Its source cannot be read now."
    if state == "missing":
        return (
            "It was delivered; its source does not have it any more."
            if life.tracked
            else "Its source does not have it."
        )
    changed = entity.resend == "changed" and life.accepted not in (None, answer.source.content)
    if life.tracked and not (changed and state == "sendable"):
        return "It is delivered. No run sends it again" + (
            "." if entity.resend == "once" else " while it stays as it is."
        )
    return _not_delivered(answer)


def _not_delivered(answer: Answer) -> str:
    reject, state = answer.life.reject, answer.source.state
    if state == "dropped":
        return "No run sends it: a `select` of the spec leaves it out."
    if state == "broken":
        return f"No run sends it as it is: {answer.source.reason}."
    mended = answer.life.refused not in (None, answer.source.content)
    if reject and not mended and reject.state is RejectState.PARKED:
        return "It is parked: no run offers it again until its content changes, or `retry`."
    if reject and not mended and reject.next_try and moment(reject.next_try) > moment(answer.life.now):
        return f"It was rejected; a run offers it again from {str(reject.next_try)[:19]} UTC on, or when its content changes."
    if answer.park:
        return f"It is due, but {answer.park}."
    changed = ", since it has changed after it was rejected" if reject and mended else ""
    if answer.watermark and answer.watermark.value is not None:
        return (
            f"It is due: the next run that reads it sends it{changed}. With `changed_since` each run reads what changed lately, "
            "and a full check everything."
        )
    return f"It is due: the next run sends it{changed}."
