"""`prune`: delete old ledger rows that are no longer needed."""

from __future__ import annotations

import re
from pathlib import Path

import click

from engine import app
from engine.cli import common
from engine.cli.say import say, say_json
from engine.sync.ledger import prune as pruning
from engine.sync.ledger.prune import Cut

EPILOG = """\b
Examples:
  syncledger prune pipelines/sync.yaml --keep 400d --dry-run    count only
  syncledger prune pipelines/sync.yaml --keep 400d
  syncledger prune pipelines/sync.yaml --keep 90d --format json
"""
_NAMES = {
    "calls": "calls and acts in the log table",
    "batches": "settled and failed batches",
    "verdicts": "verdicts of the history",
    "runs": "runs",
    "contents": "hashes of contents that nothing refers to",
}


def _days(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,4}d", text):
        raise click.BadParameter(f"{text!r} is not a number of days such as 400d (1d to 36500d)")
    days = int(text[:-1])
    if days > 36500:
        raise click.BadParameter(f"{text!r} is more than 36500d")
    return days


@click.command(epilog=EPILOG)
@common.spec_argument
@click.option("--keep", "days", callback=_days, required=True, metavar="DAYS", help="What is younger stays, e.g. 400d.")
@click.option("--dry-run", is_flag=True, help="Count what would be deleted; delete nothing.")
@common.format_option
def prune(spec: Path, days: int, dry_run: bool, format_: str) -> int:
    """Delete what is older than --keep from the ledger of SPEC, in small transactions; a run may go on meanwhile.

    Goes: rows that the engine wrote to the log table under this application's name, settled and failed batches, verdicts, runs.
    Stays: what was delivered, what is rejected now, open batches and their calls. No record is sent again because of it.
    """
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    pipeline = loaded.pipeline
    entities = [entity.name for entity in pipeline.entities]
    with app.connections(pipeline) as opened:
        history = app.open_history(opened, loaded.secrets)
        if history is None or not history.in_use():
            when, rows = None, dict.fromkeys(pruning.KINDS, 0)
        elif dry_run:
            when = pruning.cut(history.store, days)
            rows = pruning.count(history.store, entities, when)
        else:
            acts = app.open_acts(opened, loaded.secrets)
            when = pruning.cut(acts.store, days)
            rows = pruning.remove(acts.store, entities, when)
            acts.act("Prune", pipeline.name, {"Before": when.before.isoformat(" "), "KeptDays": days, "Rows": rows})
    if format_ == "json":
        moments = {
            "before": str(when.before) if when else None,
            "calls_before": str(when.calls_before) if when else None,
        }
        say_json({"pipeline": pipeline.name, "keep_days": days, "dry_run": dry_run, **moments, "rows": rows})
    else:
        _show(pipeline.name, when, rows, dry_run=dry_run)
    return 0


def _show(pipeline: str, when: Cut | None, rows: dict[str, int], *, dry_run: bool) -> None:
    if when is None:
        say(f"The ledger of {pipeline} is not there yet, or no run has used it: nothing to delete.")
        return
    verb = "Would delete" if dry_run else "Deleted"
    say(f"{verb} from the ledger of {pipeline} what is older than {str(when.before)[:19]} UTC:")
    common.print_table([("", "left"), ("Rows", "right")], [[_NAMES[kind], f"{rows[kind]:,}"] for kind in rows])
    if when.held_back:
        say(
            f"Calls since {str(when.calls_before)[:19]} UTC stay: a batch of that time is still open (`status` lists it)."
        )
