"""Commands that change the ledger by hand; each writes an audit row."""

from __future__ import annotations

from pathlib import Path

import click

from engine import app
from engine.cli import common
from engine.cli.say import safe, say, say_json
from engine.context import RunContext
from engine.errors import LeaseHeld
from engine.http.session import Caller
from engine.observe.words import count
from engine.sync.counts import Counts, Flow
from engine.sync.ledger.states import BatchState
from engine.sync.model import Rejection
from engine.sync.read import exclude, source

BASELINE_EPILOG = """\b
Examples:
  syncledger baseline pipelines/sync.yaml Users             asks first
  syncledger baseline pipelines/sync.yaml Users --yes
"""
FORGET_EPILOG = """\b
Examples:
  syncledger forget pipelines/sync.yaml Users 4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11
  syncledger forget pipelines/staff.yaml Assignments '["10001","d005"]'
"""
RETRY_EPILOG = """\b
Examples:
  syncledger retry pipelines/sync.yaml Users
  syncledger retry pipelines/sync.yaml Users 4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11
"""
RESOLVE_EPILOG = """\b
Examples:
  syncledger resolve pipelines/sync.yaml 1f0c9d5e-8c36-4d0a-9d3b-0b5f7f3f2a11 accepted
  syncledger resolve pipelines/sync.yaml 1f0c9d5e-8c36-4d0a-9d3b-0b5f7f3f2a11 drop
"""
UNLOCK_EPILOG = """\b
Examples:
  syncledger unlock pipelines/sync.yaml             asks first
  syncledger unlock pipelines/sync.yaml --yes
"""
_AT_ONCE = 10_000


@click.command(epilog=BASELINE_EPILOG)
@common.spec_argument
@click.argument("entity")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common.format_option
def baseline(spec: Path, entity: str, yes: bool, format_: str) -> int:
    """Track every record that ENTITY's source holds now, without sending any: for an API that has them already."""
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    chosen = common.chosen(loaded.pipeline, [entity], format_)[0]
    if not yes:
        click.confirm(
            safe(f"Track all records of {entity} as delivered? They will never be sent"), abort=True, err=True
        )
    run, counts = RunContext.start(), Counts()
    skipped: list[Rejection] = []
    with app.connections(loaded.pipeline) as opened:
        ledger = app.open_acts(opened, loaded.secrets)
        pages = source.pages(opened.source(chosen.connection), chosen, run)
        due = exclude.tracked(
            pages,
            chosen.id,
            ledger.history.lookup(chosen.name, changed=False),
            Flow(skipped.append, counts),
            page_size=chosen.page_size,
        )
        ids: list[str] = []
        for block in due.blocks()[1]:
            counts.offer(len(block.ids))
            ids += block.ids
            if len(ids) >= _AT_ONCE:
                ledger.baseline(chosen.name, ids)
                ids = []
        ledger.baseline(chosen.name, ids)
        ledger.act("Baseline", chosen.name, {"Records": counts.due, "Skipped": len(skipped)})
    if format_ == "json":
        say_json({"entity": entity, "tracked": counts.due, "tracked_before": counts.excluded, "skipped": len(skipped)})
    else:
        say(f"{entity}: {count(counts.due, 'record')} tracked without sending; {counts.excluded:,} tracked before.")
    return 0


@click.command(epilog=FORGET_EPILOG)
@common.spec_argument
@click.argument("entity")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@common.format_option
def forget(spec: Path, entity: str, ids: tuple[str, ...], format_: str) -> int:
    """Un-track records of ENTITY, so that the next run sends them again. Exit code 1 when one was not tracked."""
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    chosen = common.chosen(loaded.pipeline, [entity], format_)[0]
    wanted = common.canonical_ids(chosen, ids)
    with app.connections(loaded.pipeline) as opened:
        ledger = app.open_acts(opened, loaded.secrets)
        forgotten = ledger.forget(chosen.name, wanted)
    unknown = [id_ for id_ in wanted if id_ not in forgotten]
    if format_ == "json":
        say_json({"entity": entity, "forgotten": forgotten, "not_tracked": unknown})
    else:
        offered = "; the next run offers them again" if forgotten else ""
        say(f"{entity}: {count(len(forgotten), 'record')} forgotten{offered}.")
        for id_ in unknown:
            say(f"{entity}: {id_} was not tracked")
    return 1 if unknown else 0


