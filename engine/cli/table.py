"""What `init` writes for an existing table: its spec, its SQL and its connection."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.db import connect, dsn
from engine.db.connection import Connection
from engine.db.dialect import Dialect
from engine.db.templates import PLAIN_TABLE
from engine.errors import ConnectionFailed, DatabaseError
from engine.spec.field_types import FieldType
from engine.sync.spec.build import default_timeouts

_TYPES: dict[FieldType, str] = {
    "guid": "uniqueidentifier uuid guid",
    "int": "int integer bigint smallint tinyint mediumint int2 int4 int8",
    "bool": "bit bool boolean",
    "decimal": "decimal numeric money smallmoney",
    "float": "float real double",
    "date": "date",
    "datetime": "datetime datetime2 smalldatetime timestamp datetimeoffset",
    "binary": "binary varbinary image blob tinyblob mediumblob longblob bytea rowversion",
}
_FIELD_TYPES = {name: kind for kind, names in _TYPES.items() for name in names.split()}
_TEMPLATE = """\
{{# The engine adds the order, the page and the start after the last ID; write a plain SELECT. #}}
{{% extends "page.sql.j2" %}}
{{% block query %}}
SELECT {names} FROM {table}
{{% endblock %}}
"""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = re.compile(r"null|true|false|yes|no|on|off", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the source: its columns with their field types, its primary key, its dialect."""

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    dialect: Dialect

    @property
    def short(self) -> str:
        """The name without its schema, safe for file names, URLs and the pipeline's name."""
        return re.sub(r"[^A-Za-z0-9_.-]", "_", self.name.rpartition(".")[2]).lower()


def absolute(connection: str) -> str:
    """Make the path of an existing SQLite file absolute: it is relative to the current folder, not to the project."""
    file = Path(connection.removeprefix(dsn.SQLITE))
    return f"{dsn.SQLITE}{file.absolute()}" if connection.startswith(dsn.SQLITE) and file.is_file() else connection


def read(connection: str, name: str, root: Path) -> Table:
    """Read a table's description from its database. Raises `ConnectionFailed`, also if there is no such table."""
    if not PLAIN_TABLE.fullmatch(name):
        raise ConnectionFailed(f"{name!r} is no plain name of a table, such as customers or dbo.customers")
    opened = connect.open_source("default", connection, root, default_timeouts())
    try:
        rows = _rows(opened, name)
    except DatabaseError as failure:
        raise ConnectionFailed(f"the columns of {name} cannot be read: {failure}") from failure
    finally:
        opened.close()
    if not rows:
        raise ConnectionFailed(f"there is no table or view {name} in {opened.description}")
    mssql = opened.dialect.name == "mssql"
    columns = tuple((str(row[0]), _field(str(row[1]), nullable=row[2] == "YES", mssql=mssql)) for row in rows)
    keyed = sorted((int(row[3]), str(row[0])) for row in rows if row[3])
    return Table(name, columns, tuple(column for _, column in keyed), opened.dialect)


def _rows(opened: Connection, name: str) -> list[Any]:
    schema, _, table = name.rpartition(".")
    return opened.run("catalogue/columns.sql.j2", table=table, schema=schema.rpartition(".")[2] or None).rows


def _field(declared: str, *, nullable: bool, mssql: bool) -> str:
    words = declared.casefold().partition("(")[0].split()
    # SQL Server's `timestamp` is a synonym of rowversion.
    kind = "binary" if mssql and words == ["timestamp"] else _FIELD_TYPES.get(words[0] if words else "", "string")
    return kind + ("?" if nullable else "")


def spec(table: Table) -> str:
    """Return a spec with one entity that sends the table."""
    return f"""\
# yaml-language-server: $schema=../schema/pipeline.schema.json
version: 1
name: {json.dumps(table.short)}

connections:
  default: ${{SOURCE_CONNECTION}} # where the records are
  log: ${{LEDGER_CONNECTION}} # where the engine keeps what it delivered

schedule: {{ every: 1h }}

ledger: {{ connection: log }}

api:
  base_url: ${{API_BASE_URL}}
  auth: {{ bearer: "${{API_TOKEN}}" }}
  breaker: {{ after: 5, for: 10m }} # leave an API that is down alone for a while

entities:
  - name: {_yaml(table.name.rpartition(".")[2])}
    sql: {table.short}.sql.j2
    id: {_id(table)}
    endpoint: /{table.short}
    batch_size: 1000
    fields: # the record as it is sent; `?` may be null
{"".join(_fields(table))}"""


def _fields(table: Table) -> Iterator[str]:
    for name, kind in table.columns:
        yield f"      {_yaml(name)}: {kind}\n"


def _id(table: Table) -> str:
    if not table.key:
        return f"{_yaml(table.columns[0][0])} # no primary key was found: name the column that tells records apart"
    names = [_yaml(name) for name in table.key]
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


def sql(table: Table) -> str:
    """Return the template that reads the table."""
    names = ", ".join(name if _PLAIN.fullmatch(name) else table.dialect.quote(name) for name, _ in table.columns)
    return _TEMPLATE.format(names=names, table=table.name)


def environment(connection: str) -> str:
    """Return the .env file. It holds the connection string, so it stays out of version control."""
    quoted = connection.replace("\\", "\\\\").replace("'", "\\'")
    return f"""\
SOURCE_CONNECTION='{quoted}'
LEDGER_CONNECTION=sqlite:///var/ledger.db
API_BASE_URL=http://127.0.0.1:8900
API_TOKEN=change-me
"""


def _yaml(text: str) -> str:
    """Return a name as a YAML scalar, quoted unless it is plainly text."""
    return text if _PLAIN.fullmatch(text) and not _WORDS.fullmatch(text) else json.dumps(text)
