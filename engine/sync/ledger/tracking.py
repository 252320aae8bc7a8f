"""Which records were delivered, and what content the API accepted or refused. Sets travel as one JSON parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import orjson

from engine.db.connection import Connection
from engine.identity import is_guid

Kind = Literal["accepted", "rejected", "sent", "repeated"]


def as_json(ids: Iterable[str]) -> str:
    """IDs as the one parameter that the set-based statements take."""
    return orjson.dumps(list(ids)).decode()


def either_case(ids: Iterable[str]) -> list[str]:
    """The IDs, and those that are GUIDs in upper case as well: rows of the replaced job may hold them so."""
    given = list(ids)
    return [*given, *(id_.upper() for id_ in given if is_guid(id_))]


def tracked(db: Connection, names: dict[str, str], entity: str, ids: Sequence[str], *, either: bool = True) -> set[str]:
    """Those of the canonical IDs that are tracked. With `either` GUIDs also where a row holds them in upper case.

    Only what is not found as the engine writes it is looked for in upper case: where all is tracked that costs nothing.
    """
    found = _tracked(db, names, entity, ids)
    missing = [id_.upper() for id_ in ids if id_ not in found and is_guid(id_)] if either else []
    return found.union(id_.lower() for id_ in _tracked(db, names, entity, missing))


def _tracked(db: Connection, names: dict[str, str], entity: str, ids: Sequence[str]) -> set[str]:
    if not ids:
        return set()
    return {row[0] for row in db.run("ledger/tracked.sql.j2", **names, entity=entity, ids=as_json(ids)).rows}


def folds(db: Connection, names: dict[str, str]) -> bool:
    """True when the tracking table takes IDs that differ only in case for one, so that it cannot hold both."""
    return bool(db.run("ledger/folds.sql.j2", **names).rows[0][0])


def clashes(db: Connection, names: dict[str, str], entity: str, ids: Sequence[str]) -> dict[str, str]:
    """The IDs that the tracking table takes for another one that it holds, with that one."""
    if not ids:
        return {}
    rows = db.run("ledger/clashes.sql.j2", **names, entity=entity, ids=as_json(ids)).rows
    # A GUID is one ID in either case.
    return {row[0]: row[1] for row in rows if not (is_guid(row[0]) and row[0] == row[1].lower())}


def track(db: Connection, names: dict[str, str], entity: str, ids: Sequence[str], *, folds: bool = False) -> None:
    """Write IDs as delivered; those that are tracked already stay as they are. `folds` as the function of that name says."""
    if ids:
        db.run("ledger/track.sql.j2", **names, entity=entity, ids=as_json(ids), folds=folds)


def touch(db: Connection, names: dict[str, str], entity: str, ids: Sequence[str]) -> None:
    """Set the time of IDs that were delivered again."""
    if ids:
        db.run("ledger/touch.sql.j2", **names, entity=entity, ids=as_json(either_case(ids)))


def forget(db: Connection, names: dict[str, str], entity: str, ids: Sequence[str]) -> None:
    """Remove IDs, in either case of a GUID, so that the next run offers their records again."""
    db.run("ledger/forget.sql.j2", **names, entity=entity, ids=as_json(either_case(ids)))


def contents(db: Connection, names: dict[str, str], entity: str, kind: Kind, ids: Sequence[str]) -> dict[str, str]:
    """The hashes of the contents that were accepted, or refused."""
    if not ids:
        return {}
    rows = db.run("ledger/contents.sql.j2", **names, entity=entity, kind=kind, ids=as_json(ids)).rows
    return {row[0]: row[1] for row in rows}


def remember(db: Connection, names: dict[str, str], entity: str, kind: Kind, hashes: Mapping[str, str]) -> None:
    """Keep the hashes of contents, in place of those that were kept before. Inside a transaction."""
    if hashes:
        drop_contents(db, names, entity, kind, list(hashes))
        pairs = orjson.dumps(list(hashes.items())).decode()
        db.run("ledger/content.sql.j2", **names, entity=entity, kind=kind, pairs=pairs)


def drop_contents(db: Connection, names: dict[str, str], entity: str, kind: Kind, ids: Sequence[str]) -> None:
    """Forget the hashes of these records."""
    db.run("ledger/drop_contents.sql.j2", **names, entity=entity, kind=kind, ids=as_json(ids))


def refused(db: Connection, names: dict[str, str], entity: str, ids: Sequence[str]) -> dict[str, str | None]:
    """Of the refused records those that rest or are parked, with the hash of the content that was refused."""
    if not ids:
        return {}
    rows = db.run("ledger/refused.sql.j2", **names, entity=entity, ids=as_json(ids)).rows
    return {row[0]: row[1] for row in rows}
