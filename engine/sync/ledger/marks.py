"""Which entities have refused or repeated records at all: most have none, and then nothing is asked for single ones."""

from __future__ import annotations

from engine.sync.ledger.store import Store


class Marks:
    """Asked once per entity, under the lease: only this run adds any."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rejects: dict[str, bool] = {}
        self._repeats: dict[str, bool] = {}

    def rejects(self, entity: str) -> bool:
        """True when records of the entity were refused."""
        return self._ask(self._rejects, entity, "any_rejected")

    def repeats(self, entity: str) -> bool:
        """True when an earlier sending of some of the entity's records may have been stored."""
        return self._ask(self._repeats, entity, "any_repeated")

    def add_rejects(self, entity: str) -> None:
        """This run has written a refusal."""
        self._rejects[entity] = True

    def add_repeats(self, entity: str) -> None:
        """This run has written that a sending may have been stored."""
        self._repeats[entity] = True

    def _ask(self, known: dict[str, bool], entity: str, statement: str) -> bool:
        if entity not in known:
            known[entity] = bool(self._store.statement(statement, entity=entity).rows)
        return known[entity]
