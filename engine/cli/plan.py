"""`plan`: what a run would send."""

from __future__ import annotations

from pathlib import Path

import click

from engine import compose
from engine.cli import common
from engine.cli.say import say, say_json
from engine.context import RunContext
from engine.endpoint.session import Caller
from engine.observe.printable import printable_json
from engine.plan import EntityPlan, plan_entity

EPILOG = """\b
Examples:
  python -m engine plan pipelines/sync.yaml
  python -m engine plan pipelines/sync.yaml --entity Users --preview 1
"""


@click.command(epilog=EPILOG)
@common.spec_argument
@click.option("--entity", "entities", multiple=True, metavar="NAME", help="Only this entity; may be repeated.")
@click.option(
    "--preview",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Show the first N requests of each entity, exactly, secrets masked.",
)
@common.format_option
def plan(spec: Path, entities: tuple[str, ...], preview: int, format_: str) -> int:
    """Show what a run of SPEC would send. Reads the sources and the ledger; sends and writes nothing."""
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    pipeline = loaded.pipeline
    assert pipeline is not None  # noqa: S101 - load_spec leaves otherwise
    caller = Caller(pipeline.api)
    try:
        with compose.connections(pipeline) as opened:
            history = compose.open_history(opened, loaded.secrets)
            run = RunContext.start()
            run.last_success = history.last_success() if history else None
            plans = []
            for entity in common.chosen(pipeline, entities, format_):
                made = plan_entity(
                    entity,
                    opened.source,
                    history,
                    compose.visible(pipeline, entity),
                    run,
                    caller,
                    preview,
                )
                made.park = history.parked(caller.url(entity.endpoint)) if history else None
                plans.append(made)
    finally:
        caller.close()
    if format_ == "json":
        say_json({"pipeline": pipeline.name, "entities": [made.as_json() for made in plans]})
    else:
        _show(plans)
    return 4 if any(made.database_failed for made in plans) else 1 if any(made.error for made in plans) else 0


def _show(plans: list[EntityPlan]) -> None:
    documents = [made.as_json() for made in plans]
    titles = [title for title, key in _COLUMNS.items() if title in _ALWAYS or any(d[key] for d in documents)]
    rows = [
        [str(d["name"]), *[f"{d[_COLUMNS[title]]:,}" for title in titles], str(d["exclude"] or "-")] for d in documents
    ]
    columns = [("Entity", "left"), *[(title, "right") for title in titles], ("Left out by", "left")]
    common.print_table(columns, rows)
    for made in plans:
        if made.error:
            say(f"{made.name}: {made.error}")
        if made.since is not None:
            say(f"{made.name}: only what changed since {made.since} is read (`changed_since`)")
        if made.park:
            say(f"{made.name}: {made.park}; a run sends nothing there before")
        for reason, count in made.reasons.items():
            say(f"{made.name}: {count:,} to reject: {reason}")
        for request in made.requests:
            say()
            say(f"{request.method} {request.url}")
            for name, value in request.headers.items():
                say(f"{name}: {value}")
            say()
            click.echo(printable_json(request.body.decode()))


_COLUMNS = {
    "In source": "in_source", "Sent before": "tracked", "Dropped": "dropped", "In doubt": "in_doubt", "Resting": "resting",
    "Due": "due",
    "Batches": "batches", "To reject": "rejected", "No ID": "without_id", "ID twice": "repeated_ids",
}  # fmt: skip
_ALWAYS = {"In source", "Sent before", "Due", "Batches"}
