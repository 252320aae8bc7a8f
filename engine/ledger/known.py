"""What the ledger knows of the records of one page: the one question that decides what is due."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.ledger import tracking
from engine.ledger.store import Store


@dataclass(frozen=True, slots=True)
class Known:
    """Canonical IDs that are not simply new.

    `tracked` were delivered; `accepted` holds the hash of what was, where changes are looked for ("" where nobody knows
    it). `refused` rest or are parked, with the hash of what was refused, if known. `waiting` stand in open batches.
    """

    tracked: frozenset[str] | set[str] = frozenset()
    accepted: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str | None] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()


Lookup = Callable[[Sequence[str]], Known]


def lookup(store: Store, entity: str, *, changed: bool, rejects: bool, waiting: frozenset[str]) -> Lookup:
    """Asks the ledger about a page's IDs. `rejects` is False where the entity had none when the run began."""

    with store.guard("cannot be read"):
        either = tracking.has_upper_case(store.db, store.names, entity)

    def ask(ids: Sequence[str]) -> Known:
        with store.guard("cannot be read"):
            found = tracking.tracked(store.db, store.names, entity, ids, either=either)
            accepted: dict[str, str] = {}
            if changed:
                known = [id_ for id_ in ids if id_ in found]
                accepted = {
                    **dict.fromkeys(known, ""),
                    **tracking.contents(store.db, store.names, entity, "accepted", known),
                }
            refused = tracking.refused(store.db, store.names, entity, ids) if rejects else {}
        return Known(found, accepted, refused, waiting)

    return ask
