"""A body of the wrong shape is refused whole and record by record: that says nothing of the records, and none is rejected."""

from __future__ import annotations

import math

import pytest

from tests.faultapi import FaultAPI, Request, answer, when
from tests.project import Project, check_sums

REFUSED = answer(422, {"error": "expected an object with a key 'items'"})


@pytest.mark.parametrize("count", [2, 20, 300])
def test_a_wrong_body_shape_rejects_nobody_and_ends_soon(project: Project, api: FaultAPI, count: int) -> None:
    project.users(count)
    project.entity(batch_size=100)
    api.script("/users", REFUSED)
    report = project.run(code=1)
    check_sums(report)
    (users,) = report["entities"]
    assert (users["failed"], users["rejected"], users["accepted"]) == (count, 0, 0)
    assert "the request looks wrong, not its records" in users["error"]
    assert "expected an object with a key 'items'" in users["error"]
    batches = math.ceil(count / 100)
    assert users["calls"] <= 2 * math.ceil(math.log2(min(count, 100))) + 1 + batches
    assert project.rejects() == {}
    # Nothing rests: once the spec is mended, everything is sent.
    api.script("/users", answer())
    assert project.run()["entities"][0]["accepted"] == count


@pytest.mark.parametrize("bad", [[1], [1, 2], [3, 4], [1, 9, 16], [16], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_records_that_are_bad_in_the_same_way_are_still_found(project: Project, api: FaultAPI, bad: list[int]) -> None:
    project.users(16)
    project.entity()
    api.script("/users", when(lambda request: _holds(request, bad), REFUSED))
    report = project.run(code=1)
    check_sums(report)
    (users,) = report["entities"]
    assert (users["accepted"], users["rejected"], users["failed"]) == (16 - len(bad), len(bad), 0)
    assert sorted(map(int, project.rejects())) == bad


def test_a_batch_that_is_accepted_meanwhile_shows_that_the_request_is_right(project: Project, api: FaultAPI) -> None:
    project.users(40)
    project.entity(batch_size=8)
    api.script("/users", when(lambda request: _holds(request, list(range(1, 9))), REFUSED))
    report = project.run(code=1)
    check_sums(report)
    (users,) = report["entities"]
    assert (users["accepted"], users["failed"], users["rejected"]) == (32, 0, 8)


def _holds(request: Request, ids: list[int]) -> bool:
    return any(record["Id"] in ids for record in request.records)
