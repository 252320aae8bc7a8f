"""`migrate`: bring the ledger's tables to this version."""

from __future__ import annotations

from pathlib import Path

import click

from engine import app
from engine.cli import common
from engine.cli.say import say, say_json
from engine.observe.words import count
from engine.store.migrations import Migration

EPILOG = """\b
Examples:
  syncledger migrate pipelines/sync.yaml --check    show what would be done; exit 1 where something would
  syncledger migrate pipelines/sync.yaml
"""


@click.command(epilog=EPILOG)
@common.spec_argument
@click.option("--check", is_flag=True, help="Change nothing; exit 1 where a migration is to be run.")
@common.format_option
def migrate(spec: Path, check: bool, format_: str) -> int:
    """Bring the tables of SPEC's ledger to this version of SyncLedger, as a run does at its start.

    Only the engine's own tables are changed, never the tracking table and the log table. Back up a large ledger before.
    """
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    with app.connections(loaded.pipeline) as opened:
        history = app.open_history(opened, loaded.secrets, migrated=False)
        waiting = history.store.pending() if history else []
        used = history is not None and history.in_use()
        if waiting and not check:
            app.open_acts(opened, loaded.secrets).act("Migrate", loaded.pipeline.name, {"Version": waiting[-1].version})
    if format_ == "json":
        rows = [{"version": one.version, "name": one.name} for one in waiting]
        say_json({"pipeline": loaded.pipeline.name, "migrations": rows, "done": bool(waiting) and not check})
    else:
        say(_told(loaded.pipeline.name, waiting, used=used, check=check))
    return 1 if waiting and check else 0


def _told(pipeline: str, waiting: list[Migration], *, used: bool, check: bool) -> str:
    if not used:
        return f"The ledger of {pipeline} is not there yet: the first run makes it in its newest version."
    if not waiting:
        return f"The ledger of {pipeline} is up to date."
    steps = ", ".join(map(str, waiting))
    if check:
        return f"The ledger of {pipeline} has {count(len(waiting), 'migration')} to run: to version {steps}."
    return f"The ledger of {pipeline} was migrated to version {steps}."
