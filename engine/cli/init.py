"""`init`: write a new project that can run immediately."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path

import click

from engine import assets
from engine.cli import table
from engine.cli.say import say
from engine.db import dsn
from engine.observe import masks
from engine.observe.secrets import Secrets

EPILOG = """\b
Examples:
  syncledger init my-project                 a sample to start from
  syncledger init my-project --connection "Driver={PostgreSQL Unicode};Server=db;Database=crm" --table customers
  cd my-project && cp .env.example .env
  syncledger receive --port 8900 &
  syncledger run pipelines/customers.yaml
"""

SPEC = """\
# yaml-language-server: $schema=../schema/pipeline.schema.json
version: 1
name: customers
description: Customers to the CRM, once an hour.

connections:
  default: ${SOURCE_CONNECTION} # where the records are
  log: ${LEDGER_CONNECTION} # where the engine keeps what it delivered

schedule: { every: 1h }

ledger: { connection: log, application: CRM }

api:
  base_url: ${API_BASE_URL}
  auth: { bearer: "${API_TOKEN}" }
  breaker: { after: 5, for: 10m } # leave an API that is down alone for a while

entities:
  - name: Customers
    sql: customers.sql.j2
    id: Id
    endpoint: /customers
    batch_size: 1000
    fields: # the record as it is sent; `?` may be null
      Id: int
      Name: string
      Email: string?
      Since: date
"""
TEMPLATE = """\
{# The engine adds the order, the page and the start after the last ID; write a plain SELECT. #}
{% extends "page.sql.j2" %}
{% block query %}
SELECT Id, Name, Email, Since FROM customers
{% endblock %}
"""
ENVIRONMENT = """\
# Copy this file to .env. The environment wins over it; keep it out of version control.
SOURCE_CONNECTION=sqlite:///var/crm.db
LEDGER_CONNECTION=sqlite:///var/ledger.db
API_BASE_URL=http://127.0.0.1:8900
API_TOKEN=change-me
"""
IGNORE = "var/\n.env\n.venv/\n"
_CUSTOMERS = [
    (1, "Ayu Lestari", "ayu@example.com", "2019-04-01"),
    (2, "Budi Santoso", None, "2020-11-15"),
    (3, "Chloé Martin", "chloe@example.com", "2021-06-30"),
    (4, "Dewi Kusuma", "dewi@example.com", "2023-01-09"),
    (5, "Émile 😀 O'Neil", "emile@example.com", "2024-12-24"),
]


@click.command(epilog=EPILOG)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--connection", metavar="STRING", help="Where the records are; a terminal asks for it.")
@click.option(
    "--table", "name", metavar="NAME", help="The table to send: its columns become `fields`, its primary key `id`."
)
def init(directory: Path, connection: str | None, name: str | None) -> int:
    """Write a project into DIR: a spec, its SQL, the schema for your editor.

    With a connection and a table the spec is that of the table. Without them it reads a small SQLite source, which is
    written too, to try it on."""
    if connection is None and name is None and sys.stdin.isatty() and sys.stdout.isatty():
        connection = click.prompt(
            "Connection string of your source (empty for a sample)", default="", show_default=False
        )
    if name and not connection:
        raise click.UsageError("--table needs the --connection in which it stands")
    if connection and name is None:
        if not sys.stdin.isatty():
            raise click.UsageError("--connection needs the --table to send")
        name = click.prompt("Table or view to send")
    if connection and name:
        return _of_table(directory, connection, name)
    files = {
        "pipelines/customers.yaml": SPEC,
        "templates/sql/customers.sql.j2": TEMPLATE,
        ".env.example": ENVIRONMENT,
        ".gitignore": IGNORE,
    }
    _write(directory, files, "var/crm.db")
    _sample(directory / "var" / "crm.db")
    _next(directory, "customers", "cp .env.example .env")
    return 0


def _of_table(directory: Path, connection: str, name: str) -> int:
    """Write a project that sends an existing table."""
    masks.remember(Secrets(dsn.secrets(connection)))
    connection = table.absolute(connection)
    found = table.read(connection, name, directory)
    files = {
        f"pipelines/{found.short}.yaml": table.spec(found),
        f"templates/sql/{found.short}.sql.j2": table.sql(found),
        ".env": table.environment(connection),
        ".env.example": ENVIRONMENT.replace("sqlite:///var/crm.db", ""),
        ".gitignore": IGNORE,
    }
    _write(directory, files)
    (directory / "var").mkdir(exist_ok=True)
    if not found.key:
        say(f"note: {name} has no primary key that is visible here; check `id` in the spec", err=True)
    _next(directory, found.short, "edit .env: the API's URL and token")
    return 0


def _write(directory: Path, files: dict[str, str], *others: str) -> None:
    """Write the files and the schema; raises before writing anything if one of them, or of `others`, exists."""
    taken = [name for name in (*files, *others, "schema/pipeline.schema.json") if (directory / name).exists()]
    if taken:
        raise click.ClickException(f"{directory / taken[0]} exists already; nothing was written")
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name == ".env":
            file.touch(mode=0o600)  # it holds secrets
        file.write_text(text, encoding="utf-8")
    (directory / "schema").mkdir(exist_ok=True)
    shutil.copy(assets.folder("schema") / "pipeline.schema.json", directory / "schema")


def _next(directory: Path, name: str, first: str) -> None:
    say(f"A project stands in {directory}. Next:")
    say(f"  cd {directory}" + (f" && {first}" if first.startswith("cp ") else f"        then {first}"))
    say(f"  syncledger validate pipelines/{name}.yaml --connect")
    say(f"  syncledger plan pipelines/{name}.yaml --preview 1")
    say("  syncledger receive --port 8900        in another terminal: a local API")
    say(f"  syncledger run pipelines/{name}.yaml")


def _sample(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(
            "CREATE TABLE customers (Id INTEGER PRIMARY KEY, Name TEXT NOT NULL, Email TEXT, Since TEXT NOT NULL)"
        )
        connection.executemany("INSERT INTO customers VALUES (?, ?, ?, ?)", _CUSTOMERS)
    connection.close()
