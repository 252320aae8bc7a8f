"""`plan`: what a run would send."""

from __future__ import annotations

from pathlib import Path

import click

from engine import app
from engine.cli import common
from engine.cli.masks import masked
from engine.context import RunContext
from engine.endpoint.session import Caller
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
        with app.connections(pipeline) as opened:
            lookup, waiting = app.read_only_lookups(opened, loaded.secrets)
            run = RunContext.start()
            plans = [
                plan_entity(entity, opened.source, lookup, waiting, run, caller, preview)
                for entity in app.chosen(pipeline, entities)
            ]
    finally:
        caller.close()
    if format_ == "json":
        common.print_json({"pipeline": pipeline.name, "entities": [_masked_json(made) for made in plans]})
    else:
        _show(plans)
    return 4 if any(made.database_failed for made in plans) else 1 if any(made.error for made in plans) else 0


def _masked_json(made: EntityPlan) -> dict[str, object]:
    document = made.as_json()
    for request in document["requests"]:
        request["url"] = masked(request["url"])
        request["headers"] = {name: masked(value) for name, value in request["headers"].items()}
    document["error"] = masked(made.error) if made.error else None
    return document


def _show(plans: list[EntityPlan]) -> None:
    titles = ["In source", "Tracked", "In doubt", "Due", "Batches", "To reject", "No ID", "ID twice"]
    rows = []
    for made in plans:
        document = made.as_json()
        numbers = ("in_source", "tracked", "in_doubt", "due", "batches", "rejected", "without_id", "repeated_ids")
        rows.append([made.name, *[f"{document[name]:,}" for name in numbers]])
    common.print_table([("Entity", "left"), *[(title, "right") for title in titles]], rows)
    for made in plans:
        if made.error:
            click.echo(f"{made.name}: {masked(made.error)}")
        for reason, count in made.reasons.items():
            click.echo(f"{made.name}: {count:,} to reject: {masked(reason)}")
        for request in made.requests:
            click.echo(f"\n{request.method} {masked(request.url)}")
            for name, value in request.headers.items():
                click.echo(f"{name}: {masked(value)}")
            click.echo(f"\n{request.body.decode()}")
