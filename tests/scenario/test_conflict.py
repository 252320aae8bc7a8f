"""409 to a key that is still being processed, and the form in which the key travels."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faultapi import Behaviour, FaultAPI, Handler, Request, answer, reset, slow, when
from tests.project import Project, check_sums
from tests.scenario.test_parking import named


@pytest.fixture
def project(tmp_path: Path, api: FaultAPI) -> Project:
    made = Project(tmp_path / "project", api.url)
    made.spec["api"]["retry"]["attempts"] = 4
    made.spec["api"]["timeout"] = "1s"
    return made


def keys(api: FaultAPI, after: int = 0) -> list[str]:
    return [request.headers["idempotency-key"] for request in api.of("/users")[after:]]


def counts(report: dict[str, Any]) -> dict[str, Any]:
    check_sums(report)
    return named(report)["Users"]


FIRST: dict[str, Behaviour] = {
    "500": answer(500),
    "504": answer(504),
    "timeout": slow(1.5),
    "reset": reset(),
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("conflicts", [1, 2])
def test_a_conflict_after_a_doubtful_attempt_is_waited_out_with_the_same_key(
    project: Project, api: FaultAPI, first: str, conflicts: int
) -> None:
    project.users(2)
    project.entity()
    api.script("/users", FIRST[first], *[answer(409, "still being processed")] * conflicts, answer())
    users = counts(project.run())
    assert (users["accepted"], users["failed"], users["in_doubt"]) == (2, 0, 0)
    assert len(api.of("/users")) == conflicts + 2 == users["calls"]
    assert len(set(keys(api))) == 1
    assert len({request.body for request in api.of("/users")}) == 1
    assert project.ledger("SELECT State, Attempts FROM TB_R_SYNC_BATCH") == [("settled", conflicts + 2)]


@pytest.mark.parametrize("isolate", [None, [409, 422]])
def test_a_conflict_that_does_not_end_leaves_the_batch_in_doubt(
    project: Project, api: FaultAPI, isolate: list[int] | None
) -> None:
    project.users(2)
    project.entity(**({"isolate": isolate} if isolate else {}))
    api.script("/users", answer(500), answer(409))
    users = counts(project.run(code=1))
    assert (users["in_doubt"], users["failed"], users["rejected"]) == (2, 0, 0), "a 409 decides nothing"
    assert len(api.of("/users")) == 4
    assert project.ledger("SELECT State FROM TB_R_SYNC_BATCH") == [("in_doubt",)]
    api.script("/users", answer(409), answer())
    users = counts(project.run())
    assert users["settled"] == 2, "still the same key"
    assert len(set(keys(api))) == 1


def test_a_conflict_before_a_doubtful_attempt_decides_nothing_either(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    api.script("/users", answer(409), answer(500), answer(409), answer())
    users = counts(project.run())
    assert (users["accepted"], len(set(keys(api))), len(keys(api))) == (2, 1, 4)


def test_only_conflicts_on_a_fresh_batch_are_a_failure_and_a_later_run_has_a_new_key(
    project: Project, api: FaultAPI
) -> None:
    project.users(2)
    project.entity()
    api.script("/users", answer(409, "no"))
    report = project.run(code=1)
    users = counts(report)
    assert (users["failed"], users["in_doubt"], users["rejected"], users["accepted"]) == (2, 0, 0, 0)
    assert "409" in users["error"]
    assert project.ledger("SELECT State FROM TB_R_SYNC_BATCH") == [("failed",)]
    before = len(api.of("/users"))
    api.script("/users", answer())
    assert counts(project.run())["accepted"] == 2
    assert set(keys(api, before)).isdisjoint(keys(api)[:before])


def test_a_conflict_without_a_key_is_an_answer_like_any_other_4xx(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["idempotency_header"] = None
    project.users(2)
    project.entity()
    api.script("/users", answer(409))
    users = counts(project.run(code=1))
    assert (users["failed"], users["calls"]) == (2, 1)


def test_a_conflict_is_isolated_on_a_fresh_batch_where_the_spec_says_so(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity(isolate=[409])
    bad = when(lambda request: any(r["Id"] == 3 for r in request.records), answer(409, "exists"), answer())
    api.script("/users", bad)
    users = counts(project.run(code=1))
    assert (users["accepted"], users["rejected"], users["failed"]) == (3, 1, 0)
    assert list(project.rejects()) == ["3"]
    assert "exists" in project.rejects()["3"]
    assert len(set(keys(api))) == len(keys(api)), "every piece has a key of its own"


def test_a_conflict_in_isolate_after_a_doubtful_attempt_is_waited_out(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity(isolate=[409])
    api.script("/users", answer(500), answer(409), answer())
    users = counts(project.run())
    assert (users["accepted"], users["rejected"]) == (4, 0)
    assert len(set(keys(api))) == 1


def test_a_conflict_with_retry_after_is_tried_again_then(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["retry"]["max_wait"] = "5s"
    project.users(2)
    project.entity()
    api.script("/users", answer(500), answer(409, b"", Retry_After="1"), answer())
    assert counts(project.run())["accepted"] == 2
    _, second, third = api.of("/users")
    assert third.time - second.time >= 1.0


def test_a_conflict_that_asks_to_wait_too_long_leaves_the_batch_in_doubt_at_once(
    project: Project, api: FaultAPI
) -> None:
    project.users(2)
    project.entity()
    api.script("/users", answer(500), answer(409, b"", Retry_After="3600"), answer())
    users = counts(project.run(code=1))
    assert (users["in_doubt"], users["calls"]) == (2, 2)


class Processing:
    """An API that takes its time: the first call of a key is cut, meanwhile the key is in conflict, then it is known."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.lock = threading.Lock()
        self.done: dict[str, threading.Event] = {}
        self.stored: Counter[int] = Counter()

    def behaviour(self) -> Behaviour:
        def behave(handler: Handler, request: Request) -> None:
            key = request.headers["idempotency-key"]
            with self.lock:
                first = key not in self.done
                done = self.done.setdefault(key, threading.Event())
            if first:
                handler.server.pause.wait(self.seconds)
                self.stored.update(record["Id"] for record in request.records)
                done.set()
            (answer() if done.is_set() else answer(409, "still being processed"))(handler, request)

        return behave


