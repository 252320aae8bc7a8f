"""The engine against the hand-written loop: the same rows, the same API, run in turn on the same machine.

    python bench/compare.py                       1,000,000 users, 5 pairs
    python bench/compare.py --rows 100000 --pairs 3

Prints the median of the ratios and the peak memory of each process. Absolute times are only of this machine and hour.
"""

from __future__ import annotations

import argparse
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from engine.demo import hr

HERE = Path(__file__).parent
SPEC = """\
version: 1
name: bench
connections: {{ default: "sqlite:///mdm.db", log: "sqlite:///{ledger}" }}
api: {{ base_url: "{url}", auth: {{ bearer: t }}, in_flight: {in_flight} }}
entities:
  - name: Users
    query: SELECT Id, NoReg, Username, Name, Gender, Email, IsActive FROM TB_M_USER
    endpoint: /users
    fields: {{ Id: guid, NoReg: string, Username: string, Name: string, Gender: string, Email: "string?", IsActive: int }}
"""


@dataclass(frozen=True)
class Measured:
    """One process: wall seconds, CPU seconds, peak resident megabytes."""

    wall: float
    cpu: float
    peak: float


def measure(command: list[str], folder: Path) -> Measured:
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} left with {process.returncode}")
    return Measured(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def check(ledger: Path, rows: int) -> None:
    connection = sqlite3.connect(ledger)
    tracked = connection.execute("SELECT COUNT(*) FROM TB_R_SYNC_TRACKING").fetchone()[0]
    connection.close()
    if tracked != rows:
        raise SystemExit(f"{ledger.name}: {tracked} records tracked, not {rows}")


def pair(folder: Path, url: str, rows: int, number: int, in_flight: int) -> tuple[Measured, Measured]:
    """One run of each, in turn first."""
    loop_ledger, engine_ledger = folder / f"loop{number}.db", folder / f"engine{number}.db"
    spec = folder / f"bench{number}.yaml"
    spec.write_text(SPEC.format(ledger=engine_ledger.name, url=f"{url}/engine{number}", in_flight=in_flight))
    commands = {
        "loop": [sys.executable, str(HERE / "handloop.py"), "mdm.db", loop_ledger.name, f"{url}/loop{number}/users"],
        "engine": [sys.executable, "-m", "engine", "run", str(spec), "--quiet"],
    }
    order = ("loop", "engine") if number % 2 else ("engine", "loop")
    found = {name: measure(commands[name], folder) for name in order}
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
    with tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name:
        folder = Path(name)
        connection = sqlite3.connect(folder / "mdm.db")
        with connection:
            hr._fill(connection, hr.TABLES[0], options.rows)
        connection.close()
        receiver = subprocess.Popen(
            [sys.executable, "-m", "engine", "receive", "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        assert receiver.stdout is not None
        url = re.search(r"http://\S+", receiver.stdout.readline())[0]  # type: ignore[index]
        try:
            pairs = [pair(folder, url, options.rows, number, options.in_flight) for number in range(options.pairs)]
        finally:
            receiver.terminate()
            receiver.wait()
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
