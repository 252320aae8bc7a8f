"""`plan`: what a run would send."""

from __future__ import annotations

from pathlib import Path

import click

from engine import compose
from engine.cli import common
from engine.context import RunContext
from engine.endpoint.session import Caller
from engine.observe.masks import masked
from engine.plan import EntityPlan, plan_entity
from engine.preflight import MANY
from engine.preflight import save as save_plan

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
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Write the counts for `run --plan FILE`.")
@common.format_option
def plan(spec: Path, entities: tuple[str, ...], preview: int, save: Path | None, format_: str) -> int:
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
            new = history is None or not history.knows([made.name for made in plans])
    finally:
        caller.close()
    if save:
        save_plan(save, pipeline.name, plans)
    if format_ == "json":
        common.print_json(
            {"pipeline": pipeline.name, "new_ledger": new, "entities": [_masked_json(made) for made in plans]}
        )
    else:
        _show(plans)
        if new:
            click.echo(
                f"The ledger knows no delivered record of these entities: every record counts as new "
                f"({sum(made.due for made in plans):,} due). A run with more than {MANY:,} of one entity asks for --first-run."
            )
    return 4 if any(made.database_failed for made in plans) else 1 if any(made.error for made in plans) else 0


def _masked_json(made: EntityPlan) -> dict[str, object]:
    document = made.as_json()
    for request in document["requests"]:
        request["url"] = masked(request["url"])
        request["headers"] = {name: masked(value) for name, value in request["headers"].items()}
    document["error"] = masked(made.error) if made.error else None
    return document


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
            click.echo(f"{made.name}: {masked(made.error)}")
        if made.since is not None:
            click.echo(f"{made.name}: only what changed since {made.since} is read (`changed_since`)")
        if made.park:
            click.echo(f"{made.name}: {made.park}; a run sends nothing there before")
        for reason, count in made.reasons.items():
            click.echo(f"{made.name}: {count:,} to reject: {masked(reason)}")
        for request in made.requests:
            click.echo(f"\n{request.method} {masked(request.url)}")
            for name, value in request.headers.items():
                click.echo(f"{name}: {masked(value)}")
            click.echo(f"\n{request.body.decode()}")


_COLUMNS = {
    "In source": "in_source", "Sent before": "tracked", "Dropped": "dropped", "In doubt": "in_doubt", "Resting": "resting",
    "Due": "due",
    "Batches": "batches", "To reject": "rejected", "No ID": "without_id", "ID twice": "repeated_ids", "Twin IDs": "twin_ids",
}  # fmt: skip
_ALWAYS = {"In source", "Sent before", "Due", "Batches"}
