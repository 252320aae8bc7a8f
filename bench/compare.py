"""The engine against the hand-written loop: the same rows, the same API, run alternately on the same machine.

    python bench/compare.py                       1,000,000 users, 5 pairs
    python bench/compare.py --rows 100000 --pairs 3

Prints the median of the ratios and the peak memory of each process. Absolute times hold only for this machine and hour.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path

import common
from common import Measured


def check(ledger: Path, rows: int) -> None:
    connection = sqlite3.connect(ledger)
    tracked = connection.execute("SELECT COUNT(*) FROM TB_R_SYNC_TRACKING").fetchone()[0]
    connection.close()
    if tracked != rows:
        raise SystemExit(f"{ledger.name}: {tracked} records tracked, not {rows}")


def pair(folder: Path, url: str, rows: int, number: int, in_flight: int) -> tuple[Measured, Measured]:
    """Run each once; the order alternates."""
    loop_ledger, engine_ledger = folder / f"loop{number}.db", folder / f"engine{number}.db"
    spec = common.spec(folder, f"bench{number}", url, ledger=engine_ledger.name, in_flight=in_flight)
    loop = [sys.executable, str(common.HERE / "handloop.py"), "mdm.db", loop_ledger.name, f"{url}/loop{number}/users"]
    commands = {"loop": loop, "engine": common.run(spec)}
    order = ("loop", "engine") if number % 2 else ("engine", "loop")
    found = {name: common.measure(commands[name], folder) for name in order}
    for ledger in (loop_ledger, engine_ledger):
        check(ledger, rows)
        ledger.unlink()
    return found["loop"], found["engine"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name, common.api() as url:
        folder = Path(name)
        common.source(folder, options.rows)
        pairs = [pair(folder, url, options.rows, number, options.in_flight) for number in range(options.pairs)]
    for number, (loop, engine) in enumerate(pairs, 1):
        print(
            f"pair {number}: loop {loop.wall:6.1f} s {loop.peak:5.0f} MB   engine {engine.wall:6.1f} s {engine.peak:5.0f} MB   {engine.wall / loop.wall:.2f}x"
        )
    ratios = [engine.wall / loop.wall for loop, engine in pairs]
    cpu = [engine.cpu / loop.cpu for loop, engine in pairs]
    print(
        f"{options.rows:,} users, {options.pairs} pairs: engine / loop = {statistics.median(ratios):.2f}x wall "
        f"({min(ratios):.2f} to {max(ratios):.2f}), {statistics.median(cpu):.2f}x CPU; peak memory "
        f"{statistics.median(engine.peak for _, engine in pairs):.0f} MB (loop {statistics.median(loop.peak for loop, _ in pairs):.0f} MB)"
    )


if __name__ == "__main__":
    main()
