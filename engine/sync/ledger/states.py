"""The states that the ledger's tables hold, each with the transitions that exist. Statements get them bound, never as text."""

from __future__ import annotations

from enum import StrEnum


class BatchState(StrEnum):
    """Where a batch stands, as TB_R_SYNC_BATCH has it (docs/ledger.md)."""

    IN_FLIGHT = "in_flight"
    """Written down, perhaps sent."""
    IN_DOUBT = "in_doubt"
    """May have been processed; the next run sends it again."""
    HELD = "held"
    """May have been processed; waits for a person."""
    SETTLED = "settled"
    """Answered: each record was accepted or rejected."""
    FAILED = "failed"
    """Surely not processed."""

    @property
    def is_open(self) -> bool:
        """True while its fate is not known: its records stay out of new batches."""
        return bool(TRANSITIONS[self])

    @property
    def needs_bytes(self) -> bool:
        """True while the exact bytes may be needed again."""
        return self in (BatchState.IN_DOUBT, BatchState.HELD)


TRANSITIONS: dict[BatchState, frozenset[BatchState]] = {
    BatchState.IN_FLIGHT: frozenset(
        {BatchState.IN_FLIGHT, BatchState.IN_DOUBT, BatchState.HELD, BatchState.SETTLED, BatchState.FAILED}
    ),
    BatchState.IN_DOUBT: frozenset(
        {BatchState.IN_FLIGHT, BatchState.IN_DOUBT, BatchState.HELD, BatchState.SETTLED, BatchState.FAILED}
    ),
    BatchState.HELD: frozenset({BatchState.IN_DOUBT, BatchState.SETTLED, BatchState.FAILED}),
    BatchState.SETTLED: frozenset(),
    BatchState.FAILED: frozenset(),
}
"""Where each state may lead. To itself: a run that takes over what a dead one had in flight; a person who orders it sent again."""


class IllegalTransition(ValueError):
    """Code that moves a batch in a way that does not exist: a bug."""

    def __init__(self, batch: str, before: BatchState, after: BatchState) -> None:
        super().__init__(f"batch {batch}: no way leads from {before} to {after}")


def check(batch: str, before: BatchState, after: BatchState) -> None:
    """Raises `IllegalTransition`."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransition(batch, before, after)


class RunStatus(StrEnum):
    """How a run stands, as TB_R_SYNC_RUN has it; `REFUSED` is in no table."""

    RUNNING = "running"
    CANCELLING = "cancelling"
    """Its workers were told to stop."""
    DELIVERED = "delivered"
    PARTIAL = "partial"
    """Delivered, of the entities or records that somebody chose."""
    INCOMPLETE = "incomplete"
    """Something was not delivered."""
    ERROR = "error"
    CANCELLED = "cancelled"
    KILLED = "killed"
    """Its process is gone, and it has not said how it ended."""
    REFUSED = "refused"
    """Another run holds the lease."""

    @property
    def is_over(self) -> bool:
        """True when nothing more becomes of it."""
        return not RUN_TRANSITIONS[self]


_ENDS = frozenset(
    {
        RunStatus.DELIVERED,
        RunStatus.PARTIAL,
        RunStatus.INCOMPLETE,
        RunStatus.ERROR,
        RunStatus.CANCELLED,
        RunStatus.KILLED,
    }
)
RUN_TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.RUNNING: _ENDS | {RunStatus.CANCELLING},
    RunStatus.CANCELLING: _ENDS,
    **{end: frozenset() for end in (*_ENDS, RunStatus.REFUSED)},
}


class RejectState(StrEnum):
    """How a rejected record stands, as TB_R_SYNC_REJECT has it; one that was accepted has no row."""

    REJECTED = "rejected"
    """Offered again when its delay is over."""
    PARKED = "parked"
    """Refused too often: waits for `retry`."""


REJECT_TRANSITIONS: dict[RejectState, frozenset[RejectState]] = {
    RejectState.REJECTED: frozenset(RejectState),
    RejectState.PARKED: frozenset({RejectState.REJECTED, RejectState.PARKED}),
}


class VerdictKind(StrEnum):
    """What was decided on a record, as TB_R_SYNC_VERDICT has it. Rows are only added."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class ContentKind(StrEnum):
    """What happened to the content of a record whose hash TB_R_SYNC_CONTENT keeps."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SENT = "sent"
    """In a call whose answer left the record out."""
    REPEATED = "repeated"
    """An earlier sending may have been stored; no hash."""


def words() -> dict[str, dict[str, str]]:
    """The states as variables of the ledger's statements, where each becomes a bound value."""
    return {
        "batch_state": _words(BatchState),
        "run_status": _words(RunStatus),
        "reject_state": _words(RejectState),
        "verdict_kind": _words(VerdictKind),
        "content_kind": _words(ContentKind),
    }


def _words(states: type[StrEnum]) -> dict[str, str]:
    return {state.name.casefold(): state.value for state in states}
