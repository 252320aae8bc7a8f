"""The states of a batch: every way that exists, and none that does not."""

from __future__ import annotations

import re
import uuid
from enum import StrEnum
from itertools import product

import pytest

from engine.sync.ledger import journal
from engine.sync.ledger.ledger import Ledger
from engine.sync.ledger.states import (
    REJECT_TRANSITIONS,
    RUN_TRANSITIONS,
    TRANSITIONS,
    BatchState,
    IllegalTransition,
    RejectState,
    RunStatus,
    check,
    words,
)
from engine.sync.model import Batch
from tests.builders import ledger_spec, open_ledger
from tests.ledgers import ledger_on
from tests.project import ROOT

WAYS = [(before, after) for before, ways in TRANSITIONS.items() for after in ways]
SPEC = ledger_spec(application="A")


@pytest.fixture
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    file = tmp_path_factory.mktemp("ledger") / "log.db"
    made = ledger_on(open_ledger("log", f"sqlite:///{file}", ROOT, create=True), SPEC, "sync", "run")
    made.prepare()
    return made


def put(ledger: Ledger, state: BatchState) -> str:
    batch = Batch(str(uuid.uuid4()), "Users", str(uuid.uuid4()), ("1",), b"[{}]")
    ledger.batches.intend(batch)
    if state is not BatchState.IN_FLIGHT:
        assert journal.decide(ledger.store, batch.id, BatchState.IN_FLIGHT, state, "test")
    return batch.id


@pytest.mark.parametrize(("before", "after"), WAYS)
def test_every_way_of_the_table_is_one_guarded_statement(ledger: Ledger, before: BatchState, after: BatchState) -> None:
    batch = put(ledger, before)
    assert journal.decide(ledger.store, batch, before, after, "test")
    assert journal.state(ledger.store, batch) is after
    if after is not before:
        assert not journal.decide(ledger.store, batch, before, after, "test"), "it does not stand there any more"


@pytest.mark.parametrize(("before", "after"), [way for way in product(BatchState, BatchState) if way not in WAYS])
def test_a_way_that_does_not_exist_is_a_bug_and_changes_nothing(
    ledger: Ledger, before: BatchState, after: BatchState
) -> None:
    batch = put(ledger, before)
    with pytest.raises(IllegalTransition, match=f"no way leads from {before} to {after}"):
        journal.decide(ledger.store, batch, before, after, "test")
    assert journal.state(ledger.store, batch) is before


def test_what_is_over_stays_over() -> None:
    assert {state for state in BatchState if not state.is_open} == {BatchState.SETTLED, BatchState.FAILED}
    with pytest.raises(IllegalTransition):
        check("b", BatchState.SETTLED, BatchState.IN_DOUBT)


def test_no_statement_has_a_state_as_text_and_those_that_it_names_exist() -> None:
    """States are bound: the enums are the only place that spells them. A migration keeps the words of its time."""
    known = words()
    spelled = {value for states in known.values() for value in states.values()}
    for file in (ROOT / "templates" / "sql").rglob("ledger/*.j2"):
        text = file.read_text(encoding="utf-8")
        assert not spelled & set(re.findall(r"'(\w+)'", text)), file.name
        for kind, state in re.findall(r"\b(\w+_(?:state|status|kind))\.(\w+)", text):
            assert state in known[kind], file.name


def test_open_batches_are_those_whose_fate_is_not_known() -> None:
    open_ = {state.value for state in BatchState if state.is_open}
    for name in ("open_batches", "oldest_open"):
        text = (ROOT / "templates" / "sql" / "ledger" / f"{name}.sql.j2").read_text(encoding="utf-8")
        assert set(re.findall(r"batch_state\.(\w+)", text)) == open_, name


@pytest.mark.parametrize(("states", "ways"), [(RunStatus, RUN_TRANSITIONS), (RejectState, REJECT_TRANSITIONS)])
def test_every_state_has_its_transitions(states: type[StrEnum], ways: dict[StrEnum, frozenset[StrEnum]]) -> None:
    assert set(ways) == set(states)
    assert all(after in set(states) for afters in ways.values() for after in afters)


def test_a_run_that_is_over_stays_over() -> None:
    assert {status for status in RunStatus if not status.is_over} == {RunStatus.RUNNING, RunStatus.CANCELLING}
