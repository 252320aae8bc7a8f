"""The replaced job's own list, by name."""

from __future__ import annotations

from tests.faultapi import FaultAPI, answer
from tests.project import Project, check_sums


def test_already_synchronised_records_are_excluded(project: Project, api: FaultAPI) -> None:
    project.users(5)
    project.entity()
    project.run()
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(6, "new")])
    report = project.run()
    assert [record["Id"] for record in api.of("/users")[-1].records] == [6]
    assert (report["entities"][0]["excluded"], report["entities"][0]["accepted"]) == (5, 1)
    check_sums(report)


def test_10000_records_make_batches_of_3000_3000_3000_1000(project: Project, api: FaultAPI) -> None:
    project.users(10_000)
    project.entity()
    report = project.run("--first-run")
    assert [len(request.records) for request in api.of("/users")] == [3000, 3000, 3000, 1000]
    sent = [record["Id"] for request in api.of("/users") for record in request.records]
    assert sent == list(range(1, 10_001))
    assert report["entities"][0]["batches"] == report["entities"][0]["calls"] == 4
    check_sums(report)


def test_success_of_the_api_is_tracked_and_logged(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity()
    report = project.run()
    assert report["status"] == "delivered"
    assert project.tracked() == ["1", "2", "3"]
    (row,) = project.log_rows()
    assert row["status"] == "Success"
    assert row["exception"] is None
    information = row["information"]
    assert information["HttpResponseCode"] == 200
    assert information["BatchSize"] == 3
    assert information["RunId"] == report["run_id"]
    assert information["EndpointUrl"] == f"{api.url}/users"
    assert information["Attempt"] == 1


def test_failure_of_the_api_is_logged_and_leaves_the_batch_untracked(project: Project, api: FaultAPI) -> None:
    project.users(5)
    project.entity(batch_size=2)
    api.script("/users", answer(), answer(410, {"error": "bad batch"}), answer())
    report = project.run(code=1)
    assert report["status"] == "incomplete"
    assert project.tracked() == ["1", "2", "5"]
    rows = project.log_rows()
    assert [row["status"] for row in rows] == ["Success", "Failure", "Success"]
    assert rows[1]["information"]["HttpResponseCode"] == 410
    assert "bad batch" in rows[1]["exception"]
    check_sums(report)
    # The next run offers what failed, and nothing else.
    again = project.run()
    assert [record["Id"] for record in api.of("/users")[-1].records] == [3, 4]
    assert again["entities"][0]["accepted"] == 2
