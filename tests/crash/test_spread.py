"""One entity shared among processes: the same outcome as one process, also where workers die."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.context import RunContext
from engine.errors import ConnectionFailed
from engine.runtime import executors
from engine.sync.model import Entity
from engine.sync.read import source
from engine.sync.read.source import Reader, Span
from engine.sync.spec.load import load
from tests.builders import open_source
from tests.conftest import absent, fill
from tests.faultapi import FaultAPI, slow
from tests.project import Project, check_sums


def stored(api: FaultAPI) -> Counter[int]:
    """How often each record arrived under a key of its own, as an API that honours keys counts."""
    batches = {request.headers["idempotency-key"]: request.records for request in api.of("/users")}
    return Counter(record["Id"] for records in batches.values() for record in records)


def under_way(project: Project, api: FaultAPI) -> subprocess.Popen[str]:
    """A run with two workers and a slow API, some calls after its start."""
    api.script("/users", slow(0.1))
    project.write()
    process = project.popen("run", project.file, "--workers", "2", "--format", "json")
    while len(api.of("/users")) < 4:
        assert process.poll() is None
    return process


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The worker processes of a run."""
    found = []
    for entry in Path("/proc").iterdir():
        # The fourth field of stat is the parent (proc(5)); a process may end while it is looked at.
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(process.pid):
                found.append(int(entry.name))
    return [pid for pid in found if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_deliver_every_record_once(project: Project, api: FaultAPI, workers: int) -> None:
    project.users(101)
    project.entity(batch_size=7, page_size=10)
    project.spec["api"]["in_flight"] = 2
    report = project.run("--workers", str(workers))
    check_sums(report)
    assert stored(api) == Counter(range(1, 102))
    (users,) = report["entities"]
    assert (users["read"], users["accepted"]) == (101, 101)
    rows = project.ledger("SELECT COUNT(*) FROM SchedulerLog WHERE LogID = ?", report["run_id"])
    assert rows == [(users["calls"],)]
    assert project.run("--workers", str(workers))["entities"][0]["excluded"] == 101


def test_partitions_of_the_spec_count_more_than_the_workers(project: Project, api: FaultAPI) -> None:
    project.users(40)
    project.entity(batch_size=100, partitions=5)
    project.run("--workers", "2")
    assert sorted(len(request.records) for request in api.of("/users")) == [8] * 5


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize("key", [["Id"], ["Kind", "Id"]])
def test_ranges_hold_every_row_once(
    project: Project, database: Callable[[str], str], dialect: str, key: list[str]
) -> None:
    text = database(dialect)
    fill(text, "CREATE TABLE T (Id INTEGER NOT NULL, Kind VARCHAR(10) NOT NULL, PRIMARY KEY (Kind, Id))")
    rows = [(number, f"k{number % 3}") for number in range(23)]
    fill(text, *[f"INSERT INTO T VALUES ({number}, '{kind}')" for number, kind in rows])
    project.spec["connections"]["default"] = text
    project.entity("T", id=key, page_size=4)
    pipeline = load(project.write()).pipeline
    entity: Entity = pipeline.entities[0]
    connection = open_source("default", text, project.folder)
    try:
        reader = Reader(connection, entity, RunContext.start())
        for parts, ranges in ((1, 1), (2, 2), (5, 5), (23, 23), (40, 23)):
            cuts: list[Any] = source.cuts(reader, parts)
            assert len(cuts) == ranges - 1
            bounds = [None, *cuts, None]
            found: list[Any] = []
            for after, upto in pairwise(bounds):
                part = Reader(connection, entity, RunContext.start(), span=Span(after, upto))
                rows_of_part = [tuple(row) for page in part.pages()[1] for row in page]
                assert 1 <= len(rows_of_part) <= -(-23 // ranges), "the ranges share the rows evenly"
                found += rows_of_part
            assert sorted(found) == sorted(rows)
    finally:
        connection.close()


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str
) -> None:
    project.spec["connections"]["log"] = database(ledger)
    project.users(200)
    project.entity(batch_size=5)
    process = under_way(project, api)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert "given out again" in errors
    assert stored(api) == Counter(range(1, 201))


def test_a_run_that_is_killed_with_its_workers_is_finished_by_the_next(project: Project, api: FaultAPI) -> None:
    project.users(100)
    project.entity(batch_size=5)
    process = under_way(project, api)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "workers outlive their run"
        time.sleep(0.05)
    report = project.run("--workers", "2")
    check_sums(report)
    assert stored(api) == Counter(range(1, 101))


def test_a_cancelled_run_ends_its_workers_and_the_next_goes_on(project: Project, api: FaultAPI) -> None:
    project.users(400)
    project.entity(batch_size=5)
    process = under_way(project, api)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, output + errors
    assert len(stored(api)) < 400
    assert len(project.tracked()) == len(stored(api)), "what was on the wire is settled"
    project.run()
    assert stored(api) == Counter(range(1, 401))


def test_a_limit_and_workers_are_not_one(project: Project) -> None:
    project.users(1)
    project.entity()
    project.write()
    assert project.cli("run", project.file, "--workers", "2", "--limit", "1").returncode == 2
    assert project.cli("run", project.file, "--workers", "2", "--cluster", "tcp://127.0.0.1:1").returncode == 2


@pytest.fixture
def cluster() -> Iterator[Callable[[int], tuple[str, list[subprocess.Popen[bytes]]]]]:
    """`cluster(2)` starts a Dask scheduler and two workers; gives the address and the workers."""
    if importlib.util.find_spec("distributed") is None:
        absent("syncledger[cluster]")
    started: list[subprocess.Popen[Any]] = []
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}

    def start(workers: int) -> tuple[str, list[subprocess.Popen[bytes]]]:
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
        scheduler = subprocess.Popen([*command, "--no-dashboard"], stderr=subprocess.PIPE, text=True)
        started.append(scheduler)
        assert scheduler.stderr is not None
        address = next(found[0] for line in scheduler.stderr if (found := re.search(r"tcp://127\.0\.0\.1:\d+", line)))
        made = [
            subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny",
                 "--no-dashboard"],
                stderr=subprocess.DEVNULL, env=environment,
            )
            for _ in range(workers)
        ]  # fmt: skip
        started.extend(made)
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        return address, made

    yield start
    for process in reversed(started):
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def test_a_dask_cluster_delivers_and_a_killed_worker_loses_and_doubles_nothing(
    project: Project,
    api: FaultAPI,
    database: Callable[[str], str],
    cluster: Callable[[int], tuple[str, list[subprocess.Popen[bytes]]]],
) -> None:
    project.spec["connections"]["log"] = database("postgresql")
    project.users(160)
    project.entity(batch_size=5, partitions=4)
    project.spec["api"]["auth"] = {"bearer": "cluster-secret"}
    api.script("/users", slow(0.1))
    project.write()
    address, workers = cluster(2)
    process = project.popen("run", project.file, "--cluster", address, "--format", "json")
    while len(api.of("/users")) < 6:
        assert process.poll() is None
    workers[0].kill()
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert stored(api) == Counter(range(1, 161))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "tls://127.0.0.1:9", "foo://127.0.0.1:9", "nonsense"])
def test_a_cluster_that_is_not_there_is_named(project: Project, address: str) -> None:
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("needs syncledger[cluster]")
    with pytest.raises(ConnectionFailed) as failed, executors.cluster(project.write(), address):
        pass
    assert f"there is no Dask scheduler at {address}: " in str(failed.value)
    assert ("needs certificates here" in str(failed.value)) is address.startswith("tls:")


def test_tls_without_certificates_leaves_with_4_and_says_what_is_missing(project: Project, api: FaultAPI) -> None:
    if importlib.util.find_spec("distributed") is None:
        absent("syncledger[cluster]")
    project.users(1)
    project.entity()
    done = project.cli("run", project.write(), "--cluster", "tls://127.0.0.1:9")
    assert done.returncode == 4, done.stderr
    assert "there is no Dask scheduler at tls://127.0.0.1:9" in done.stderr
    assert "tls:// needs certificates here" in done.stderr
    assert "bug" not in done.stderr
    assert api.requests == []
