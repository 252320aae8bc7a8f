"""Wording of counts and of the ledger's states, as in docs/glossary.md."""

from __future__ import annotations

_PLURALS = {"batch": "batches", "entity": "entities"}


def count(number: int, noun: str) -> str:
    """`1 record`, `2 records`, `1,000 batches`."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun; in `rejected record` only the last word changes."""
    first, _, last = noun.rpartition(" ")
    last = _PLURALS.get(last, f"{last}s")
    return f"{first} {last}" if first else last


def state(name: str) -> str:
    """Return a state as the screens show it: `in doubt` for the ledger's `in_doubt`."""
    return name.replace("_", " ")
