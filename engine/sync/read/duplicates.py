"""IDs that differ in the source and have one canonical form (`a` and `a `, a GUID in two cases): only one of their rows is sent.

Twins on one page are seen by the stage that leaves out what was delivered. GUIDs in two cases may stand far apart: where a source
spells GUIDs in both ways, the database is asked for them once the entity was read.
"""

from __future__ import annotations

import json
from dataclasses import replace

from engine.identity import InvalidID, canonical, clip
from engine.sync.model import Rejection
from engine.sync.read import source
from engine.sync.read.source import Key, Reader

PREFIX = "raw:"
"""Begins the name under which the reject table keeps a twin: its canonical ID is the other row's."""


def name(key: Key) -> str:
    """The name of a twin: its ID as the source spells it, as JSON, so that spaces at the end can be seen."""
    parts = [value if isinstance(value, str) else f"{type(value).__name__} {value}" for value in key]
    return clip(PREFIX + json.dumps(parts[0] if len(parts) == 1 else parts, ensure_ascii=False))


def rejection(id_: str, key: Key, first: Key | None = None) -> Rejection:
    """The refusal of a row whose canonical ID another row has: under the ID itself where it repeats that row's ID to the letter.

    `first` is the other row's ID, where it is known.
    """
    if key == first or (first is None and _is_canonical(key)):
        return Rejection(id_, "the ID stands twice in the source; its first record was taken", spare=True)
    reason = f"its ID has the same canonical form as another row's ({id_}), and only one of the two is sent: give one a different ID"
    return Rejection(name(key), reason, spare=True)


def _is_canonical(key: Key) -> bool:
    """True for a key that is spelled as the ledger spells it."""
    try:
        return all(not isinstance(value, str) or canonical(value) == value for value in key)
    except InvalidID:
        return False


def of(reader: Reader) -> list[Rejection]:
    """The refusals of all twins of an entity but the first of each; none where the SQL pages itself. Raises `SourceError`."""
    if reader.own_paging:
        return []
    names, _ = reader.key(reader.columns())
    positions = range(len(names))
    first = reader.read(replace(reader.request(names, None, 1), keys=True)).rows
    if not first or not any(isinstance(value, str) for value in first[0]):
        return []
    met: dict[str, Key] = {}
    found: dict[str, Rejection] = {}
    for row in reader.read(replace(reader.request(names, None, 0), twins=True)).rows:
        id_, key = source.canonical(row, positions), tuple(row)
        if id_ is not None and met.setdefault(id_, key) != key:
            refused = rejection(id_, key, met[id_])
            found[refused.id] = refused
    return list(found.values())
