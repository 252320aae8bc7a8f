"""What the attempts of one batch mean for its records, together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from engine.sync.model import Attempt, Batch, Outcome, Rejection
from engine.sync.send.verdict import Verdicts

_CONFLICT = 409


@dataclass(frozen=True, slots=True)
class Reply:
    """One attempt's meaning. `again` asks for another one, after `wait` seconds if the API named them.

    `refused` says that some of the records are bad, `park` for how many seconds the API asks to be left alone.
    """

    kind: Literal["answered", "failed", "decided", "in_doubt"]
    reason: str | None
    again: bool
    wait: float | None = None
    closes: bool = False
    found: Verdicts | None = None
    status: int | None = None
    refused: bool = False
    park: float | None = None
    unreachable: bool = False
    """The connection was refused: nothing can have been processed."""
    made: Attempt | None = None
    """The call itself, until it was reported."""


def conclude(batch: Batch, replies: list[Reply], *, keyed: bool) -> Outcome:
    """The outcome of a batch from all of its attempts.

    An accepted answer decides. A refusal decides too, where the key tells the API that it is the same batch; otherwise
    one attempt in doubt leaves the batch in doubt.
    """
    last = replies[-1]
    attempts, status, found = len(replies), last.status, last.found
    if found is not None:
        return Outcome(
            batch,
            found.accepted,
            found.rejected,
            in_doubt=found.unknown,
            reason=found.remark,
            answered=True,
            attempts=attempts,
            status=status,
            repeated=doubtful(batch, replies),
        )
    made = Outcome(
        batch,
        failed=batch.ids,
        reason=last.reason,
        # Where nobody listens, every other batch would meet the same.
        closes_endpoint=last.closes or all(reply.unreachable for reply in replies),
        attempts=attempts,
        status=status,
        park=last.park,
        repeated=doubtful(batch, replies),
    )
    # A 401, 403 or 404 says nothing about an earlier attempt.
    # Without a key a conflict means that records are there already; so it does with one, where `isolate` says that conflicts are
    # refusals of records and a later run still meets it.
    duplicate = made.repeated and status == _CONFLICT and (not keyed or (batch.resent and last.refused))
    decided = duplicate or (last.kind == "decided" and keyed and not last.closes)
    if made.repeated and not decided:
        return replace(made, failed=(), in_doubt=batch.ids)
    if not last.refused and not duplicate:
        return made
    if len(batch.ids) > 1:
        return replace(made, refused=status if last.refused and not batch.resent else None)
    if batch.resent and not duplicate:
        return made
    rejection = Rejection(batch.ids[0], last.reason or "refused", status, duplicate=status == _CONFLICT)
    return replace(made, failed=(), rejected=(rejection,), reason=None, answered=True)


def doubtful(batch: Batch, replies: list[Reply]) -> bool:
    """True when something of the batch may have been processed before."""
    return batch.resent or any(reply.kind == "in_doubt" for reply in replies)


def unsent(batch: Batch, reason: str) -> Outcome:
    """The outcome of a batch of which nothing was sent now: one of an earlier run stays as much in doubt as it was."""
    if batch.resent:
        return Outcome(batch, in_doubt=batch.ids, reason=reason)
    return Outcome(batch, failed=batch.ids, reason=reason)
