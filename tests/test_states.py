"""The states of a batch: every way that exists, and none that does not."""

from __future__ import annotations

import re
import uuid
from itertools import product

import pytest

from engine.db.connect import open_ledger
from engine.sync.ledger import journal
from engine.sync.ledger.ledger import Ledger
from engine.sync.ledger.states import TRANSITIONS, BatchState, IllegalTransition, check
from engine.sync.model import Batch, LedgerSpec
from tests.project import ROOT

WAYS = [(before, after) for before, ways in TRANSITIONS.items() for after in ways]
SPEC = LedgerSpec("log", "TB_R_SYNC_TRACKING", "SchedulerLog", "A")


@pytest.fixture
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    file = tmp_path_factory.mktemp("ledger") / "log.db"
    made = Ledger(open_ledger("log", f"sqlite:///{file}", ROOT, create=True), SPEC, "sync", "run")
    made.prepare()
    return made


def put(ledger: Ledger, state: BatchState) -> str:
    batch = Batch(str(uuid.uuid4()), "Users", str(uuid.uuid4()), ("1",), b"[{}]")
    ledger.intend(batch)
    if state is not BatchState.IN_FLIGHT:
        assert journal.decide(ledger.db, ledger.names, batch.id, BatchState.IN_FLIGHT, state, "test")
    return batch.id


@pytest.mark.parametrize(("before", "after"), WAYS)
def test_every_way_of_the_table_is_one_guarded_statement(ledger: Ledger, before: BatchState, after: BatchState) -> None:
    batch = put(ledger, before)
    assert journal.decide(ledger.db, ledger.names, batch, before, after, "test")
    assert journal.state(ledger.db, ledger.names, batch) is after
    if after is not before:
        assert not journal.decide(ledger.db, ledger.names, batch, before, after, "test"), (
            "it does not stand there any more"
        )


@pytest.mark.parametrize(("before", "after"), [way for way in product(BatchState, BatchState) if way not in WAYS])
def test_a_way_that_does_not_exist_is_a_bug_and_changes_nothing(
    ledger: Ledger, before: BatchState, after: BatchState
) -> None:
    batch = put(ledger, before)
    with pytest.raises(IllegalTransition, match=f"no way leads from {before} to {after}"):
        journal.decide(ledger.db, ledger.names, batch, before, after, "test")
    assert journal.state(ledger.db, ledger.names, batch) is before


def test_what_is_over_stays_over() -> None:
    assert {state for state in BatchState if not state.is_open} == {BatchState.SETTLED, BatchState.FAILED}
    with pytest.raises(IllegalTransition):
        check("b", BatchState.SETTLED, BatchState.IN_DOUBT)


def test_the_statements_name_no_state_that_is_not_one() -> None:
    open_ = {state.value for state in BatchState if state.is_open}
    for file in (ROOT / "templates" / "sql").rglob("ledger/*.j2"):
        for named in re.findall(r"\bState IN \(([^)]*)\)", file.read_text(encoding="utf-8")):
            states = set(re.findall(r"'(\w+)'", named))
            assert states <= set(BatchState), file.name
            if file.name in ("open_batches.sql.j2", "oldest_open.sql.j2"):
                assert states == open_, file.name
