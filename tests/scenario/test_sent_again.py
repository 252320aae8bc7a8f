"""A batch that is sent again meets what its first sending has stored: "already there" is then no refusal, others say where they may come from."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faultapi import FaultAPI, Handler, Request, answer, reset
from tests.project import Project, check_sums

RESULTS = {
    "path": "items", "id": "Id", "accepted": "status == 'ok'", "duplicate": "error == 'conflict'", "reason": "error",
}  # fmt: skip


class Partner:
    """Stores what it gets, by ID, without looking at keys; a record that it has is a conflict. Some are never good."""

    def __init__(self, *bad: int) -> None:
        self.stored: list[int] = []
        self.bad = bad

    def store(self, request: Request) -> list[dict[str, Any]]:
        verdicts = []
        for record in request.records:
            id_ = record["Id"]
            error = "conflict" if id_ in self.stored else "bad" if id_ in self.bad else None
            if error is None:
                self.stored.append(id_)
            verdicts.append({"Id": id_, "status": "no" if error else "ok", "error": error})
        return verdicts

    def silent(self, handler: Handler, request: Request) -> None:
        self.store(request)
        reset()(handler, request)

    def speaking(self, handler: Handler, request: Request) -> None:
        answer(200, {"items": self.store(request)})(handler, request)


@pytest.mark.parametrize("within", [True, False], ids=["in the same run", "by the next run"])
def test_records_that_the_first_sending_stored_are_delivered(project: Project, api: FaultAPI, within: bool) -> None:
    partner = Partner(3)
    project.users(4)
    project.spec["api"]["retry"]["attempts"] = 2 if within else 1
    project.entity(results=RESULTS)
    api.script("/users", partner.silent, partner.speaking)
    report = project.run(code=1)
    if not within:
        assert report["entities"][0]["in_doubt"] == 4
        report = project.run(code=0)
    check_sums(report)
    (users,) = report["entities"]
    assert (users["already_there"], users["refused_again"]) == (3, 1)
    assert project.tracked() == ["1", "2", "4"]
    assert project.rejects() == {"3": "bad (rejected when sent again; the first sending may have stored it)"}
    assert partner.stored == [1, 2, 4]


def test_a_conflict_of_a_batch_that_was_never_sent_before_is_a_refusal(project: Project, api: FaultAPI) -> None:
    partner = Partner()
    partner.stored.append(2)
    project.users(3)
    project.entity(results=RESULTS)
    api.script("/users", partner.speaking)
    (users,) = project.run(code=1)["entities"]
    assert (users["accepted"], users["rejected"], users["already_there"]) == (2, 1, 0)
    assert project.rejects() == {"2": "conflict"}


def test_records_that_an_answer_left_out_may_be_there_when_they_are_offered_again(
    project: Project, api: FaultAPI
) -> None:
    partner = Partner()
    project.users(3)
    project.entity(results=RESULTS)

    def forgetful(handler: Handler, request: Request) -> None:
        answer(200, {"items": partner.store(request)[:1]})(handler, request)

    api.script("/users", forgetful, partner.speaking)
    assert project.run(code=1)["entities"][0]["in_doubt"] == 2
    (users,) = project.run()["entities"]
    assert (users["accepted"], users["rejected"], users["already_there"]) == (2, 0, 2)
    assert project.tracked() == ["1", "2", "3"]


def test_an_api_that_refuses_whole_batches_for_what_it_has_gets_single_records_in_the_end(
    project: Project, api: FaultAPI
) -> None:
    partner = Partner()
    project.users(4)
    project.spec["api"]["retry"]["attempts"] = 1
    project.entity(isolate=[409])

    def whole(handler: Handler, request: Request) -> None:
        if any(record["Id"] in partner.stored for record in request.records):
            answer(409, {"error": "already there"})(handler, request)
        else:
            partner.store(request)
            answer()(handler, request)

    api.script("/users", partner.silent, whole)
    assert project.run(code=1)["entities"][0]["in_doubt"] == 4
    (users,) = project.run()["entities"]
    assert (users["accepted"], users["rejected"], users["already_there"]) == (4, 0, 4)
    assert project.tracked() == ["1", "2", "3", "4"]
    assert partner.stored == [1, 2, 3, 4]


def test_the_summary_counts_both(project: Project, api: FaultAPI) -> None:
    partner = Partner(2)
    project.users(3)
    project.entity(results=RESULTS)
    api.script("/users", partner.silent, partner.speaking)
    project.write()
    said = project.cli("run", project.file, "--quiet")
    assert "2 records there already" in said.stdout
    assert "1 record rejected when sent again" in said.stdout
