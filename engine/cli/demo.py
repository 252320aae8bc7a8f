"""`demo`: the real five-entity pipeline on SQLite, against a local receiver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import click

from engine import assets
from engine.cli import common
from engine.cli.say import say
from engine.db.templates import PAGE
from engine.demo import hr
from engine.demo.receiver import Receiver

EPILOG = """\b
Examples:
  syncledger demo                  10,000 users; again: nothing new
  syncledger demo --rows 200000    more of them: only the new ones are sent
  syncledger demo --fresh          from the beginning
"""


@click.command(epilog=EPILOG)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Users; the other tables in proportion.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("var/demo"),
    show_default=True,
    help="Where the databases live.",
)
@click.option("--fresh", is_flag=True, help="Begin anew: remove the demo's databases first.")
def demo(rows: int, folder: Path, fresh: bool) -> int:
    """Generate HR data, start a local API, and run pipelines/sync.yaml as you would."""
    if fresh and folder.exists():
        for file in ("mdm.db", "ess.db", "log.db"):
            (folder / file).unlink(missing_ok=True)
    spec = _project(folder)
    counts = hr.fill_sqlite(folder, rows)
    say(f"{sum(counts.values()):,} rows of generated HR data in {folder}/mdm.db and {folder}/ess.db")
    server = Receiver()
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    # A separate process, exactly as against real databases.
    command = [sys.executable, "-m", "engine", "run", str(spec), "--first-run"]
    say(f"$ syncledger run {spec} --first-run      (the connections and the API are set for this run)")
    say()
    finished = subprocess.run(command, env={**os.environ, **_environment(folder, server.url)}, check=False)
    server.shutdown()
    server.server_close()
    _show_received(server)
    ledger = folder / "log.db"
    say()
    say(
        f"The ledger is {ledger}: tables TB_R_SYNC_TRACKING (one row per delivered record), SchedulerLog (one per API call)."
    )
    if not server.as_json():
        say("Nothing new was sent. `--rows` with a larger number adds records; `--fresh` begins anew.")
    else:
        say("Run the demo again: nothing will be sent twice.")
    return finished.returncode


def _project(folder: Path) -> Path:
    """Return the shipped spec: in place in a checkout, otherwise as a copy next to the demo's databases."""
    shipped = assets.folder("pipelines") / "sync.yaml"
    if (Path.cwd() / "pipelines" / "sync.yaml").exists() and (Path.cwd() / "pipelines" / "sync.yaml").samefile(shipped):
        return Path("pipelines/sync.yaml")
    folder.mkdir(parents=True, exist_ok=True)
    # Copy the HR job's templates too: only those for paging and the ledger are shared by all projects.
    templates = folder / "templates" / "sql"
    templates.mkdir(parents=True, exist_ok=True)
    for template in (assets.folder("templates") / "sql").glob("*.sql.j2"):
        if template.name != PAGE:
            shutil.copy(template, templates)
    return Path(shutil.copy(shipped, folder / "sync.yaml"))


def _environment(folder: Path, url: str) -> dict[str, str]:
    here = folder.absolute()
    return {
        "DEFAULT_CONNECTION": f"sqlite:///{here / 'mdm.db'}",
        "ESS_CONNECTION": f"sqlite:///{here / 'ess.db'}",
        "LOG_CONNECTION": f"sqlite:///{here / 'log.db'}",
        "API_BASE_URL": url,
        "API_TOKEN": "demo-token",
    }


def _show_received(server: Receiver) -> None:
    received = server.as_json()
    if not received:
        return
    rows = [
        [path, *[f"{tally[key]:,}" for key in ("calls", "records", "distinct", "doubled")]]
        for path, tally in received.items()
    ]
    say()
    say("What the API received:")
    common.print_table(
        [
            ("Path", "left"),
            ("Calls", "right"),
            ("Records", "right"),
            ("Distinct IDs", "right"),
            ("Doubled", "right"),
        ],
        rows,
    )
