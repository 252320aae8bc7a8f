"""A large ledger: the time of each statement and each command, and the statements that scan a table.

    python bench/ledger.py                        2.2 million tracked, on SQLite, PostgreSQL and MariaDB
    python bench/ledger.py --scale 0.01 --only sqlite

Only the statements that `MAY_SCAN` in tests/large.py justifies may scan a table; otherwise the exit code is 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import common

sys.path.insert(0, str(common.HERE.parent))
from engine.db.connection import Connection
from tests import large, servers
from tests.builders import open_ledger
from tests.ledgers import ledger_on

SIZES = {"tracking": 2_200_000, "log": 500_000, "rejects": 200_000, "contents": 400_000, "batches": 20_000}
COMMANDS = {
    "status": [],
    "rejects": ["--format", "csv"],
    "why": ["Users", "id-31"],
    "plan": [],
    "retry": ["Users", "id-31"],
    "forget": ["Users", "id-62"],
}


@contextmanager
def databases(only: list[str], folder: Path) -> Iterator[dict[str, str]]:
    """Yield the connection string of an empty database of each kind."""
    makers: dict[str, Callable[[ExitStack], str]] = {
        "sqlite": lambda _: f"sqlite:///{folder / 'ledger.store.db'}",
        "postgresql": lambda stack: stack.enter_context(servers.postgresql()).database("bench"),
        "mysql": lambda stack: stack.enter_context(servers.mariadb()).database("bench"),
    }
    with ExitStack() as stack:
        yield {name: makers[name](stack) for name in only}


def time_statements(db: Connection) -> list[str]:
    """Print the rows and time of each statement; returns those that scan and are not in `MAY_SCAN`."""
    scanning = []
    for name, statement in large.statements(db):
        began = time.monotonic()
        rows = large.rows_read(db, statement)
        seconds = time.monotonic() - began
        scans = rows > 30 * large.SET  # PostgreSQL rightly scans a table of 10,000 rows
        note = large.MAY_SCAN.get(name, "SCANS") if scans else ""
        print(f"  {name:22} {rows:>10,} rows {seconds * 1000:9.1f} ms  {note}", flush=True)
        if scans and name not in large.MAY_SCAN:
            scanning.append(name)
            print(f"    {' '.join(statement.text.split())}")
    return scanning


def time_commands(text: str, folder: Path) -> None:
    """Print the time of each command as a process, on a source of a thousand users."""
    if not (folder / "mdm.db").exists():
        common.source(folder, 1000)
    file = common.spec(folder, "bench", "http://127.0.0.1:9", ledger=text)
    if text.startswith("sqlite"):
        file.write_text(file.read_text().replace("sqlite:///sqlite", "sqlite"))
    file.write_text(file.read_text().replace("name: bench", "name: sync", 1))
    for command, arguments in COMMANDS.items():
        began = time.monotonic()
        line = [sys.executable, "-m", "engine", command, str(file), *arguments]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
        print(f"  {command:22} {time.monotonic() - began:6.2f} s   exit {done.returncode}", flush=True)
        if done.returncode not in (0, 1):
            print(f"    {done.stderr.strip()[-300:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of every size")
    parser.add_argument("--only", action="append", choices=["sqlite", "postgresql", "mysql"])
    for name, rows in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=rows)
    options = parser.parse_args()
    sizes = {name: max(1, int(getattr(options, name) * options.scale)) for name in SIZES}
    scanning: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name,
        databases(options.only or ["sqlite", "postgresql", "mysql"], Path(name)) as found,
    ):
        for dialect, text in found.items():
            db = open_ledger("log", text, common.HERE.parent, create=True)
            ledger_on(db, large.SPEC, "sync", "run").prepare()
            began = time.monotonic()
            large.fill(db, **sizes)
            print(f"{dialect}: filled in {time.monotonic() - began:.1f} s: {sizes}", flush=True)
            scanning += [f"{dialect}: {statement}" for statement in time_statements(db)]
            db.close()
            time_commands(text, Path(name))
    if scanning:
        raise SystemExit(f"these scan a table: {', '.join(scanning)}")


if __name__ == "__main__":
    main()
