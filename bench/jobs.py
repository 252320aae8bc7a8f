"""A job of many small steps against a bare loop: the same statements, each in a durable transaction of its own, without a history.

    python bench/jobs.py                       1,000 items x 4 SQL steps on SQLite, 5 pairs
    python bench/jobs.py --items 10000 --pairs 3

Prints the median of the ratios, the CPU per step beyond the loop's, and the peak memory of each process.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path

import common
import yaml
from common import Measured

STEPS = 4


def project(folder: Path, items: int) -> None:
    """A source of items, a table of effects, and the job."""
    with sqlite3.connect(folder / "conso.db") as connection:
        connection.execute("CREATE TABLE CONSO (Id INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO CONSO VALUES (?)", ((number,) for number in range(1, items + 1)))
        connection.execute("CREATE TABLE EFFECT (Item INTEGER, Step INTEGER)")
    connection.close()
    steps = [{"name": f"step{n}", "sql": f"INSERT INTO EFFECT VALUES ({{{{ item.Id }}}}, {n})"} for n in range(STEPS)]
    job = {
        "version": 1, "name": "bench", "connections": {"conso": "sqlite:///conso.db"},
        "for_each": {"query": "SELECT Id FROM CONSO", "key": "Id"}, "steps": steps,
    }  # fmt: skip
    (folder / "bench.yaml").write_text(yaml.safe_dump(job))


def loop(file: str) -> None:
    """What somebody would write by hand."""
    connection = sqlite3.connect(file, isolation_level=None)
    for (item,) in connection.execute("SELECT Id FROM CONSO").fetchall():
        for step in range(STEPS):
            connection.execute("BEGIN")
            connection.execute("INSERT INTO EFFECT VALUES (?, ?)", (item, step))
            connection.execute("COMMIT")


def pair(folder: Path, number: int, items: int) -> tuple[Measured, Measured]:
    """One run of each, in turn first."""
    commands = {
        "loop": [sys.executable, __file__, "--loop", "conso.db"],
        "job": [sys.executable, "-m", "engine", "run", "bench.yaml", "--quiet"],
    }
    found = {}
    for name in ("loop", "job") if number % 2 else ("job", "loop"):
        found[name] = common.measure(commands[name], folder)
        with sqlite3.connect(folder / "conso.db") as connection:
            done = connection.execute("SELECT COUNT(*) FROM EFFECT").fetchone()[0]
            if done != items * STEPS:
                raise SystemExit(f"{name}: {done} effects, not {items * STEPS}")
            connection.execute("DELETE FROM EFFECT")
        connection.close()
    return found["loop"], found["job"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--loop", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(options.loop)
        return
    os.environ["PYTHONPATH"] = str(common.HERE.parent)
    with tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name:
        folder = Path(name)
        project(folder, options.items)
        pairs = [pair(folder, number, options.items) for number in range(options.pairs)]
    ratios = [job.wall / loop.wall for loop, job in pairs]
    beyond = [(job.cpu - loop.cpu) / (options.items * STEPS) * 1000 for loop, job in pairs]
    print(
        f"{options.items:,} items x {STEPS} steps, {options.pairs} pairs: job / loop = {statistics.median(ratios):.2f}x wall "
        f"({min(ratios):.2f} to {max(ratios):.2f}); {statistics.median(beyond):.2f} ms of CPU a step beyond the loop's; peak memory "
        f"{statistics.median(job.peak for _, job in pairs):.0f} MB (loop {statistics.median(loop.peak for loop, _ in pairs):.0f} MB)"
    )


if __name__ == "__main__":
    main()
