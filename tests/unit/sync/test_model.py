"""What the values of a run show, and what they say where nobody says otherwise."""

from __future__ import annotations

from engine.sync.model import Batch, Outcome
from engine.sync.send.conclusion import unsent

BATCH = Batch("b", "Users", "key", ("1",), b'[{"Salary": 4711}]')


def test_the_payload_of_a_batch_is_in_no_text_of_it() -> None:
    assert "4711" not in repr(BATCH)
    assert "4711" not in repr(Outcome(BATCH, failed=("1",)))


def test_a_batch_that_was_never_sent_was_not_repeated() -> None:
    made = unsent(BATCH, "not sent: the run was cancelled")
    assert (made.failed, made.repeated, made.answered, made.attempts) == (("1",), False, False, 0)
