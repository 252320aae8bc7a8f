"""What an API can take: calls per second, and bytes per call."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest

from engine.sync.send import pace
from engine.sync.send.pace import Pace
from tests.faultapi import FaultAPI, answer
from tests.project import Project, check_sums


@pytest.mark.parametrize("in_flight", [1, 8])
def test_calls_are_never_closer_than_the_rate_allows_retries_included(
    project: Project, api: FaultAPI, monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    """Measured where the calls are let go: on their way to the server a busy machine may bring two of them together."""
    looks: list[float] = []

    def monotonic() -> float:
        looks.append(time.monotonic())
        return looks[-1]

    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=monotonic))
    project.users(20)
    project.entity(batch_size=2)
    project.spec["api"].update(rate_limit="20/s", in_flight=in_flight)
    project.spec["api"]["retry"]["attempts"] = 4
    api.script("/users", answer(503), answer(503), answer())
    report = project.run()
    check_sums(report)
    assert len(api.of("/users")) == 12, "10 batches, 2 attempts more"
    # Under its lock the pace looks at the clock before it waits and when it lets the call go.
    starts = looks[1::2]
    assert len(starts) == 12
    assert min(later - earlier for earlier, later in pairwise(starts)) >= 0.0499


def test_a_pace_without_a_limit_never_waits() -> None:
    waits: list[float] = []
    without = Pace(0.0, waits.append)
    for _ in range(3):
        without.wait()
    assert waits == []


def test_a_pace_waits_for_what_is_left_of_the_pause() -> None:
    waits: list[float] = []
    slow = Pace(10.0, waits.append)
    slow.wait()
    slow.wait()
    assert len(waits) == 1
    assert 9 < waits[0] <= 10


def test_a_cancelled_run_does_not_wait_for_its_rate(project: Project, api: FaultAPI) -> None:
    project.users(10)
    project.entity(batch_size=1)
    project.spec["api"].update(rate_limit="1/m", in_flight=2)
    project.write()
    process = project.popen("run", project.file)
    while not (api.of("/users") and project.tracked()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 130
    process.communicate()
    assert len(api.of("/users")) == 1


@pytest.mark.parametrize("wrap", [None, "items"])
def test_no_body_is_larger_than_max_bytes_and_none_is_cut_too_early(
    project: Project, api: FaultAPI, wrap: str | None
) -> None:
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(number, "x" * (number % 40)) for number in range(200)])
    project.entity(max_bytes=300, body={"wrap": wrap})
    report = project.run()
    check_sums(report)
    sizes = [len(request.body) for request in api.of("/users")]
    assert max(sizes) <= 300
    bodies = api.of("/users")
    for request, following in pairwise(bodies):
        first = following.records[0]
        assert len(request.body) + 1 + len(f'{{"Id":{first["Id"]},"Name":"{first["Name"]}"}}') > 300
    assert sum(len(request.records) for request in bodies) == 200


def test_a_record_that_is_too_large_alone_is_rejected_alone(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(1, "a"), (2, "x" * 500), (3, "c")])
    project.entity(max_bytes=200)
    report = project.run(code=1)
    check_sums(report)
    assert project.tracked() == ["1", "3"]
    assert "max_bytes" in project.rejects()["2"]


@pytest.mark.parametrize("bad", ["10", "0/s", "10/d", "-1/s"])
def test_a_rate_that_is_none_is_an_error(project: Project, bad: str) -> None:
    project.users(1)
    project.entity()
    project.spec["api"]["rate_limit"] = bad
    project.write()
    done = project.cli("validate", project.file)
    assert done.returncode == 2
    assert "rate_limit" in done.stdout
