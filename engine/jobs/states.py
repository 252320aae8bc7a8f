"""The states of runs and steps, each with the transitions that exist. Statements get them bound, never as text."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """How a run of a job stands, as TB_R_JOB_RUN has it."""

    RUNNING = "running"
    CANCELLING = "cancelling"
    """A person has asked for its end; what it was doing may still go on."""
    SUCCEEDED = "succeeded"
    INCOMPLETE = "incomplete"
    """Some items were skipped or have failed; the others are done."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    """Its process is gone, and it has not said how it ended."""

    @property
    def resumable(self) -> bool:
        """True for a run that `resume` may take up."""
        return RunState.RUNNING in TRANSITIONS[self] and self is not RunState.RUNNING


class StepState(StrEnum):
    """How a step of an item stands, as TB_R_JOB_STEP has it."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """Its `when` did not hold, or a person said on resuming that it is done."""


class Consequence(StrEnum):
    """What followed from a failed step."""

    STOP = "stop"
    NEXT_ITEM = "next_item"
    SKIP_ITEM = "skip_item"
    CONTINUE = "continue"


class ItemState(StrEnum):
    """What became of an item; it is told by its steps."""

    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_RUN = "not_run"


TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.RUNNING: frozenset(
        {RunState.CANCELLING, RunState.SUCCEEDED, RunState.INCOMPLETE, RunState.FAILED, RunState.LOST}
    ),
    RunState.CANCELLING: frozenset({RunState.CANCELLED, RunState.LOST}),
    RunState.LOST: frozenset({RunState.RUNNING, RunState.CANCELLED}),
    RunState.FAILED: frozenset({RunState.RUNNING}),
    RunState.INCOMPLETE: frozenset({RunState.RUNNING}),
    RunState.SUCCEEDED: frozenset(),
    RunState.CANCELLED: frozenset(),
}
"""Where each state may lead. A run that somebody has cancelled is never taken up again, whatever its state."""

STEP_TRANSITIONS: dict[StepState, frozenset[StepState]] = {
    StepState.RUNNING: frozenset({StepState.DONE, StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED}),
    StepState.DONE: frozenset(),
    StepState.FAILED: frozenset(),
    StepState.CANCELLED: frozenset(),
    StepState.SKIPPED: frozenset(),
}
"""A further attempt is a row of its own."""


class IllegalTransition(ValueError):
    """Code that moves a run or a step in a way that does not exist: a bug."""


def check(before: RunState, after: RunState) -> None:
    """Raises `IllegalTransition`."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransition(f"a run does not go from {before} to {after}")


def check_step(before: StepState, after: StepState) -> None:
    """Raises `IllegalTransition`."""
    if after not in STEP_TRANSITIONS[before]:
        raise IllegalTransition(f"a step does not go from {before} to {after}")


def words() -> dict[str, dict[str, str]]:
    """The states as variables of the store's statements, where each becomes a bound value."""
    return {
        "run_state": {state.name.casefold(): state.value for state in RunState},
        "step_state": {state.name.casefold(): state.value for state in StepState},
    }
