"""Which records were delivered. Sets of IDs travel as one JSON parameter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from engine.db.connect import Connection
from engine.identity import is_guid


def as_json(ids: Iterable[str]) -> str:
    """IDs as the one parameter that the set-based statements take."""
    return orjson.dumps(list(ids)).decode()


def tracked(db: Connection, names: dict[str, str], entity: str, ids: Sequence[str]) -> set[str]:
    """Those of the canonical IDs that are tracked; GUIDs also where a row holds them in upper case."""
    if not ids:
        return set()
    asked = [*ids, *(id_.upper() for id_ in ids if is_guid(id_))]
    rows = db.run("ledger/tracked.sql.j2", **names, entity=entity, ids=as_json(asked)).rows
    return {found.lower() if is_guid(found) else found for (found,) in rows}


def track(db: Connection, names: dict[str, str], entity: str, ids: Sequence[str]) -> None:
    """Write IDs as delivered; those that are tracked already stay as they are."""
    if ids:
        db.run("ledger/track.sql.j2", **names, entity=entity, ids=as_json(ids))


def forget(db: Connection, names: dict[str, str], entity: str, ids: Sequence[str]) -> None:
    """Remove IDs, in either case of a GUID, so that the next run offers their records again."""
    both = [*ids, *(id_.upper() for id_ in ids if is_guid(id_))]
    db.run("ledger/forget.sql.j2", **names, entity=entity, ids=as_json(both))
