"""Measures the coefficients of the model in docs/scaling.md on PostgreSQL over ODBC, and extrapolates to larger numbers.

    python bench/model.py                         300,000 users

    T = N * max( (r + s) / w,  S,  p / (b * f * w) )

N records, w workers, b records per batch, f calls in flight. Seconds: r to read and shape one record, s to write one to
the ledger (both on the reading thread), S per record in the ledger's server with two writers at once, p for one call.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import common
import pyodbc

from engine import app
from engine.context import RunContext, utc_now
from engine.sync.counts import Flow
from engine.sync.ledger.ledger import Ledger
from engine.sync.model import Attempt, Batch, Outcome, Pipeline
from engine.sync.read import exclude, exclusion
from engine.sync.send import chunk
from engine.sync.shape import shape
from engine.sync.spec.load import Loaded, load

BATCH = 3000


@dataclass(frozen=True)
class Coefficients:
    """Seconds: per record read and shaped, per record settled by one writer and by two, per call."""

    r: float
    s: float
    shared: float
    p: float

    def seconds(self, records: float, workers: int, in_flight: int = 8) -> float:
        """Return the seconds that the model predicts."""
        return records * max(
            (self.r + self.s) / workers,
            self.shared if workers > 1 else 0.0,
            self.p / (BATCH * in_flight * workers),
        )


def read(spec: Path) -> tuple[float, list[Batch]]:
    """Return the seconds per record to read, exclude, shape and encode all of them, and the batches."""
    loaded, run = load(spec), RunContext.start()
    pipeline = _pipeline(loaded)
    (entity,) = pipeline.entities
    flow = Flow(_never)
    with app.connections(pipeline) as opened:
        ledger = app.open_ledger(opened, run, loaded.secrets)
        ledger.lease.acquire(60)
        began = time.perf_counter()
        lookup = ledger.lookup(entity.name, changed=False)
        source = exclusion.pages(opened.source(entity.connection), entity, run, lookup, None, flow)
        due = exclude.tracked(source.rows, entity.id, lookup, flow, page_size=entity.page_size)
        shaped = shape.records(due, entity, flow)
        made = list(chunk.batches(shaped, entity, flow))
        seconds = time.perf_counter() - began
        ledger.lease.release()
    return seconds / flow.counts.due, made


def _never(rejection: object) -> None:
    raise SystemExit(f"rejected: {rejection}")


def _pipeline(loaded: Loaded) -> Pipeline:
    return loaded.pipeline


def write(spec: Path, batches: list[Batch], run: RunContext, token: int) -> tuple[float, float]:
    """Write batches to journal, log and tracking; returns begin and end on a clock that processes share."""
    loaded = load(spec)
    with app.connections(_pipeline(loaded)) as opened:
        ledger = app.open_ledger(opened, run, loaded.secrets)
        ledger.lease.share(token, 600)
        began = time.monotonic()
        for batch in batches:
            _settle(ledger, batch, run)
        return began, time.monotonic()


def settle(pool: ProcessPoolExecutor, spec: Path, parts: list[list[Batch]]) -> float:
    """Return the seconds per record with one writer per part, all in one run."""
    loaded, run = load(spec), RunContext.start()
    with app.connections(_pipeline(loaded)) as opened:
        ledger = app.open_ledger(opened, run, loaded.secrets)
        token = ledger.lease.acquire(600).token
        facts = [(spec, part, run.id, run.started, token) for part in parts]
        times = list(pool.map(_write, facts))
        ledger.lease.release()
    seconds = max(end for _, end in times) - min(begin for begin, _ in times)
    return seconds / sum(len(batch.ids) for part in parts for batch in part)


def _write(facts: tuple[Path, list[Batch], str, datetime, int]) -> tuple[float, float]:
    spec, batches, run, started, token = facts
    return write(spec, batches, RunContext(run, started, utc_now, threading.Event(), None), token)


def _settle(ledger: Ledger, batch: Batch, run: RunContext) -> None:
    ledger.batches.intend(batch)
    ledger.batches.attempt(Attempt(batch, 1, "http://127.0.0.1/users", 200, 0.01, None, run.started, None))
    ledger.batches.settle(Outcome(batch, accepted=batch.ids, answered=True, attempts=1, status=200))


def run(spec: Path, ledger: str, *options: str) -> tuple[float, float]:
    """Run the engine; returns the seconds of the entity, and of its median call."""
    command = [*common.run(spec, *options), "--format", "json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    connection = pyodbc.connect(ledger)
    rows = connection.execute("SELECT AdditionalInformation FROM SchedulerLog").fetchall()
    connection.close()
    return report["entities"][0]["seconds"], statistics.median(json.loads(row[0])["DurationMs"] for row in rows) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name,
        common.api() as url,
        common.postgresql() as database,
        ProcessPoolExecutor(2, mp_context=spawn) as pool,
    ):
        folder, source = Path(name), database("source")
        common.users(source, options.rows)

        def spec(ledger: str, name: str) -> Path:
            return common.spec(folder, name, url, source=source, ledger=ledger, in_flight=8)

        list(pool.map(abs, range(2)))  # both processes have started
        r, batches = read(spec(database("nothing"), "read"))
        s = settle(pool, spec(database("alone"), "alone"), [batches])
        half = len(batches) // 2
        shared = settle(pool, spec(database("together"), "together"), [batches[:half], batches[half:]])
        one, p = run(spec(ledger := database("one"), "one"), ledger)
        two, _ = run(spec(ledger := database("two"), "two"), ledger, "--workers", "2")
    found = Coefficients(r, s, shared, p)
    print(f"r: {r * 1e6:.1f} us to read and shape a record ({1 / r:,.0f} a second)")
    print(f"s: {s * 1e6:.1f} us to settle a record, one writer ({1 / s:,.0f} a second)")
    print(f"S: {shared * 1e6:.1f} us per record where two write at once ({1 / shared:,.0f} a second)")
    print(f"p: {p * 1000:.0f} ms for one call of {BATCH:,} records to the local API")
    for workers, measured in ((1, one), (2, two)):
        predicted = found.seconds(options.rows, workers)
        print(f"{options.rows:,} users, {workers} workers: model {predicted:.1f} s, measured {measured:.1f} s")
    for workers in (1, 4, 16):
        print(f"10^9 records, {workers} workers: {found.seconds(1e9, workers) / 3600:.1f} h by the model")


if __name__ == "__main__":
    main()
