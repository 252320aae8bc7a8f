"""`runs`, `show` and `cancel`: what runs of jobs did, and how to end one."""

from __future__ import annotations

import time
from typing import Any

import click

from engine.cli import common
from engine.cli.job import here, known_run, shown
from engine.cli.say import say, say_json
from engine.errors import Exit, RunRefused
from engine.jobs import messages, report
from engine.jobs.report import RunReport
from engine.jobs.states import RunState
from engine.jobs.store import JobStore, StoredRun
from engine.observe.words import state
from engine.runs import whoami
from engine.runtime import job_runner

_LOOK_SECONDS = 0.2
RUNS_EPILOG = """\b
Examples:
  syncledger runs
  syncledger runs --job consolidation --format json
"""
SHOW_EPILOG = """\b
Examples:
  syncledger show 81
  syncledger show 81 --locale fr
  syncledger show 81 --format json
"""
CANCEL_EPILOG = """\b
Examples:
  syncledger cancel 81 --why "wrong period"
  syncledger cancel 81 --wait    come back when nothing of it runs any more
"""


@click.command(epilog=RUNS_EPILOG)
@click.option("--job", metavar="NAME", help="Only runs of this job.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@common.format_option
def runs(job: str | None, limit: int, format_: str) -> int:
    """List the latest runs of jobs of this project, the newest first."""
    common.log_setup("text", quiet=True)
    with job_runner.reading(here()) as kept:
        found = kept.runs(limit, job) if kept else []
        told = [report.of(run, []) for run in found]
    if format_ == "json":
        say_json({"runs": [_json(one) for one in told]})
    elif not told:
        say("No run of a job yet.")
    else:
        columns = [
            ("Run", "right"),
            ("Job", "left"),
            ("State", "left"),
            ("Started (UTC)", "left"),
            ("By", "left"),
            ("Note", "left"),
        ]
        common.print_table(columns, [_row(one) for one in told])
    return Exit.OK


def _json(told: RunReport) -> dict[str, Any]:
    run = told.run
    return {
        "run_id": run.id, "number": run.number, "job": run.job, "status": told.state, "started": str(run.started),
        "ended": str(run.ended) if run.ended else None, "user": run.user, "note": run.note,
    }  # fmt: skip


def _row(told: RunReport) -> list[str]:
    run = told.run
    return [
        f"#{run.number}",
        run.job,
        state(told.state),
        str(run.started)[:19],
        f"{run.user} on {run.host}",
        run.note or "",
    ]


@click.command(epilog=SHOW_EPILOG)
@click.argument("run")
@click.option(
    "--locale",
    default=messages.ENGLISH,
    metavar="LANGUAGE",
    help="Messages in this language: en, fr, id, or one of your own.",
)
@common.format_option
def show(run: str, locale: str, format_: str) -> int:
    """Show RUN (its number or id): its messages, its items, what failed and why. The exit code is that of the run."""
    common.log_setup("text", quiet=True)
    around = here()
    with job_runner.reading(around) as kept:
        found = known_run(kept, run)
        told = report.of(found, kept.steps(found) if kept else ())
        said = kept.messages(found) if kept else []
    for message in said if format_ == "text" else ():
        say(f"{str(message.time)[:19]}  {messages.text(message.key, message.parts, locale, around.root)}")
    return shown(told, format_)


@click.command(epilog=CANCEL_EPILOG)
@click.argument("run")
@click.option("--why", metavar="TEXT", help="The reason, for the history.")
@click.option("--wait", is_flag=True, help="Come back when nothing of it runs any more.")
@common.format_option
def cancel(run: str, why: str | None, wait: bool, format_: str) -> int:
    """End RUN (its number or id): what it does on a database is stopped there, and never taken up again."""
    common.log_setup("text", quiet=True)
    with job_runner.reading(here()) as known:
        known_run(known, run)
    with job_runner.store(here(), create=True) as kept:
        found = known_run(kept, run)
        if found.cancelled is None:
            if found.state is not RunState.RUNNING:
                raise RunRefused(f"run #{found.number} has {state(found.state)} already; there is nothing to cancel")
            kept.cancel(found, why[:400] if why else None)
            kept.act("cancel", found.id, why[:400] if why else None)
            kept.say(found, "run.cancelled", level="warning", user=whoami.user(), why=why or "")
        found = _over(kept, run) if wait else known_run(kept, run)
        if found.state is RunState.CANCELLING and found.process_gone:
            # Its process is gone, and with it its sessions: nobody is left who could say that it has ended.
            kept.move(found, RunState.CANCELLING, RunState.LOST, "its process was gone before it could stop")
            found = known_run(kept, run)
        told = report.of(found, kept.steps(found))
    if format_ == "json":
        say_json(told.as_json())
    else:
        say(f"{found.job} #{found.number} is {state(told.state)}.")
    return Exit.OK


def _over(kept: JobStore, run: str) -> StoredRun:
    while True:
        found = known_run(kept, run)
        if found.state is not RunState.CANCELLING or found.process_gone:
            return found
        time.sleep(_LOOK_SECONDS)
