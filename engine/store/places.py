"""Where the ledger's tables are: looked up in the database's catalogue, never guessed from an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.db.connection import Connection
from engine.errors import LedgerError


@dataclass(frozen=True, slots=True)
class Name:
    """A table's name as the database stores it. `full` is quoted; `schema` is None if the spec names none."""

    full: str
    schema: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Place:
    """Whether a table's name resolves to a table, the schema it is in, and the other schemas with a table of that name.

    Other schemas are searched only if the spec names none.
    """

    here: bool
    schema: str | None
    elsewhere: tuple[str, ...]

    def qualified(self, name: str) -> str:
        """Return the table's name with its schema."""
        return name if "." in name or not self.schema else f"{self.schema}.{name}"


def find(db: Connection, names: Sequence[str]) -> list[Place]:
    """Return the place of each table. Raises `LedgerError` for a name that this database does not allow."""
    asked = [_name(db, name) for name in names]
    found: list[list[tuple[str | None, bool]]] = [[] for _ in names]
    for row in db.run("ledger/places.sql.j2", tables=asked).rows:
        found[int(row[0])].append((row[1] or asked[int(row[0])].schema, bool(row[2])))
    return [_place(rows) for rows in found]


def _place(rows: list[tuple[str | None, bool]]) -> Place:
    here = [schema for schema, is_here in rows if is_here]
    others = sorted(schema for schema, is_here in rows if not is_here and schema)
    return Place(bool(here), here[0] if here else None, tuple(others))


def _name(db: Connection, name: str) -> Name:
    parts = db.dialect.name_parts(name)
    if len(parts) > db.dialect.parts:
        raise LedgerError(
            f"the table name {name} has {len(parts)} parts; {db.dialect.reported[0]} takes {db.dialect.parts} at most"
        )
    return Name(db.dialect.table(name), parts[-2] if len(parts) > 1 else None, parts[-1])
