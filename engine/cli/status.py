"""`status`: the last runs, and the state of the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine import app
from engine.cli import common
from engine.cli.say import say, say_json
from engine.errors import LedgerError
from engine.http.session import Caller
from engine.observe.secrets import Secrets
from engine.observe.words import state
from engine.runs.lease import Holder
from engine.sync.ledger.history import Run, Standing
from engine.sync.ledger.journal import OpenBatch
from engine.sync.ledger.parks import Park
from engine.sync.ledger.states import RunStatus

EPILOG = """\b
Examples:
  syncledger status pipelines/sync.yaml
  syncledger status pipelines/sync.yaml --runs 20 --format json
"""

_RUN_STATES = {RunStatus.KILLED: "killed (process gone)"}


@click.command(epilog=EPILOG)
@common.spec_argument
@click.option("--runs", "limit", type=click.IntRange(min=1, max=1000), default=5, help="How many runs to show.")
@common.format_option
def status(spec: Path, limit: int, format_: str) -> int:
    """Show the last runs of SPEC and, per entity, what is delivered and what was refused.

    Changes nothing; the look itself is an audit row of the log table."""
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    pipeline = loaded.pipeline
    with app.connections(pipeline) as opened:
        ledger = app.open_history(opened, loaded.secrets)
        runs = ledger.runs(limit) if ledger else []
        standings = ledger.standings(entity.name for entity in pipeline.entities) if ledger else {}
        left = ledger.open_batches() if ledger else []
        holder = ledger.holder() if ledger else None
        caller = Caller(pipeline.api)
        urls = dict.fromkeys(caller.url(entity.endpoint) for entity in pipeline.entities)
        watermarks = ledger.watermarks() if ledger else {}
        parks = [park for url in urls if ledger and (park := ledger.parked(url))]
        _audit(opened, loaded.secrets)
    # Entities of the spec first, in its order; then others that the ledger still holds.
    names = [entity.name for entity in pipeline.entities]
    ordered = {name: standings.get(name, Standing()) for name in [*names, *sorted(set(standings) - set(names))]}
    if format_ == "json":
        say_json(
            {
                "pipeline": pipeline.name,
                "runs": [_run_json(run) for run in runs],
                "lease": holder.as_json() if holder else None,
                "parked_endpoints": [park.as_json() for park in parks],
                "open_batches": [_open_json(batch) for batch in left],
                "entities": [_standing_json(*item, watermarks.get(item[0])) for item in ordered.items()],
            }
        )
    else:
        _show(pipeline.name, runs, holder)
        _show_entities(ordered)
        _show_watermarks(watermarks)
        _show_open(left, parks)
    return 0


def _audit(opened: app.Connections, secrets: Secrets) -> None:
    """Record who looked, and when. With read-only access to the ledger the status is shown all the same."""
    try:
        app.audit(opened, secrets, "Status")
    except LedgerError as failure:
        say(f"note: this look has no audit row: {failure}", err=True)


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "started": str(run.started),
        "ended": str(run.ended) if run.ended else None,
        "status": run.status,
        "summary": run.summary,
    }


def _standing_json(name: str, standing: Standing, watermark: tuple[str | None, Any] | None) -> dict[str, Any]:
    moments = {key: getattr(standing, key) for key in ("last_tracked", "last_rejected", "next_try")}
    return {
        "name": name, "tracked": standing.tracked, "rejected": standing.rejected, "parked": standing.parked,
        **{key: str(moment) if moment else None for key, moment in moments.items()},
        "watermark": watermark[0] if watermark else None,
        "full_check": str(watermark[1]) if watermark else None,
    }  # fmt: skip


def _open_json(batch: OpenBatch) -> dict[str, Any]:
    return {
        "batch_id": batch.id, "run_id": batch.run, "entity": batch.entity, "state": batch.state, "records": batch.count,
        "created": str(batch.created), "idempotency_key": batch.key, "reason": batch.reason,
    }  # fmt: skip


def _show(pipeline: str, runs: list[Run], holder: Holder | None) -> None:
    if holder:
        say(f"Running now: {holder}.")
    if not runs:
        say(f"{pipeline} has not run yet.")
    else:
        rows = [
            [
                _time(run.started),
                _time(run.ended),
                _RUN_STATES.get(run.status, run.status),
                *_totals(run.summary),
                run.id,
            ]
            for run in runs
        ]
        columns = [
            ("Started (UTC)", "left"),
            ("Ended", "left"),
            ("Status", "left"),
            ("Due", "right"),
            ("Delivered", "right"),
            ("Run", "left"),
        ]
        common.print_table(columns, rows)
    say()


def _show_entities(standings: dict[str, Standing]) -> None:
    rows = [
        [name, f"{s.tracked:,}", _time(s.last_tracked), f"{s.rejected:,}", f"{s.parked:,}", _time(s.last_rejected), _time(s.next_try)]
        for name, s in standings.items()
    ]  # fmt: skip
    columns = [
        ("Entity", "left"),
        ("Delivered", "right"),
        ("Last delivery (UTC)", "left"),
        ("Rejected", "right"),
        ("Parked", "right"),
        ("Last rejection (UTC)", "left"),
        ("Next try", "left"),
    ]
    common.print_table(columns, rows)


def _show_watermarks(watermarks: dict[str, tuple[str | None, Any]]) -> None:
    for name, (value, full) in sorted(watermarks.items()):
        if value is not None:
            say(f"{name}: read and delivered up to {value}; everything was read last on {_time(full)} (UTC)")


def _show_open(left: list[OpenBatch], parks: list[Park]) -> None:
    if parks:
        say()
        say("Endpoints that are left alone (`retry SPEC ENTITY` calls one again):")
        rows = [[park.endpoint, _time(park.until), park.reason] for park in parks]
        common.print_table([("Endpoint", "left"), ("Until (UTC)", "left"), ("Reason", "left")], rows)
    if left:
        say()
        say("Batches whose fate is open (the next run settles those in doubt; `resolve` settles any):")
        rows = [[b.entity, state(b.state), f"{b.count:,}", _time(b.created), b.id, b.reason or ""] for b in left]
        columns = [
            ("Entity", "left"),
            ("State", "left"),
            ("Records", "right"),
            ("Sent (UTC)", "left"),
            ("Batch", "left"),
            ("Reason", "left"),
        ]
        common.print_table(columns, rows)


def _totals(summary: dict[str, Any] | None) -> list[str]:
    if not summary:
        return ["", ""]
    return [f"{sum(entity[key] for entity in summary['entities']):,}" for key in ("due", "accepted")]


def _time(moment: Any) -> str:
    return str(moment)[:19] if moment else "-"
