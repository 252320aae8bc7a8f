"""`plan`: what a run would send."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from engine import app
from engine.cli import common
from engine.cli.kind import is_job, job_options, names_of
from engine.cli.preview import request_json, show_request, show_statements, statements_json
from engine.cli.say import say, say_json
from engine.context import RunContext
from engine.errors import Exit
from engine.http.session import Caller
from engine.observe.words import count
from engine.sync.plan import EntityPlan, plan_entity
from engine.sync.preflight import MANY
from engine.sync.preflight import save as save_plan

EPILOG = """\b
Examples:
  syncledger plan pipelines/sync.yaml
  syncledger plan pipelines/sync.yaml --entity Users --preview 3      three records to read
  syncledger plan pipelines/sync.yaml --entity Users --preview 1 --full
  syncledger plan pipelines/sync.yaml --entity Users --sql
  syncledger plan jobs/close.yaml --set year=2024 --preview 3
"""


@click.command(epilog=EPILOG)
@common.spec_argument
@click.option("--entity", "entities", multiple=True, metavar="NAME", help="Only this entity; may be repeated.")
@click.option(
    "--preview",
    type=click.IntRange(min=0),
    metavar="N",
    help="Show N records of each entity's first request, its headers (secrets masked) and its size; of a job the statements of "
    "the first N items (default: 1).",
)
@click.option("--full", is_flag=True, help="With --preview: the exact bytes of N whole requests; alone of the first.")
@click.option("--sql", is_flag=True, help="Show the statements that read each source, with their parameters.")
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Write the counts for `run --plan FILE`.")
@job_options
@common.format_option
def plan(
    spec: Path,
    entities: tuple[str, ...],
    preview: int | None,
    full: bool,
    sql: bool,
    save: Path | None,
    settings: tuple[str, ...],
    parameters: Path | None,
    steps: str | None,
    items: tuple[str, ...],
    format_: str,
) -> int:
    """Show what a run of SPEC would send, or do where SPEC is a job. Reads databases; sends and writes nothing.

    Exit code 1 when an entity cannot be read as its spec says, or holds records that a run would reject; for a job when
    locked items would keep it from beginning, or a step would fail."""
    common.log_setup("text", quiet=True)
    if is_job(spec):
        from engine.cli.job_plan import plan_job  # noqa: PLC0415 - only for a job
        from engine.runtime.job_runner import Choice  # noqa: PLC0415

        return plan_job(spec, settings, parameters, Choice(names_of(steps), items), preview, format_)
    loaded = common.load_spec(spec, format_)
    pipeline = loaded.pipeline
    caller = Caller(pipeline.api)
    preview = (preview or 0) or int(full)
    try:
        with app.connections(pipeline) as opened:
            history = app.open_history(opened, loaded.secrets)
            run = replace(RunContext.start(), last_success=history.last_success() if history else None)
            plans = []
            for entity in common.chosen(pipeline, entities, format_):
                made = plan_entity(
                    entity,
                    opened.source,
                    history,
                    app.visible(pipeline, entity),
                    run,
                    caller,
                    preview if full else min(preview, 1),
                    statements=sql,
                )
                made.park = history.parked(caller.url(entity.endpoint)) if history else None
                plans.append(made)
            new = history is None or not history.knows([made.name for made in plans])
    finally:
        caller.close()
    if save:
        save_plan(save, pipeline.name, plans)
    if format_ == "json":
        documents = [_json(made, preview, full=full) for made in plans]
        say_json({"pipeline": pipeline.name, "new_ledger": new, "entities": documents})
    else:
        _show(plans)
        if new:
            say(
                f"The ledger knows no delivered record of these entities: every record counts as new "
                f"({sum(made.due for made in plans):,} due). A run with more than {MANY:,} of one entity asks for --first-run."
            )
        _show_details(plans, preview, full=full)
    return _exit_code(plans)


def _exit_code(plans: list[EntityPlan]) -> int:
    if any(made.database_failed for made in plans):
        return Exit.DATABASE
    return Exit.INCOMPLETE if any(made.error or made.counts.rejected for made in plans) else Exit.OK


def _json(made: EntityPlan, preview: int, *, full: bool) -> dict[str, object]:
    document = made.as_json()
    document["requests"] = [request_json(request, preview, full=full) for request in made.requests]
    if made.statements:
        document["statements"] = statements_json(made)
    return document


def _show_details(plans: list[EntityPlan], preview: int, *, full: bool) -> None:
    for made in plans:
        show_statements(made)
        for request in made.requests:
            show_request(request, preview, full=full)


def _show(plans: list[EntityPlan]) -> None:
    documents = [made.as_json() for made in plans]
    titles = [title for title, key in _COLUMNS.items() if title in _ALWAYS or any(d[key] for d in documents)]
    rows = [
        [str(d["name"]), *[f"{d[_COLUMNS[title]]:,}" for title in titles], str(d["exclude"] or "-")] for d in documents
    ]
    columns = [("Entity", "left"), *[(title, "right") for title in titles], ("Left out by", "left")]
    common.print_table(columns, rows)
    said: set[str] = set()
    for made in plans:
        if made.error and made.error not in said:
            said.add(made.error)
            say(f"{made.name}: {made.error}")
        if made.since is not None:
            say(f"{made.name}: only what changed since {made.since} is read (`changed_since`)")
        if made.sorts:
            say(f"{made.name}: {made.sorts}")
        if made.park:
            say(f"{made.name}: {made.park}; a run sends nothing there before")
        for reason, number in made.reasons.items():
            say(f"{made.name}: {count(number, 'record')} to reject: {reason}")


_COLUMNS = {
    "In source": "in_source", "Sent before": "tracked", "Dropped": "dropped", "In doubt": "in_doubt", "Resting": "resting",
    "Due": "due",
    "Batches": "batches", "To reject": "rejected", "No ID": "without_id", "ID twice": "repeated_ids", "Twin IDs": "twin_ids",
}  # fmt: skip
_ALWAYS = {"In source", "Sent before", "Due", "Batches"}
