"""Which records were delivered, and what content the API accepted or refused. Sets travel as one JSON parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import orjson

from engine.identity import is_guid
from engine.sync.ledger.states import ContentKind
from engine.sync.ledger.store import Store


def as_json(ids: Iterable[str]) -> str:
    """IDs as the one parameter that the set-based statements take."""
    return orjson.dumps(list(ids)).decode()


def either_case(ids: Iterable[str]) -> list[str]:
    """The IDs, and those that are GUIDs in upper case as well: rows of the replaced job may hold them so."""
    given = list(ids)
    return [*given, *(id_.upper() for id_ in given if is_guid(id_))]


def tracked(store: Store, entity: str, ids: Sequence[str], *, either: bool = True) -> set[str]:
    """Those of the canonical IDs that are tracked. With `either` GUIDs also where a row holds them in upper case.

    Only what is not found as the engine writes it is looked for in upper case: where all is tracked that costs nothing.
    """
    found = _tracked(store, entity, ids)
    missing = [id_.upper() for id_ in ids if id_ not in found and is_guid(id_)] if either else []
    return found.union(id_.lower() for id_ in _tracked(store, entity, missing))


def _tracked(store: Store, entity: str, ids: Sequence[str]) -> set[str]:
    if not ids:
        return set()
    return set(store.statement("tracked", entity=entity, ids=as_json(ids)).column())


def clashes(store: Store, entity: str, ids: Sequence[str]) -> dict[str, str]:
    """The IDs that the tracking table takes for another one that it holds, with that one."""
    if not ids:
        return {}
    found = store.statement("clashes", entity=entity, ids=as_json(ids)).pairs()
    # A GUID is one ID in either case.
    return {id_: other for id_, other in found.items() if not (is_guid(id_) and id_ == other.lower())}


def track(store: Store, entity: str, ids: Sequence[str]) -> None:
    """Write IDs as delivered; those that are tracked already stay as they are."""
    if ids:
        store.statement("track", entity=entity, ids=as_json(ids), folds=store.folds())


def touch(store: Store, entity: str, ids: Sequence[str]) -> None:
    """Set the time of IDs that were delivered again."""
    if ids:
        store.statement("touch", entity=entity, ids=as_json(either_case(ids)))


def forget(store: Store, entity: str, ids: Sequence[str]) -> None:
    """Remove IDs, in either case of a GUID, so that the next run offers their records again."""
    store.statement("forget", entity=entity, ids=as_json(either_case(ids)))


def contents(store: Store, entity: str, kind: ContentKind, ids: Sequence[str]) -> dict[str, str]:
    """The hashes of the contents that were accepted, or refused."""
    if not ids:
        return {}
    return store.statement("contents", entity=entity, kind=kind.value, ids=as_json(ids)).pairs()


def remember(store: Store, entity: str, kind: ContentKind, hashes: Mapping[str, str]) -> None:
    """Keep the hashes of contents, in place of those that were kept before. Inside a transaction."""
    if hashes:
        drop_contents(store, entity, kind, list(hashes))
        pairs = orjson.dumps(list(hashes.items())).decode()
        store.statement("content", entity=entity, kind=kind.value, pairs=pairs)


def drop_contents(store: Store, entity: str, kind: ContentKind, ids: Sequence[str]) -> None:
    """Forget the hashes of these records."""
    store.statement("drop_contents", entity=entity, kind=kind.value, ids=as_json(ids))


def refused(store: Store, entity: str, ids: Sequence[str]) -> dict[str, str | None]:
    """Of the rejected records those that rest or are parked, with the hash of the content that was refused."""
    if not ids:
        return {}
    return store.statement("refused", entity=entity, ids=as_json(ids)).pairs()
