"""Words for counts, and the one word for each state of a record that every screen uses (docs/glossary.md)."""

from __future__ import annotations

REJECTED = "rejected"
PARKED = "parked"
RESTING = "resting"
IN_DOUBT = "in doubt"
HELD = "held"
FAILED = "failed"
NOT_SENT = "not sent"

STATES = (REJECTED, PARKED, RESTING, IN_DOUBT, HELD, FAILED, NOT_SENT)

_PLURALS = {"batch": "batches", "entity": "entities"}


def count(number: int, noun: str) -> str:
    """`1 record`, `2 records`, `1,000 batches`."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """The plural of a noun that the screens use; of `refused record` that of its last word."""
    first, _, last = noun.rpartition(" ")
    last = _PLURALS.get(last, f"{last}s")
    return f"{first} {last}" if first else last
