"""SQL Server's statements on SQLite: rendered from the mssql templates, transpiled by sqlglot, executed.

Not the real thing, but a wrong comparison or a lost condition shows. What sqlglot cannot translate is rewritten here, each case by
a function of its own. Text without a collation compares as under SQL Server's default: without case, without blanks at the end.
"""

from __future__ import annotations

import re
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel

from engine.db.connection import Connection
from engine.db.dialect import dialects
from engine.db.drivers.sqlite import SQLite
from engine.db.templates import Templates
from tests import builders
from tests.project import ROOT

SCHEME = "tsql:///"
_DEFAULT_COLLATION = "DATABASE_DEFAULT"
_NOT_TSQL = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|PRAGMA|ATTACH)\b", re.IGNORECASE)
_NOW = "STRFTIME('%Y-%m-%d %H:%M:%f', 'now')"
_UNITS = {"SECOND": timedelta(seconds=1), "MILLISECOND": timedelta(milliseconds=1)}


def open_ledger(alias: str, text: str, root: Path, **options: Any) -> Connection:
    """As the engine's, and a `tsql:///` string as a SQL Server."""
    return _open(text, root) if text.startswith(SCHEME) else builders.open_ledger(alias, text, root, **options)


def open_source(alias: str, text: str, root: Path) -> Connection:
    """As the engine's, and a `tsql:///` string as a SQL Server."""
    return _open(text, root) if text.startswith(SCHEME) else builders.open_source(alias, text, root)


def _open(text: str, root: Path) -> Connection:
    file = text.removeprefix(SCHEME)
    raw = sqlite3.connect(file, isolation_level=None, timeout=10, factory=_Raw, check_same_thread=False)
    raw.create_function("dateadd_", 3, _dateadd, deterministic=True)
    raw.create_function("datediff_", 3, _datediff, deterministic=True)
    raw.create_collation(_DEFAULT_COLLATION, _compare)
    raw.create_function("object_id", -1, lambda name, *_: _object_id(raw, name))
    raw.create_function("schema_name", -1, lambda *_: "dbo")
    raw.create_function("db_name", 0, lambda: "tsql")
    raw.executescript(_CATALOGUE)
    dialect = dialects(root)["mssql"]
    opened = Connection(SQLite(raw), dialect, Templates(root, dialect), file)
    opened.again = lambda: _open(text, root)
    return opened


_CATALOGUE = """
CREATE TEMP VIEW sys_objects AS SELECT object_id(name) AS object_id, name, 'U' AS type, 1 AS schema_id
FROM main.sqlite_master WHERE type IN ('table', 'view');
CREATE TEMP VIEW sys_columns AS SELECT o.object_id, c.cid AS column_id, c.name FROM sys_objects o, pragma_table_info(o.name) c;
CREATE TEMP VIEW sys_indexes AS SELECT o.object_id, i.seq + 2 AS index_id, i.name, 0 AS has_filter, 0 AS is_disabled
FROM sys_objects o, pragma_index_list(o.name) i;
CREATE TEMP VIEW sys_index_columns AS SELECT i.object_id, i.index_id, c.cid AS column_id, c.seqno + 1 AS key_ordinal, 0 AS is_included_column
FROM sys_indexes i, pragma_index_info(i.name) c;
"""
"""What the templates ask SQL Server's catalogue, of the tables in the main file."""


class _Raw(sqlite3.Connection):
    """A connection whose cursors take T-SQL."""

    def cursor(self, *_: Any) -> sqlite3.Cursor:  # type: ignore[override]
        return super().cursor(_Cursor)


