"""`rejects`: the records that were refused."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from typing import Any

import click

from engine import compose
from engine.cli import common
from engine.ledger.rejects import Reject

EPILOG = """\b
Examples:
  python -m engine rejects pipelines/sync.yaml
  python -m engine rejects pipelines/sync.yaml --entity Users --state parked
  python -m engine rejects pipelines/sync.yaml --format csv > rejects.csv
"""
_NUMBER = re.compile(r"[-+]?[0-9]+([.][0-9]+)?")
_COLUMNS = (
    "entity",
    "id",
    "state",
    "reason",
    "http_status",
    "attempts",
    "first_seen",
    "last_seen",
    "next_try",
    "batch_id",
)


@click.command(epilog=EPILOG)
@common.spec_argument
@click.option("--entity", "entities", multiple=True, metavar="NAME", help="Only this entity; may be repeated.")
@click.option("--state", type=click.Choice(["rejected", "parked"]), help="Only records in this state.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "csv", "json"]),
    default="text",
    help="csv and json print every column on stdout.",
)
def rejects(spec: Path, entities: tuple[str, ...], state: str | None, format_: str) -> int:
    """List the records of SPEC that the API or their own contract refused, with the reason and the next try."""
    common.log_setup("text", quiet=True)
    asked = "json" if format_ == "json" else "text"
    loaded = common.load_spec(spec, asked)
    assert loaded.pipeline is not None  # noqa: S101 - load_spec leaves otherwise
    names = [entity.name for entity in common.chosen(loaded.pipeline, entities, asked)]
    with compose.connections(loaded.pipeline) as opened:
        history = compose.open_history(opened, loaded.secrets)
        found = [reject for name in names for reject in (history.rejects(name) if history else [])]
    shown = [reject for reject in found if state in (None, reject.state)]
    documents = [reject.as_json() for reject in shown]
    if format_ == "json":
        common.print_json({"pipeline": loaded.pipeline.name, "rejects": documents})
    elif format_ == "csv":
        _print_csv(documents)
    else:
        _show(shown)
    return 0


def _print_csv(documents: list[dict[str, Any]]) -> None:
    """RFC 4180, with a header."""
    writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\r\n" if not sys.stdout.isatty() else "\n")
    writer.writeheader()
    for document in documents:
        writer.writerow({name: _harmless(document[name]) for name in _COLUMNS})


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula, made plain text (OWASP, CSV injection)."""
    formula = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _NUMBER.fullmatch(value)
    return f"'{value}" if formula else value


def _show(shown: list[Reject]) -> None:
    if not shown:
        click.echo("No record is rejected.")
        return
    rows = [
        [r.entity, r.id or "(no ID)", r.state, f"{r.attempts:,}", str(r.last_seen)[:19], _next(r), r.reason[:200]]
        for r in shown
    ]
    columns = [
        ("Entity", "left"),
        ("ID", "left"),
        ("State", "left"),
        ("Tries", "right"),
        ("Last try (UTC)", "left"),
        ("Next try", "left"),
        ("Reason", "left"),
    ]
    common.print_table(columns, rows)


def _next(reject: Reject) -> str:
    if reject.state == "parked":
        return "when it changes, or `retry`"
    return str(reject.next_try)[:19] if reject.next_try else "next run"
