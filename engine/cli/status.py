"""`status`: last runs, and what stands in the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine import app
from engine.cli import common
from engine.ledger.journal import OpenBatch
from engine.ledger.lease import Holder
from engine.ledger.ledger import Run, Standing

EPILOG = """\b
Examples:
  python -m engine status pipelines/sync.yaml
  python -m engine status pipelines/sync.yaml --runs 20 --format json
"""


@click.command(epilog=EPILOG)
@common.spec_argument
@click.option("--runs", "limit", type=click.IntRange(min=1, max=1000), default=5, help="How many runs to show.")
@common.format_option
def status(spec: Path, limit: int, format_: str) -> int:
    """Show the last runs of SPEC and, per entity, what is delivered and what was rejected. Writes nothing."""
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    pipeline = loaded.pipeline
    assert pipeline is not None  # noqa: S101 - load_spec leaves otherwise
    with app.connections(pipeline) as opened:
        ledger = app.read_only_ledger(opened, loaded.secrets)
        runs = ledger.runs(limit) if ledger else []
        standings = ledger.standings() if ledger else {}
        left = ledger.open_batches() if ledger else []
        holder = ledger.holder() if ledger else None
    # Entities of the spec first, in its order; then what the ledger still holds of others.
    names = [entity.name for entity in pipeline.entities]
    ordered = {name: standings.get(name, Standing()) for name in [*names, *sorted(set(standings) - set(names))]}
    if format_ == "json":
        common.print_json(
            {
                "pipeline": pipeline.name,
                "runs": [_run_json(run) for run in runs],
                "lease": holder.as_json() if holder else None,
                "open_batches": [_open_json(batch) for batch in left],
                "entities": [_standing_json(*item) for item in ordered.items()],
            }
        )
    else:
        _show(pipeline.name, runs, ordered, left, holder)
    return 0


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "started": str(run.started),
        "ended": str(run.ended) if run.ended else None,
        "status": run.status,
        "summary": run.summary,
    }


def _standing_json(name: str, standing: Standing) -> dict[str, Any]:
    return {
        "name": name, "tracked": standing.tracked, "last_tracked": str(standing.last_tracked) if standing.last_tracked else None,
        "rejected": standing.rejected, "last_rejected": str(standing.last_rejected) if standing.last_rejected else None,
    }  # fmt: skip


def _open_json(batch: OpenBatch) -> dict[str, Any]:
    return {
        "batch_id": batch.id, "run_id": batch.run, "entity": batch.entity, "state": batch.state, "records": batch.count,
        "created": str(batch.created), "idempotency_key": batch.key, "reason": batch.reason,
    }  # fmt: skip


def _show(
    pipeline: str, runs: list[Run], standings: dict[str, Standing], left: list[OpenBatch], holder: Holder | None
) -> None:
    console = common.console()
    if holder:
        console.print(f"Running now: {holder}.", markup=False, soft_wrap=True)
    if not runs:
        console.print(f"{pipeline} has not run yet.", markup=False)
    else:
        rows = [[_time(run.started), _time(run.ended), run.status, *_totals(run.summary), run.id] for run in runs]
        columns = [
            ("Started (UTC)", "left"),
            ("Ended", "left"),
            ("Status", "left"),
            ("Due", "right"),
            ("Delivered", "right"),
            ("Run", "left"),
        ]
        common.print_table(columns, rows)
    click.echo()
    rows = [
        [name, f"{s.tracked:,}", _time(s.last_tracked), f"{s.rejected:,}", _time(s.last_rejected)]
        for name, s in standings.items()
    ]
    columns = [
        ("Entity", "left"),
        ("Delivered", "right"),
        ("Last delivery (UTC)", "left"),
        ("Rejected", "right"),
        ("Last rejection (UTC)", "left"),
    ]
    common.print_table(columns, rows)
    if left:
        click.echo("\nBatches whose fate is open (the next run settles those in doubt; `resolve` settles any):")
        rows = [[b.entity, b.state, f"{b.count:,}", _time(b.created), b.id, b.reason or ""] for b in left]
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