class _Cursor(sqlite3.Cursor):
    def execute(self, text: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:  # type: ignore[override]
        if _NOT_TSQL.match(text):
            return super().execute(text)
        named = {f"p{number}": value for number, value in enumerate(parameters, 1)}
        return super().execute(transpiled(text), named)


@cache
def transpiled(text: str) -> str:
    """A T-SQL statement as SQLite's, its `?` as @p1, @p2, ... since SQLite has some of them (TOP) at another place."""
    if re.match(r"IF @@TRANCOUNT > 0 ROLLBACK", text, re.IGNORECASE):
        return "ROLLBACK"
    if re.match(r"\s*SET\s+\w+", text, re.IGNORECASE):
        return "SELECT 1 WHERE 1 = 0"
    tree = sqlglot.parse_one(_numbered(text), read="tsql", error_level=ErrorLevel.RAISE)
    for rewrite in _REWRITES:
        # From the leaves up, so that what a rewrite takes over has been rewritten.
        for node in reversed(list(tree.walk())):
            made = rewrite(node)
            if made is not node:
                tree = made if node is tree else tree
                node.replace(made)
    return tree.sql("sqlite", unsupported_level=ErrorLevel.IGNORE)


def _numbered(text: str) -> str:
    numbers = iter(range(1, 10_000))
    return re.sub(
        r"'(?:[^']|'')*'|\[(?:[^\]]|\]\])*\]|\?",
        lambda found: f"@p{next(numbers)}" if found[0] == "?" else found[0],
        text,
    )


# What sqlglot leaves to us


def _schema_as_attached(node: exp.Expression) -> exp.Expression:
    """CREATE SCHEMA s: a database of its own, in memory."""
    if isinstance(node, exp.Create) and node.kind == "SCHEMA":
        return exp.Command(this=f"ATTACH ':memory:' AS {node.this.db}")
    return node


def _index_in_its_schema(node: exp.Expression) -> exp.Expression:
    """CREATE INDEX i ON s.t is CREATE INDEX s.i ON t."""
    if isinstance(node, exp.Index) and node.args.get("table") is not None and node.args["table"].db:
        table = node.args["table"]
        name = exp.Dot.build([exp.to_identifier(table.db), exp.to_identifier(node.name)])
        node.set("this", name)
        table.set("db", None)
    return node


def _catalogue(node: exp.Expression) -> exp.Expression:
    """sys.objects and its like: the views above."""
    if isinstance(node, exp.Table) and node.db.casefold() == "sys":
        return exp.to_table(f"sys_{node.name}", alias=node.alias or node.name)
    return node


def _openjson(node: exp.Expression) -> exp.Expression:
    """OPENJSON(x) WITH (c type '$path', ...): json_each(x) and a cast per column. After CROSS APPLY, json_each itself."""
    if isinstance(node, exp.Table) and isinstance(node.this, exp.OpenJSON):
        made = exp.select(*map(_column, node.this.expressions)).from_(f"json_each({_argument(node.this)})")
        return made.subquery(node.alias or "json_")
    if isinstance(node, exp.Lateral):
        (opened,) = node.find_all(exp.OpenJSON)
        assert [column.name for column in opened.expressions] == ["value"], "SQLite knows no lateral subquery"
        return exp.to_table(f"json_each({_argument(opened)})", alias=node.alias)
    return node


def _argument(opened: exp.OpenJSON) -> str:
    value = opened.this.this if isinstance(opened.this, exp.Cast) else opened.this
    return value.sql("sqlite")


def _column(definition: exp.OpenJSONColumnDef) -> exp.Expression:
    path, value = definition.args["path"].name, exp.column("value")
    found = value if path == "$" else exp.Anonymous(this="json_extract", expressions=[value, exp.Literal.string(path)])
    kind = definition.args["kind"].this.name
    as_ = "INTEGER" if "INT" in kind else "REAL" if kind in ("FLOAT", "DOUBLE") else "TEXT"
    return exp.alias_(exp.cast(found, as_), definition.name, quoted=True)


def _moments(node: exp.Expression) -> exp.Expression:
    """DATEADD, DATEDIFF and SYSUTCDATETIME, which SQLite has under other names or loses parts of."""
    if isinstance(node, exp.DateAdd):
        return exp.func("dateadd_", exp.Literal.string(node.unit.name), node.expression, node.this)
    if isinstance(node, exp.DateDiff):
        return exp.func("datediff_", exp.Literal.string(node.unit.name), node.expression, node.this)
    if isinstance(node, exp.TimeStrToTime):
        return node.this  # type: ignore[no-any-return]
    if isinstance(node, exp.Anonymous) and node.name.upper() == "SYSUTCDATETIME":
        return sqlglot.parse_one(_NOW, read="sqlite")
    return node


def _types(node: exp.Expression) -> exp.Expression:
    """No lengths: SQLite takes no MAX. Text columns without a collation get the server's default one."""
    if isinstance(node, exp.DataType):
        return exp.DataType(this=node.this)
    text = isinstance(node, exp.ColumnDef) and node.kind is not None and node.kind.is_type(*exp.DataType.TEXT_TYPES)
    if text and _collates_ids():
        given = [one.kind for one in node.constraints]
        if not any(isinstance(one, exp.CollateColumnConstraint) for one in given):
            collation = exp.CollateColumnConstraint(this=exp.to_identifier(_DEFAULT_COLLATION))
            node.append("constraints", exp.ColumnConstraint(kind=collation))
    return node


@cache
def _collates_ids() -> bool:
    """True where the mssql dialect keeps IDs under a binary collation: only then may others compare without case."""
    return any("COLLATE" in text for _, text in dialects(ROOT)["mssql"].types)


def _collations(node: exp.Expression) -> exp.Expression:
    """Binary ones under SQLite's name for it."""
    if isinstance(node, (exp.Identifier, exp.Var)) and node.name.endswith(("_BIN", "_BIN2")):
        return type(node)(this="BINARY")
    return node


_REWRITES: list[Callable[[exp.Expression], exp.Expression]] = [
    _schema_as_attached,
    _index_in_its_schema,
    _catalogue,
    _openjson,
    _moments,
    _types,
    _collations,
]


# Functions of SQL Server


def _dateadd(unit: str, number: float | None, moment: str | None) -> str | None:
    if number is None or moment is None:
        return None
    return (datetime.fromisoformat(moment) + int(number) * _UNITS[unit.upper()]).isoformat(" ", "milliseconds")


def _datediff(unit: str, first: str | None, second: str | None) -> int | None:
    """How often the unit's boundary was crossed."""
    if first is None or second is None:
        return None
    assert unit.upper() == "SECOND", unit
    begin, end = (datetime.fromisoformat(moment).replace(microsecond=0) for moment in (first, second))
    return int((end - begin).total_seconds())


def _object_id(raw: sqlite3.Connection, name: str) -> int | None:
    schema, _, table = name.replace("[", "").replace("]", "").rpartition(".")
    schema = "main" if schema in ("", "dbo") else schema
    known = [row[1] for row in sqlite3.Connection.cursor(raw).execute("PRAGMA database_list")]
    if schema not in known:
        return None
    look = f"SELECT 1 FROM {schema}.sqlite_master WHERE lower(name) = lower(?) AND type IN ('table', 'view')"
    found = sqlite3.Connection.cursor(raw).execute(look, (table,)).fetchone()
    return zlib.crc32(f"{schema}.{table}".casefold().encode()) if found else None


def _compare(one: str, other: str) -> int:
    left, right = (text.rstrip(" ").casefold() for text in (one, other))
    return (left > right) - (left < right)