@pytest.mark.parametrize("in_flight", [1, 4])
def test_an_api_that_is_slower_than_the_timeout_stores_everything_once(
    project: Project, api: FaultAPI, in_flight: int
) -> None:
    project.spec["api"].update(in_flight=in_flight, timeout="500ms")
    project.spec["api"]["retry"] = {"attempts": 10, "wait": "100ms", "max_wait": "300ms"}
    project.users(6)
    project.entity(batch_size=2)
    slowly = Processing(0.9)
    api.script("/users", slowly.behaviour())
    users = counts(project.run())
    assert users["accepted"] == 6
    assert slowly.stored == Counter(range(1, 7))
    assert users["calls"] > 6, "there were conflicts"
    assert {row["information"]["HttpResponseCode"] for row in project.log_rows()} >= {None, 409, 200}


def test_where_doubt_is_held_a_conflict_is_not_tried_again(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["in_doubt"] = "hold"
    project.users(2)
    project.entity()
    api.script("/users", answer(500), answer(409), answer())
    users = counts(project.run(code=1))
    assert (users["in_doubt"], users["calls"]) == (2, 1)
    ((batch,),) = project.ledger("SELECT BatchId FROM TB_R_SYNC_BATCH WHERE State = 'held'")
    assert project.cli("resolve", project.file, batch, "resend").returncode == 0
    assert counts(project.run())["settled"] == 2
    assert len(set(keys(api))) == 1


# The form of the key


@pytest.mark.parametrize("quoted", [None, False, True])
def test_the_key_is_quoted_where_the_spec_says_so(project: Project, api: FaultAPI, quoted: bool | None) -> None:
    if quoted is not None:
        project.spec["api"]["idempotency_quoted"] = quoted
    project.users(2)
    project.entity()
    api.script("/users", answer(500), answer())
    assert counts(project.run())["accepted"] == 2
    ((key,),) = project.ledger("SELECT IdempotencyKey FROM TB_R_SYNC_BATCH")
    assert keys(api) == [f'"{key}"' if quoted else key] * 2
    assert not key.startswith('"'), "the ledger keeps the key itself"


def test_the_key_of_a_batch_in_doubt_is_quoted_again_in_the_next_run(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["idempotency_quoted"] = True
    project.spec["api"]["retry"]["attempts"] = 1
    project.users(2)
    project.entity()
    api.script("/users", answer(500), answer())
    project.run(code=1)
    assert counts(project.run())["settled"] == 2
    first, second = keys(api)
    assert first == second
    assert first.startswith('"')
    assert first.endswith('"')


def test_plan_previews_the_key_in_its_form(project: Project) -> None:
    project.spec["api"].update(idempotency_quoted=True, idempotency_header="X-Key")
    project.users(1)
    project.entity()
    project.write()
    shown = json.loads(project.cli("plan", project.file, "--preview", "1", "--format", "json").stdout)
    key = shown["entities"][0]["requests"][0]["headers"]["X-Key"]
    assert key[0] == key[-1] == '"'
