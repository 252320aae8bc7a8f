"""`init`: a new project that runs at once."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import click

from engine import assets
from engine.cli.say import say

EPILOG = """\b
Examples:
  python -m engine init my-project
  cd my-project && cp .env.example .env
  python -m engine receive --port 8900 &
  python -m engine run pipelines/customers.yaml
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
def init(directory: Path) -> int:
    """Write a project into DIR: a spec, its SQL, the schema for your editor, and a small SQLite source to try it on."""
    files = {
        "pipelines/customers.yaml": SPEC,
        "templates/sql/customers.sql.j2": TEMPLATE,
        ".env.example": ENVIRONMENT,
        ".gitignore": IGNORE,
    }
    taken = [name for name in (*files, "var/crm.db", "schema/pipeline.schema.json") if (directory / name).exists()]
    if taken:
        raise click.ClickException(f"{directory / taken[0]} exists already; nothing was written")
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (directory / "schema").mkdir(exist_ok=True)
    shutil.copy(assets.folder("schema") / "pipeline.schema.json", directory / "schema")
    _sample(directory / "var" / "crm.db")
    say(f"A project stands in {directory}. Next:")
    say(f"  cd {directory} && cp .env.example .env")
    say("  python -m engine validate pipelines/customers.yaml --connect")
    say("  python -m engine plan pipelines/customers.yaml --preview 1")
    say("  python -m engine receive --port 8900        in another terminal: a local API")
    say("  python -m engine run pipelines/customers.yaml")
    return 0


def _sample(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(
            "CREATE TABLE customers (Id INTEGER PRIMARY KEY, Name TEXT NOT NULL, Email TEXT, Since TEXT NOT NULL)"
        )
        connection.executemany("INSERT INTO customers VALUES (?, ?, ?, ?)", _CUSTOMERS)
    connection.close()
