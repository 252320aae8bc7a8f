"""The states of a batch, and the ways between them."""

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
