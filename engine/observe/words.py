"""Words for counts, and the words of docs/glossary.md for the states that the ledger names."""

from __future__ import annotations

_PLURALS = {"batch": "batches", "entity": "entities"}


def count(number: int, noun: str) -> str:
    """`1 record`, `2 records`, `1,000 batches`."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """The plural of a noun that the screens use; of `rejected record` that of its last word."""
    first, _, last = noun.rpartition(" ")
    last = _PLURALS.get(last, f"{last}s")
    return f"{first} {last}" if first else last


def state(name: str) -> str:
    """A state as the screens call it: `in doubt` for the ledger's `in_doubt`."""
    return name.replace("_", " ")