@click.command(epilog=RETRY_EPILOG)
@common.spec_argument
@click.argument("entity")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@common.format_option
def retry(spec: Path, entity: str, ids: tuple[str, ...], format_: str) -> int:
    """Offer rejected records of ENTITY again with the next run: these, or all of them, parked or resting.

    Where the entity's endpoint is parked, it is called again too. Exit code 1 when a named record was not rejected.
    """
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    chosen = common.chosen(loaded.pipeline, [entity], format_)[0]
    wanted = common.canonical_ids(chosen, ids) if ids else None
    caller = Caller(loaded.pipeline.api)
    url = caller.url(chosen.endpoint)
    with app.connections(loaded.pipeline) as opened:
        offered, lifted = app.open_acts(opened, loaded.secrets).retry(chosen.name, wanted, url)
    unknown = [id_ for id_ in wanted or [] if id_ not in offered]
    if format_ == "json":
        say_json({"entity": entity, "offered": offered, "not_refused": unknown, "endpoint_was_parked": lifted})
    else:
        say(f"{entity}: the next run offers {count(len(offered), 'rejected record')} again.")
        if lifted:
            say(f"{entity}: its endpoint is not parked any more.")
        for id_ in unknown:
            say(f"{entity}: {id_} was not rejected")
    return 1 if unknown else 0


@click.command(epilog=RESOLVE_EPILOG)
@common.spec_argument
@click.argument("batch")
@click.argument("how", type=click.Choice(["accepted", "resend", "drop"]))
@common.format_option
def resolve(spec: Path, batch: str, how: str, format_: str) -> int:
    """Settle BATCH, which may have been processed though no answer came; `status` lists such batches.

    accepted: the partner has its records; they are tracked. resend: the next run sends the same bytes under the same
    key. drop: the partner does not have them; the next run offers them in new batches.
    """
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    with app.connections(loaded.pipeline) as opened:
        ledger = app.open_acts(opened, loaded.secrets)
        found = ledger.history.open_batches(batch)
        if not found:
            raise click.UsageError(safe(f"there is no open batch {batch}; `status` lists the open ones"))
        holder = ledger.history.holder()
        if found[0].state is BatchState.IN_FLIGHT and holder and holder.run == found[0].run:
            raise LeaseHeld(holder)
        changed = {entity.name for entity in loaded.pipeline.entities if entity.resend == "changed"}
        ledger.resolve(found[0], how, changed=found[0].entity in changed)
    if format_ == "json":
        say_json({"batch": batch, "entity": found[0].entity, "records": found[0].count, "resolved": how})
    else:
        say(f"{found[0].entity}: batch {batch} with {count(found[0].count, 'record')} resolved: {how}.")
    return 0


@click.command(epilog=UNLOCK_EPILOG)
@common.spec_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@common.format_option
def unlock(spec: Path, yes: bool, format_: str) -> int:
    """Break the lease of SPEC's pipeline. A run that still goes on can then neither send nor settle."""
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    with app.connections(loaded.pipeline) as opened:
        ledger = app.open_acts(opened, loaded.secrets)
        holder = ledger.history.holder()
        if holder and not yes:
            click.confirm(safe(f"Break the lease of {holder}?"), abort=True, err=True)
        had = ledger.unlock()
    if format_ == "json":
        say_json({"pipeline": loaded.pipeline.name, "broken": had.as_json() if had else None})
    else:
        say(f"The lease of {had} is broken." if had else "Nobody holds the lease.")
    return 0
