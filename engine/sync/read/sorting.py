"""Says where a database reads and sorts the whole source for every page, since no index has the order of the ID."""

from __future__ import annotations

import re

from jinja2 import TemplateNotFound

from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.db.templates import PLAIN_TABLE
from engine.errors import DatabaseError
from engine.sync.read.source import Reader

WORTH = 10_000
"""Rows under which sorting costs too little to be mentioned."""
_INNER = ("FROM (", ") AS page_")
_MORE_THAN_ONE_TABLE = frozenset({"UNION", "INTERSECT", "EXCEPT", "GROUP", "HAVING", "ORDER", "JOIN", "--", "/*"})
_PLAIN_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_$#]*")


def advice(reader: Reader) -> str | None:
    """A sentence on the sort, with the index that would spare it where table and columns are certain; None where nothing is sorted.

    Raises `SourceError`. A plan that the database does not give is no reason to say anything.
    """
    if reader.own_paging:
        return None
    names, _ = reader.key(reader.columns())
    # Of one row: then every database takes an index that has the order, however many rows a page has.
    statement = reader.statement(reader.request(names, None, 1))
    table = base_table(statement.text, names)
    try:
        if not _sorts(reader.connection, statement, table, names):
            return None
        certain = table is not None and _is_table(reader.connection, table)
    except (DatabaseError, TemplateNotFound):
        return None
    key = ", ".join(names)
    said = f"the database reads and sorts the whole source for every page: no index has the order of {key}"
    if table is None or not certain:
        return f"{said}; an index that begins with these columns would spare it"
    name = "_".join(["IX", table.rpartition(".")[2], *names])
    columns = ", ".join(n if _PLAIN_COLUMN.fullmatch(n) else reader.connection.dialect.quote(n) for n in names)
    return f"{said}; run CREATE INDEX {name} ON {table} ({columns})"


def _sorts(connection: Connection, statement: Statement, table: str | None, names: tuple[str, ...]) -> bool:
    """By the plan of the statement, where the dialect can explain one; else by the indexes of the table."""
    explain = connection.dialect.explain
    if explain is not None:
        prefix, sign = explain
        rows = connection.execute(Statement(f"{prefix} {statement.text}", statement.parameters)).rows
        return any(re.search(sign, str(value)) for row in rows for value in row)
    if table is None:
        return False
    return not connection.run("catalogue/index.sql.j2", table=table, key=names).rows


def _is_table(connection: Connection, table: str) -> bool:
    kinds = connection.run("catalogue/kind.sql.j2", table=table.rpartition(".")[2]).rows
    return bool(kinds) and all(row[0] == "BASE TABLE" for row in kinds)


def base_table(page: str, names: tuple[str, ...]) -> str | None:
    """The table of a page's statement where its SQL is a plain SELECT of one table and the key columns are that table's own."""
    start, end = page.find(_INNER[0]), page.rfind(_INNER[1])
    words = page[start + len(_INNER[0]) : end].rstrip().rstrip(";").split()
    folded = [word.upper() for word in words]
    if start < 0 or end < 0 or "FROM" not in folded or folded[0] != "SELECT" or _MORE_THAN_ONE_TABLE & set(folded):
        return None
    at = folded.index("FROM")
    table, rest = words[at + 1] if at + 1 < len(words) else "", folded[at + 2 :]
    if rest[:1] == ["AS"]:
        rest = rest[1:]
    if rest and rest[0] != "WHERE":
        rest = rest[1:]
    if not PLAIN_TABLE.fullmatch(table) or rest[:1] not in ([], ["WHERE"]):
        return None
    columns = {item.strip().rpartition(".")[2].casefold() for item in " ".join(words[1:at]).split(",")}
    return table if columns == {"*"} or {name.casefold() for name in names} <= columns else None
