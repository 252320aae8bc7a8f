"""SyncLedger against public tools that do the same work: drt and dlt, and the hand-written loop as the yardstick.

    python bench/peers/run.py                     100,000 users, 3 times
    python bench/peers/run.py --rows 10000 --times 1 --slow-rows 12000

Installs the tools into an environment of their own (bench/peers/.venv) and prints a Markdown table; README.md beside it
says what each column means and how each tool is set up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import common
import postgres
import tools
from tools import Tool

from engine.demo import faults
from engine.demo.receiver import Receiver

BATCH = 3_000
NEW = 1_000
IN_FLIGHT = 8
DELAY = 0.2
COLUMNS = (
    "tool",
    "wall time, loop = 1",
    "peak memory",
    "sent by a second run",
    "sent again after SIGKILL",
    "new records found",
    "20 calls of 200 ms",
)


@dataclass
class Row:
    """The cells of one tool; a dash until something is found."""

    cells: dict[str, str] = field(default_factory=lambda: defaultdict(lambda: "-"))
    failed: list[str] = field(default_factory=list)


class Counting(Receiver):
    """The local API, which also counts the records of batches that it does not store again; its answers are late.

    A batch is stored before its answer is sent: whoever is killed meanwhile cannot know that it was accepted.
    """

    def __init__(self) -> None:
        super().__init__(script=faults.Script({faults.ANY: [faults.Step(delay=0.1)]}))
        self.arrived: Counter[str] = Counter()
        self.batches = 0
        self._counting = threading.Lock()

    def store(self, path: str, key: str | None, records: list[Any], body: bytes) -> tuple[int, bytes]:
        """Count a batch."""
        answer = super().store(path, key, records, body)
        with self._counting:
            self.arrived.update(self.ids(records))
            self.batches += 1
        return answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: the client was killed while it waited, which is the point."""


def totals(url: str) -> Counter[str]:
    """What a local API has received, at all its paths."""
    with urllib.request.urlopen(url) as answer:
        return sum((Counter(tally) for tally in json.load(answer).values()), Counter())


def whole(url: str, rows: int) -> None:
    """Leaves when not every record arrived exactly once."""
    found = totals(url)
    if (found["distinct"], found["doubled"]) != (rows, 0):
        raise SystemExit(
            f"{rows:,} records were due, {found['distinct']:,} arrived, {found['doubled']:,} of them again"
        )


