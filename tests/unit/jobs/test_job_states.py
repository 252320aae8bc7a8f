"""The states of runs and steps of jobs: every transition that exists, and none that does not."""

from __future__ import annotations

import re
from itertools import product

import pytest

from engine.jobs.states import (
    STEP_TRANSITIONS,
    TRANSITIONS,
    IllegalTransition,
    RunState,
    StepState,
    check,
    check_step,
    words,
)
from tests.project import ROOT


def test_every_transition_is_in_the_table_or_refused() -> None:
    for before, after in product(RunState, repeat=2):
        if after in TRANSITIONS[before]:
            check(before, after)
        else:
            with pytest.raises(IllegalTransition):
                check(before, after)
    for before_step, after_step in product(StepState, repeat=2):
        if after_step in STEP_TRANSITIONS[before_step]:
            check_step(before_step, after_step)
        else:
            with pytest.raises(IllegalTransition):
                check_step(before_step, after_step)


def test_what_was_cancelled_or_has_succeeded_is_over() -> None:
    assert {state for state in RunState if state.resumable} == {RunState.LOST, RunState.FAILED, RunState.INCOMPLETE}
    assert not TRANSITIONS[RunState.CANCELLED]
    assert not TRANSITIONS[RunState.SUCCEEDED]


def test_no_statement_of_the_store_has_a_state_as_text() -> None:
    known = words()
    spelled = {value for states in known.values() for value in states.values()}
    for file in (ROOT / "templates" / "sql").rglob("jobs/*.j2"):
        text = file.read_text(encoding="utf-8")
        assert not spelled & set(re.findall(r"'(\w+)'", text)), file.name
        for kind, state in re.findall(r"\b(\w+_state)\.(\w+)", text):
            assert state in known[kind], file.name
