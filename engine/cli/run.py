"""`run`: the main job."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine import app
from engine.app import RunReport
from engine.cli import common
from engine.cli.say import say, say_json
from engine.errors import SpecError
from engine.observe.progress import Lines
from engine.spread import Crew
from engine.stages.flow import Counts

if TYPE_CHECKING:
    from engine.observe.bars import Live

EPILOG = """\b
Examples:
  python -m engine run pipelines/sync.yaml
  python -m engine run pipelines/sync.yaml --entity Users --limit 10
  python -m engine run pipelines/sync.yaml --format json --quiet
  python -m engine run pipelines/sync.yaml --workers 4
"""


@click.command(epilog=EPILOG)
@common.spec_argument
@click.option("--entity", "entities", multiple=True, metavar="NAME", help="Only this entity; may be repeated.")
@click.option("--limit", type=click.IntRange(min=1), help="Due records per entity at most.")
@click.option(
    "--workers", type=click.IntRange(min=1, max=1000), metavar="N", help="Share each entity among N processes."
)
@click.option(
    "--cluster", metavar="ADDRESS", help="Share each entity among the workers of a Dask cluster: tcp://host:8786."
)
@common.format_option
@common.log_options
def run(
    spec: Path,
    entities: tuple[str, ...],
    limit: int | None,
    workers: int | None,
    cluster: str | None,
    format_: str,
    log_format: str,
    quiet: bool,
) -> int:
    """Send every record of SPEC that was not delivered before, entity by entity."""
    if limit and (workers or cluster):
        raise click.UsageError("--limit counts in one process; leave out --workers and --cluster")
    if workers and cluster:
        raise click.UsageError("give --workers or --cluster, not both")
    common.log_setup(log_format, quiet=quiet)
    loaded = common.load_spec(spec, format_)
    live = sys.stderr.isatty() and not quiet and log_format == "text"
    with (
        app.cancel_on_signals(lambda: os._exit(130)) as cancelled,
        _progress(live) as observer,
    ):
        try:
            with _crew(spec, workers, cluster) as crew:
                report = app.run_pipeline(loaded, observer, names=entities, limit=limit, cancelled=cancelled, crew=crew)
        except SpecError as failure:
            common.leave_with_problems(failure, format_)
        except Exception as bug:
            if format_ == "json" and loaded.pipeline:
                report = RunReport("", loaded.pipeline.name, "error", f"a bug: {type(bug).__name__}")
                say_json(report.as_json())
            raise
    if format_ == "json":
        say_json(report.as_json())
    else:
        show(report)
    return report.exit_code


def _progress(live: bool) -> Live | Lines:
    if not live:
        return Lines()
    from engine.observe.bars import Live  # noqa: PLC0415 - what draws bars is loaded where there is a terminal

    return Live(common.console(stderr=True))


@contextmanager
def _crew(spec: Path, workers: int | None, cluster: str | None) -> Iterator[Crew | None]:
    """Those who share the work; None where this process does it alone."""
    if not cluster and (workers or 1) == 1:
        yield None
        return
    # Imported only here: a run that nobody shares starts without them.
    from engine import crew as crews  # noqa: PLC0415

    with crews.cluster(spec, cluster) if cluster else crews.local(spec, workers or 1) as made:
        yield made


def show(report: RunReport) -> None:
    """The summary table and what to make of it."""
    if report.error:
        say(f"error: {report.error}", err=True)
    if not report.entities:
        return
    titles = [
        title for title in _COLUMNS if title not in _IF_ANY or any(_COLUMNS[title](e.counts) for e in report.entities)
    ]
    rows = [
        [entity.name, *[f"{_COLUMNS[title](entity.counts):,}" for title in titles], f"{entity.seconds:.1f} s"]
        for entity in report.entities
    ]
    common.print_table([("Entity", "left"), *[(title, "right") for title in titles], ("Time", "right")], rows)
    said: set[str] = set()
    for entity in report.entities:
        if entity.since is not None:
            say(f"{entity.name}: only what changed since {entity.since} was read (`changed_since`)")
        if entity.error and entity.error not in said:
            said.add(entity.error)
            say(f"{entity.name}: {entity.error}")
        for rejection in entity.samples:
            id_ = rejection.id or "(no ID)"
            say(f"{entity.name}: rejected {id_}: {rejection.reason}")
        more = entity.counts.rejected - len(entity.samples)
        if more > 0:
            say(f"{entity.name}: {more:,} more are rejected; `rejects` lists them")
    say(verdict(report))


_COLUMNS: dict[str, Callable[[Counts], int]] = {
    "In source": lambda counts: counts.read,
    "Sent before": lambda counts: counts.excluded,
    "Dropped": lambda counts: counts.dropped,
    "Waiting": lambda counts: counts.waiting,
    "Due": lambda counts: counts.due,
    "Delivered": lambda counts: counts.accepted,
    "Settled": lambda counts: counts.settled,
    "Rejected": lambda counts: counts.rejected,
    "Failed": lambda counts: counts.failed,
    "In doubt": lambda counts: counts.in_doubt,
    "Calls": lambda counts: counts.calls,
}
_IF_ANY = {"Dropped", "Waiting", "Settled", "Rejected", "Failed", "In doubt"}
"""Columns that are worth their width only when there is something in them."""


def verdict(report: RunReport) -> str:
    """One sentence on the whole run."""
    counts = [entity.counts for entity in report.entities]
    accepted, due, known = sum(c.accepted for c in counts), sum(c.due for c in counts), sum(c.excluded for c in counts)
    seconds = f"{report.seconds:.1f} s"
    if report.status == "cancelled":
        return (
            f"Cancelled after {seconds}: {accepted:,} records delivered and tracked; the next run goes on from there."
        )
    settled = sum(c.settled for c in counts)
    before = f"{settled:,} records of batches left open by earlier runs settled; " if settled else ""
    if report.status == "delivered":
        if not due:
            return f"Nothing new to send: {before}all {known:,} records are delivered ({seconds}). Run {report.run_id}."
        calls = sum(c.calls for c in counts)
        return f"{before}Delivered {accepted:,} records in {calls:,} calls, {seconds}. Run {report.run_id}."
    doubtful = sum(c.in_doubt for c in counts)
    waiting = sum(c.waiting for c in counts)
    unread = sum(entity.gravity in ("entity", "database") for entity in report.entities)
    parked = sum(entity.gravity == "parked" for entity in report.entities)
    missing = [
        f"{due - accepted - doubtful:,} not, which a later run offers again" if due > accepted + doubtful else "",
        f"{doubtful:,} in batches whose fate is open (`status` lists them)" if doubtful else "",
        f"{waiting:,} wait (refused before, in open batches, or for a parked endpoint)" if waiting else "",
        f"{parked} of {len(report.entities)} entities are held up by a parked endpoint" if parked else "",
        f"{unread} of {len(report.entities)} entities could not be run" if unread else "",
    ]
    rest = "; ".join(part for part in missing if part)
    return f"Not everything arrived: {before}{accepted:,} records delivered ({seconds}); {rest}. Run {report.run_id}."