class Bench:
    """The measurements, each in fresh folders with a copy of the same source."""

    def __init__(self, folder: Path, rows: int, times: int) -> None:
        self.folder, self.rows, self.times = folder, rows, times
        self.made = 0

    def fresh(self) -> Path:
        """A folder with the source in it."""
        self.made += 1
        folder = self.folder / f"job{self.made}"
        folder.mkdir()
        shutil.copy(self.folder / tools.SOURCE, folder)
        return folder

    def once(self, tool: Tool, *options: str, in_flight: int = 1) -> common.Measured:
        """One run that sends everything."""
        folder = self.fresh()
        with common.api(*options) as url:
            found = common.measure(tool.job(folder, url, in_flight), folder)
            whole(url, self.rows)
        shutil.rmtree(folder)
        return found

    def speed(self, table: dict[Tool, Row]) -> None:
        """All tools in turn, several times; each against the loop of the same round."""
        rounds: list[dict[Tool, common.Measured]] = []
        for number in range(self.times):
            order = [tool for tool in table if not tool.absent and not table[tool].failed]
            order = order[number % len(order) :] + order[: number % len(order)]
            found: dict[Tool, common.Measured] = {}
            for tool in order:
                with forgiven(table[tool]):
                    found[tool] = self.once(tool)
            rounds.append(found)
        loop = next(iter(table))
        for tool, row in table.items():
            mine = [found for found in rounds if tool in found]
            if len(mine) == self.times:
                ratios = [found[tool].wall / found[loop].wall for found in mine]
                spread = "" if tool is loop else f" ({min(ratios):.2f} to {max(ratios):.2f})"
                row.cells["wall time, loop = 1"] = f"{statistics.median(ratios):.2f}{spread}"
                row.cells["peak memory"] = f"{statistics.median(found[tool].peak for found in mine):.0f} MB"

    def later(self, tool: Tool, row: Row) -> None:
        """A run, one with nothing new, and one after new records came with random GUIDs."""
        folder = self.fresh()
        with common.api() as url:
            command = tool.job(folder, url, 1)
            common.measure(command, folder)
            whole(url, self.rows)
            common.measure(command, folder)
            row.cells["sent by a second run"] = f"{arrivals(url) - self.rows:,}"
            common.add(folder, NEW)
            common.measure(command, folder)
            row.cells["new records found"] = f"{totals(url)['distinct'] - self.rows:,} of {NEW:,}"

    def crash(self, tool: Tool, row: Row) -> None:
        """SIGKILL when half of the batches were accepted, then the same command until it has nothing to send."""
        folder = self.fresh()
        receiver = Counting()
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        try:
            command = tool.job(folder, receiver.url, 1)
            kill(command, folder, lambda: receiver.batches >= self.rows / BATCH / 2)
            for _ in range(2):
                common.measure(command, folder)
        finally:
            receiver.shutdown()
            receiver.server_close()
        if len(receiver.arrived) != self.rows:
            raise SystemExit(f"{self.rows - len(receiver.arrived):,} records were never sent")
        again = receiver.arrived.total() - self.rows
        stored = sum(tally["doubled"] for tally in receiver.as_json().values())
        row.cells["sent again after SIGKILL"] = f"{again:,} (stored again: {stored:,})"

    def slow(self, tool: Tool, row: Row) -> None:
        """Each call takes 200 ms."""
        script = self.folder / "slow.yaml"
        script.write_text(f'"*":\n  - {{ delay: {int(DELAY * 1000)}ms }}\n')
        walls = [self.once(tool, "--script", str(script), in_flight=IN_FLIGHT).wall for _ in range(self.times)]
        row.cells["20 calls of 200 ms"] = f"{statistics.median(walls):.1f} s"


def arrivals(url: str) -> int:
    """The records that arrived; a batch under a known key counts as a whole one."""
    found = totals(url)
    return found["records"] + found["replayed_keys"] * BATCH


def kill(command: list[str], folder: Path, due: Callable[[], bool]) -> None:
    """Start a command and kill it and its children when it is due. Leaves when it ends earlier."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True)
    while not due():
        if process.poll() is not None:
            raise SystemExit(f"left with {process.returncode} before it could be killed")
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def forgiven(row: Row) -> Iterator[None]:
    """A tool that fails gets a dash and its reason, and the others go on."""
    try:
        yield
    except (SystemExit, OSError) as failure:
        row.failed.append(str(failure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--slow-rows", type=int, default=60_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name, postgres.server() as port:
        table = {tool: Row() for tool in tools.every(port)}
        benches = []
        for rows in (options.rows, options.slow_rows):
            folder = Path(name) / str(len(benches))
            folder.mkdir()
            common.source(folder, rows)
            benches.append(Bench(folder, rows, options.times))
        quick, slow = benches
        quick.speed(table)
        for tool, row in table.items():
            for measure in () if tool.absent else (quick.later, quick.crash, slow.slow):
                print(f"{tool.name}: {measure.__name__}", file=sys.stderr)
                with forgiven(row):
                    measure(tool, row)
    print(f"{options.rows:,} users, {options.times} times; {options.slow_rows:,} for the slow API:\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for tool, row in table.items():
        print(f"| {' | '.join([tool.name, *(row.cells[column] for column in COLUMNS[1:])])} |")
    for tool, row in table.items():
        for reason in [tool.absent] * bool(tool.absent) + row.failed:
            print(f"{tool.name}: {reason}")


if __name__ == "__main__":
    main()
