"""Finds one row of a source by its canonical ID."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from engine.context import RunContext
from engine.db.connection import Connection
from engine.errors import DatabaseError
from engine.sync.model import Entity
from engine.sync.read import source
from engine.sync.read.column_names import spelled
from engine.sync.read.source import Reader


def find(connection: Connection, entity: Entity, run: RunContext, wanted: str) -> list[Sequence[Any]] | None:
    """The header and the one row with a canonical ID; None when the source does not have it. Raises `SourceError`.

    The database is asked for the key first; what it does not find is looked for among all rows, since it may hold the ID
    in another text form.
    """
    reader = Reader(connection, entity, run)
    return _asked_for(reader, wanted) or _looked_for(reader, wanted)


def _asked_for(reader: Reader, wanted: str) -> list[Sequence[Any]] | None:
    """The row as the database finds it by its key, in the forms that the key may have there."""
    if reader.own_paging:
        return None
    names, positions = reader.key(reader.columns())
    parts = [wanted] if len(names) == 1 else orjson.loads(wanted)
    forms = [tuple(parts), tuple(part.upper() for part in parts)]
    if all(re.fullmatch(r"-?[0-9]{1,18}", part) for part in parts):
        forms.insert(0, tuple(int(part) for part in parts))
    for form in dict.fromkeys(forms):
        try:
            page = reader.connection.execute(reader.statement(replace(reader.request(names, None, 1), find=(form,))))
        except DatabaseError:
            continue  # the key is of another type than this form
        rows = [row for row in page.rows if source.canonical(row, positions) == wanted]
        if rows:
            return [spelled(reader.entity, page.columns), rows[0]]
    return None


def _looked_for(reader: Reader, wanted: str) -> list[Sequence[Any]] | None:
    """The row by going through all of them."""
    header, pages = reader.pages()
    _, positions = reader.key(header)
    row = next((row for page in pages for row in page if source.canonical(row, positions) == wanted), None)
    return None if row is None else [header, row]
