"""Two engines at once: many processes start together on one spec, and one runs at a time."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.faultapi import FaultAPI, Handler, Request, answer
from tests.project import Project, check_sums

RECORDS, BATCH = 10, 3
LONG = 240.0
"""Seconds in which all of the others must have ended, on the busiest machine."""


class Holding:
    """An API that counts records, and answers its first call only when it is let go."""

    def __init__(self) -> None:
        self.stored: Counter[int] = Counter()
        self.let_go = threading.Event()

    def behave(self, handler: Handler, request: Request) -> None:
        self.stored.update(record["Id"] for record in request.records)
        self.let_go.wait(2 * LONG)
        answer()(handler, request)


def _started_together(project: Project, count: int) -> list[subprocess.Popen[str]]:
    return [project.popen("run", project.file, "--format", "json", "--quiet") for _ in range(count)]


def _but_one_ended(processes: list[subprocess.Popen[str]], count: int = 1) -> list[subprocess.Popen[str]]:
    """Wait until no more than so many still run; gives these."""
    until = time.monotonic() + LONG
    while True:
        running = [process for process in processes if process.poll() is None]
        if len(running) <= count or time.monotonic() > until:
            return running
        time.sleep(0.05)


def _document(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=LONG)
    assert output, f"exit {process.returncode}: {errors[-2000:]}"
    document: dict[str, Any] = json.loads(output)
    return document


def _one_ran_and_the_others_name_it(
    project: Project, api: FaultAPI, partner: Holding, processes: list[subprocess.Popen[str]]
) -> None:
    try:
        running = _but_one_ended(processes)
        assert len(running) == 1, f"{len(running)} still run: nobody may wait for the lease, and one must hold it"
        (holder,) = running
        assert len(api.requests) == 1, "another run has sent while the first one held the lease"
        others = [process for process in processes if process is not holder]
        documents = [_document(process) for process in others]
        assert [process.returncode for process in others] == [3] * len(others), [
            document["error"] for process, document in zip(others, documents, strict=True) if process.returncode != 3
        ]
        for document in documents:
            assert document["status"] == "refused"
            assert document["entities"] == []
            assert {"run_id", "host", "user", "since", "last_heartbeat"} <= set(document["holder"])
        assert {document["holder"]["pid"] for document in documents} == {holder.pid}
        assert len({document["holder"]["run_id"] for document in documents}) == 1
        partner.let_go.set()
        report = _document(holder)
        assert (holder.returncode, report["status"]) == (0, "delivered")
        assert documents[0]["holder"]["run_id"] == report["run_id"]
        check_sums(report)
        assert report["entities"][0]["accepted"] == RECORDS
    finally:
        partner.let_go.set()
        for process in processes:
            process.kill()
            process.communicate()
    assert partner.stored == Counter(range(1, RECORDS + 1))
    assert len(api.requests) == report["entities"][0]["calls"] == -(-RECORDS // BATCH)
    again = project.run()
    assert (again["entities"][0]["calls"], again["entities"][0]["excluded"]) == (0, RECORDS)


@pytest.fixture
def partner(project: Project, api: FaultAPI) -> Holding:
    """The API of the project, which holds on to its first call."""
    project.users(RECORDS)
    project.entity(batch_size=BATCH)
    project.spec["api"]["timeout"] = f"{2 * LONG:g}s"
    made = Holding()
    api.script("/users", made.behave)
    return made


def test_of_twenty_that_start_together_on_a_ledger_that_is_not_there_yet_one_runs(
    project: Project, api: FaultAPI, partner: Holding
) -> None:
    project.write()
    processes = _started_together(project, 20)
    _one_ran_and_the_others_name_it(project, api, partner, processes)


@pytest.mark.odbc
@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_of_eight_that_race_to_create_the_tables_on_a_server_one_runs(
    project: Project, api: FaultAPI, partner: Holding, database: Callable[[str], str], dialect: str
) -> None:
    project.spec["connections"]["log"] = database(dialect)
    project.write()
    processes = _started_together(project, 8)
    _one_ran_and_the_others_name_it(project, api, partner, processes)


def test_of_eight_that_find_a_dead_holder_one_takes_its_place_and_sends_its_batch_again(
    project: Project, api: FaultAPI, partner: Holding
) -> None:
    project.write()
    dead = project.popen("run", project.file)
    while not api.requests:
        assert dead.poll() is None
        time.sleep(0.01)
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    first = api.requests.pop()
    partner.stored.clear()
    processes = _started_together(project, 8)
    try:
        (holder,) = _but_one_ended(processes)
        assert len(api.requests) == 1
        assert api.requests[0].headers["idempotency-key"] == first.headers["idempotency-key"]
        assert api.requests[0].body == first.body
        refused = [_document(process) for process in processes if process is not holder]
        assert {document["holder"]["pid"] for document in refused} == {holder.pid}
        partner.let_go.set()
        # The batch that was on the wire, and the next one where it was written ahead already.
        assert _document(holder)["entities"][0]["settled"] in (BATCH, 2 * BATCH)
    finally:
        partner.let_go.set()
        for process in processes:
            process.kill()
            process.communicate()
    assert partner.stored == Counter(range(1, RECORDS + 1))
