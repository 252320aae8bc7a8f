"""What the ledger knows of the records of one page: the one question that decides what is due."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from engine.store.encoding import fits
from engine.sync.ledger import tracking
from engine.sync.ledger.states import ContentKind
from engine.sync.ledger.store import Store

_CLASH = (
    "{table} ignores case and takes this ID for {other!r}: it cannot hold both, so that this record is not sent; "
    "give the column EntityId a binary collation (docs/ledger.md)"
)
_STRANGE = (
    "the ledger's encoding is {encoding}, which cannot hold this ID, so that this record is not sent; move the ledger to a "
    "database with UTF-8"
)


@dataclass(frozen=True, slots=True)
class Known:
    """Canonical IDs that are not simply new.

    `tracked` were delivered; `accepted` holds the hash of what was, where changes are looked for ("" where nobody knows
    it). `refused` rest or are parked, with the hash of what was refused, if known. `waiting` stand in open batches.
    `clashing` cannot be tracked, and why.
    """

    tracked: frozenset[str] | set[str] = frozenset()
    accepted: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str | None] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()
    twins: frozenset[str] = frozenset()
    """Names of rows that were refused since another row has their canonical ID (engine/sync/read/duplicates.py)."""
    clashing: Mapping[str, str] = field(default_factory=dict)

    def only_tracked(self, ids: Iterable[str]) -> bool:
        """True where being tracked or not decides of each of these IDs whether it is due."""
        special = self.accepted or self.refused or self.twins or self.clashing
        return not special and self.waiting.isdisjoint(ids)

    def rests(self, id_: str) -> Literal["waiting", "resting", "excluded"] | None:
        """How a record counts that is not due whatever its content is; None where it may be."""
        if id_ in self.waiting:
            return "waiting"
        if id_ in self.refused and self.refused[id_] is None:
            return "resting"
        return "excluded" if id_ in self.tracked and id_ not in self.accepted else None


@dataclass(frozen=True, slots=True)
class Lookup:
    """Asks the ledger about a page's IDs. A ledger that does not exist yet (`store` is None) knows nothing.

    `any_tracked` says whether the entity has tracking rows, `folds` whether their table takes `a` and `A` for one ID. `rejects`
    is False where the entity had none when the run began, `changed` where nobody looks for changes.
    """

    store: Store | None
    entity: str
    changed: bool = False
    rejects: bool = False
    waiting: frozenset[str] = frozenset()
    any_tracked: bool = False
    folds: bool = False
    twins: frozenset[str] = frozenset()
    _met_folded: dict[str, str] = field(default_factory=dict, repr=False)

    def __call__(self, ids: Sequence[str]) -> Known:
        """What is known of these canonical IDs. Raises `LedgerError`."""
        store = self.store
        if store is None:
            return Known()
        return store.read(lambda: self._look(store, ids))

    def _look(self, store: Store, ids: Sequence[str]) -> Known:
        entity, codec = self.entity, store.codec()
        strange = (
            {id_: _STRANGE.format(encoding=store.encoding()) for id_ in ids if not fits(id_, codec)} if codec else {}
        )
        ids = [id_ for id_ in ids if id_ not in strange] if strange else ids
        found = tracking.tracked(store, entity, ids, either=self.any_tracked)
        accepted: dict[str, str] = {}
        if self.changed:
            known = [id_ for id_ in ids if id_ in found]
            contents = tracking.contents(store, entity, ContentKind.ACCEPTED, known)
            accepted = {**dict.fromkeys(known, ""), **contents}
        refused = tracking.refused(store, entity, ids) if self.rejects else {}
        clashing = self._clashes(store, [id_ for id_ in ids if id_ not in found]) if self.folds else {}
        return Known(found, accepted, refused, self.waiting, self.twins, {**strange, **clashing})

    def _clashes(self, store: Store, new: Sequence[str]) -> dict[str, str]:
        """Why some of the new IDs cannot be tracked: their table takes each for one that it holds, or that came before."""
        others = tracking.clashes(store, self.entity, new)
        for id_ in new:
            first = self._met_folded.setdefault(id_.casefold(), id_)
            if first != id_:
                others.setdefault(id_, first)
        return {id_: _CLASH.format(table=store.tables.tracking.name, other=other) for id_, other in others.items()}


def lookup(store: Store, entity: str, *, changed: bool, rejects: bool, waiting: frozenset[str]) -> Lookup:
    """The lookup of an entity, as the ledger stands now."""
    any_, folds = store.read(lambda: (bool(store.statement("any_tracked", entity=entity).rows), store.folds()))
    twins = store.read(lambda: store.statement("twins", entity=entity, prefix="raw:%").column()) if rejects else []
    return Lookup(store, entity, changed, rejects, waiting, any_, folds, frozenset(twins))
