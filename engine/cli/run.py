"""`run`: send all due records."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli import common, several
from engine.cli.kind import is_job, job_options, names_of
from engine.cli.say import safe, say, say_json
from engine.errors import SpecError
from engine.observe.progress import Lines
from engine.observe.words import count
from engine.runtime import runner, signals
from engine.runtime.runner import Choice, RunReport
from engine.sync.counts import Counts
from engine.sync.ledger.states import RunStatus
from engine.sync.partition import Crew
from engine.sync.preflight import Allowed
from engine.sync.preflight import load as load_plan

if TYPE_CHECKING:
    from engine.observe.bars import Live

EPILOG = """\b
Examples:
  syncledger run pipelines/sync.yaml
  syncledger run pipelines/staff.yaml pipelines/sync.yaml  both, in this order
  syncledger run pipelines/sync.yaml --entity Users --limit 10
  syncledger run pipelines/sync.yaml --format json --quiet
  syncledger run pipelines/sync.yaml --workers 4
  syncledger run pipelines/sync.yaml --first-run           to a ledger that knows nothing yet
  syncledger run jobs/close.yaml --set period=202312 --note "third try"
  syncledger plan pipelines/sync.yaml --save plan.json && syncledger run pipelines/sync.yaml --plan plan.json
"""


@click.command(epilog=EPILOG)
@several.specs
@click.option("--entity", "entities", multiple=True, metavar="NAME", help="Only this entity; may be repeated.")
@click.option("--limit", type=click.IntRange(min=1), help="Due records per entity at most.")
@click.option(
    "--workers", type=click.IntRange(min=1, max=1000), metavar="N", help="Share each entity among N processes."
)
@click.option(
    "--cluster", metavar="ADDRESS", help="Share each entity among the workers of a Dask cluster: tcp://host:8786."
)
@click.option("--first-run", is_flag=True, help="Send everything although the ledger knows no delivered record.")
@click.option("--force", is_flag=True, help="Send more than the guards of the entities allow, this once.")
@click.option(
    "--plan", "plan", type=click.Path(path_type=Path), metavar="FILE", help="Only what `plan --save FILE` has shown."
)
@click.option("--strict", is_flag=True, help="Exit 1 also for records that were rejected by earlier runs.")
@job_options
@click.option("--note", metavar="TEXT", help="Jobs: a note for the history.")
@common.format_option
@common.log_options
def run(
    spec: Path,
    entities: tuple[str, ...],
    limit: int | None,
    workers: int | None,
    cluster: str | None,
    first_run: bool,
    force: bool,
    plan: Path | None,
    strict: bool,
    settings: tuple[str, ...],
    parameters: Path | None,
    steps: str | None,
    items: tuple[str, ...],
    note: str | None,
    format_: str,
    log_format: str,
    quiet: bool,
) -> int:
    """Send every record of SPEC that was not delivered before, entity by entity; or run SPEC where it is a job."""
    of_jobs = {"--set": settings, "--parameters": parameters, "--steps": steps, "--item": items, "--note": note}
    if is_job(spec):
        of_pipelines = {
            "--entity": entities,
            "--limit": limit,
            "--workers": workers,
            "--cluster": cluster,
            "--plan": plan,
        }
        _refuse(of_pipelines, "a job")
        from engine.cli.job import run_job  # noqa: PLC0415 - only for a job
        from engine.runtime.job_runner import Choice as JobChoice  # noqa: PLC0415

        wanted = JobChoice(names_of(steps), items, note)
        return run_job(spec, settings, parameters, wanted, format_, log_format, quiet=quiet)
    _refuse(of_jobs, "a pipeline")
    if limit and (workers or cluster):
        raise click.UsageError("--limit counts in one process; leave out --workers and --cluster")
    if workers and cluster:
        raise click.UsageError("give --workers or --cluster, not both")
    common.log_setup(log_format, quiet=quiet)
    loaded = common.load_spec(spec, format_)
    live = sys.stderr.isatty() and not quiet and log_format == "text"
    with (
        signals.cancel_on_signals(lambda: os._exit(130)) as cancelled,
        _progress(live) as observer,
    ):
        try:
            with _crew(spec, workers, cluster) as crew:
                name = loaded.pipeline.name if loaded.pipeline else ""
                allowed = Allowed(first_run, force, load_plan(plan, name) if plan else None, _ask)
                choice = Choice(entities, limit, crew, strict, allowed)
                report = runner.run_pipeline(loaded, observer, choice, cancelled)
        except SpecError as failure:
            common.leave_with_problems(failure, format_)
        except Exception as bug:
            if format_ == "json" and loaded.pipeline:
                report = RunReport("", loaded.pipeline.name, RunStatus.ERROR, f"a bug: {type(bug).__name__}")
                say_json(report.as_json())
            raise
    if format_ == "json":
        say_json(report.as_json())
    else:
        show(report)
    return report.exit_code


def _ask(question: str) -> bool:
    """Ask for confirmation on the terminal; without one the answer is no."""
    return sys.stdin.isatty() and sys.stderr.isatty() and click.confirm(safe(question), err=True)


def _progress(live: bool) -> Live | Lines:
    if not live:
        return Lines()
    from engine.observe.bars import Live  # noqa: PLC0415 - what draws bars is loaded where there is a terminal

    return Live(common.console(stderr=True))


def _refuse(options: Mapping[str, object], what: str) -> None:
    """Options of the other kind of document."""
    given = [name for name, value in options.items() if value]
    if given:
        raise click.UsageError(f"{given[0]} is not for {what}")


@contextmanager
def _crew(spec: Path, workers: int | None, cluster: str | None) -> Iterator[Crew | None]:
    """Yield the crew of workers; None when this process works alone."""
    if not cluster and (workers or 1) == 1:
        yield None
        return
    # Imported here: a run without workers starts faster.
    from engine.runtime import executors as crews  # noqa: PLC0415 - processes and clusters only where they are asked for

    with crews.cluster(spec, cluster) if cluster else crews.local(spec, workers or 1) as made:
        yield made


def show(report: RunReport) -> None:
    """Print the summary table, the remarks and the verdict."""
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
    for line in remarks(report):
        say(line)
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
"""Columns shown only if one of their values is not zero."""


def _read(report: RunReport) -> str:
    """Return how far a cancelled run came, if the rows of the sources were counted."""
    counted = [entity for entity in report.entities if entity.rows is not None]
    if not counted:
        return ""
    return f"{sum(entity.counts.read for entity in counted):,} of {sum(entity.rows or 0 for entity in counted):,} rows read; "


def remarks(report: RunReport) -> Iterator[str]:
    """Yield notes on earlier rejections and on records that were sent again."""
    counts = [entity.counts for entity in report.entities]
    resting, before = sum(c.resting for c in counts), sum(c.rejected_before for c in counts)
    if resting + before:
        yield f"{count(resting + before, 'record')} rejected by earlier runs and not sent (`rejects` lists them, `retry SPEC ENTITY` offers them again)."
    there, again = sum(c.already_there for c in counts), sum(c.refused_again for c in counts)
    if there:
        yield f"{count(there, 'record')} there already: an earlier sending, whose answer never came, had stored what the API now rejects."
    if again:
        yield f"{count(again, 'record')} rejected when sent again; the first sending may have stored what the API now rejects."


def verdict(report: RunReport) -> str:
    """Return one sentence on the whole run."""
    counts = [entity.counts for entity in report.entities]
    accepted, due, known = sum(c.accepted for c in counts), sum(c.due for c in counts), sum(c.excluded for c in counts)
    seconds = f"{report.seconds:.1f} s"
    if report.status is RunStatus.CANCELLED:
        return f"Cancelled after {seconds}: {_read(report)}{count(accepted, 'record')} delivered and tracked; the next run goes on from there."
    settled = sum(c.settled for c in counts)
    before = f"{count(settled, 'record')} of batches left open by earlier runs settled; " if settled else ""
    if report.status is RunStatus.DELIVERED:
        if not accepted and not settled:
            return f"Nothing new to send: {count(known, 'record')} delivered before ({seconds}). Run {report.run_id}."
        calls = sum(c.calls for c in counts)
        return (
            f"{before}Delivered {count(accepted, 'record')} in {count(calls, 'call')}, {seconds}. Run {report.run_id}."
        )
    doubtful = sum(c.in_doubt for c in counts)
    waiting = sum(c.waiting - c.resting for c in counts)
    rejected = sum(c.rejected for c in counts)
    unread = sum(entity.gravity in ("entity", "database") for entity in report.entities)
    parked = sum(entity.gravity == "parked" for entity in report.entities)
    missing = [
        f"{rejected:,} rejected (`rejects` lists them)" if rejected else "",
        f"{due - accepted - doubtful - rejected:,} failed, which a later run offers again"
        if due > accepted + doubtful + rejected
        else "",
        f"{doubtful:,} in doubt (`status` lists them)" if doubtful else "",
        f"{waiting:,} not sent (cancelled, in an open batch, or the endpoint is closed or parked)" if waiting else "",
        f"{parked} of {count(len(report.entities), 'entity')} held up by a parked endpoint" if parked else "",
        f"{unread} of {count(len(report.entities), 'entity')} could not be run" if unread else "",
    ]
    rest = "; ".join(part for part in missing if part)
    return f"Not everything arrived: {before}{count(accepted, 'record')} delivered ({seconds}); {rest}. Run {report.run_id}."
