"""`rejects`: list the rejected records."""

from __future__ import annotations

import csv
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

from engine import app
from engine.cli import common
from engine.cli.say import json_text, say, say_exact
from engine.observe.masks import masked
from engine.observe.printable import printable
from engine.observe.words import count
from engine.sync.ledger.history import Standing
from engine.sync.ledger.rejects import Reject
from engine.sync.ledger.states import RejectState

EPILOG = """\b
Examples:
  syncledger rejects pipelines/sync.yaml
  syncledger rejects pipelines/sync.yaml --entity Users --state parked
  syncledger rejects pipelines/sync.yaml --format csv > rejects.csv
"""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[-+]?[0-9]+([.][0-9]+)?")
_SHOWN = 1000
"""The most records in text output."""
_AT_ONCE = 1000
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
@click.option("--state", type=click.Choice([state.value for state in RejectState]), help="Only records in this state.")
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
    names = [entity.name for entity in common.chosen(loaded.pipeline, entities, asked)]
    with app.connections(loaded.pipeline) as opened:
        history = app.open_history(opened, loaded.secrets)
        found = (
            reject
            for name in names
            if history
            for reject in history.each_reject(name, RejectState(state) if state else None)
        )
        if format_ == "json":
            _print_json(loaded.pipeline.name, found)
        elif format_ == "csv":
            _print_csv(found)
        else:
            shown = list(islice(found, _SHOWN + 1))
            _show(shown[:_SHOWN])
            if history and len(shown) > _SHOWN:
                say()
                say(_more(history.standings(names), names, state))
    return 0


def _print_json(pipeline: str, found: Iterator[Reject]) -> None:
    """Stream one document: a ledger may hold more rejected records than fit into memory."""
    say_exact(f'{{\n  "pipeline": {json_text(pipeline)},\n  "rejects": [', end="")
    before = "\n"
    while some := list(islice(found, _AT_ONCE)):
        items = [textwrap.indent(json_text(reject.as_json()), "    ") for reject in some]
        say_exact(before + ",\n".join(items), end="")
        before = ",\n"
    say_exact("\n  ]\n}" if before != "\n" else "]\n}")


def _print_csv(found: Iterable[Reject]) -> None:
    """RFC 4180, with a header."""
    writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\r\n" if not sys.stdout.isatty() else "\n")
    writer.writeheader()
    for reject in found:
        document = reject.as_json()
        writer.writerow({name: _harmless(name, document[name]) for name in _COLUMNS})


def _harmless(name: str, value: Any) -> Any:
    """Make text that a spreadsheet would read as a formula plain (OWASP, CSV injection), on one line; mask the reason."""
    if not isinstance(value, str):
        return value
    shown = printable(masked(value) if name == "reason" else value)
    formula = value.startswith(_FORMULA) and not _NUMBER.fullmatch(value)
    return f"'{shown}" if formula else shown


def _show(shown: list[Reject]) -> None:
    if not shown:
        say("No record is rejected.")
        return
    rows = [
        [
            r.entity,
            r.id or "(no ID)",
            r.state,
            f"{r.attempts:,}",
            str(r.last_seen)[:19],
            _next(r),
            masked(r.reason)[:200],
        ]
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


def _more(standings: dict[str, Standing], names: Sequence[str], state: str | None) -> str:
    """Return the line below a truncated list."""
    all_, parked = (sum(getattr(standings[name], key) for name in names) for key in ("rejected", "parked"))
    total = {"": all_, RejectState.PARKED: parked, RejectState.REJECTED: all_ - parked}[state or ""]
    return f"The first {_SHOWN:,} of {count(total, 'rejected record')}; `--format csv` or `--format json` gives all of them."


def _next(reject: Reject) -> str:
    if reject.state is RejectState.PARKED:
        return "when it changes, or `retry`"
    return str(reject.next_try)[:19] if reject.next_try else "next run"
