"""What rows that travel in blocks must not change: who is counted, refused, planned and sent, and when."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.faultapi import FaultAPI
from tests.project import Project, check_sums

TWICE = [(1, "bad"), ("1", "7")]
"""One ID in two forms: SQLite keeps them apart and sorts numbers first."""


def users(report: dict[str, Any]) -> dict[str, Any]:
    check_sums(report)
    found: dict[str, Any] = report["entities"][0]
    return found


@pytest.mark.parametrize("later", [[(4.5,), (5.5,), (6.5,)], [("1",), ("2",), ("3",)]], ids=["no ID", "repeated"])
def test_a_limit_is_for_the_rows_that_come_first(project: Project, api: FaultAPI, later: list[Any]) -> None:
    project.fill("Users", "Id", [(1,), (2,), (3,), *later])
    project.entity()
    found = users(project.run("--limit", "2", code=None))
    assert (found["due"], found["accepted"], found["rejected"]) == (2, 2, 0)


def test_a_limit_holds_though_a_page_has_many_rows_without_an_id(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id", [(number + 0.5,) for number in range(9)])
    project.entity()
    assert users(project.run("--limit", "2", code=1))["due"] == 2


def test_a_record_that_breaks_its_contract_and_stands_twice_was_refused_once(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id, Level", TWICE)
    project.entity(fields={"Id": "int", "Level": "int"})
    project.run(code=1)
    rows = project.ledger("SELECT EntityId, Reason, Attempts FROM TB_R_SYNC_REJECT ORDER BY EntityId")
    assert rows[0] == ("1", "field 'Level': 'bad' is not a whole number", 1)
    assert [row[0] for row in rows] == ["1", 'raw:"1"'], "the other row is known by its own spelling"


@pytest.mark.parametrize(
    "keys",
    [{"transform": [{"select": "Level == '7'"}]}, {"fields": {"Id": "int", "Level": "int"}}, {"max_bytes": 100}],
    ids=["dropped", "broken", "too large"],
)
def test_a_plan_takes_the_second_record_of_an_id_where_the_first_is_not_sent(
    project: Project, api: FaultAPI, keys: dict[str, Any]
) -> None:
    project.fill("Users", "Id, Level", [(1, "bad" * 40), ("1", "7")])
    project.entity(page_size=1, **keys)
    planned = project.cli("plan", project.write(), "--format", "json", "--preview", "9", "--full")
    found = json.loads(planned.stdout)["entities"][0]
    ran = users(project.run(code=None))
    assert [request["body"].encode() for request in found["requests"]] == [request.body for request in api.requests]
    assert (found["due"], found["dropped"], found["rejected"]) == (ran["accepted"], ran["dropped"], ran["rejected"])


def test_an_id_that_cannot_be_one_frees_no_other(project: Project, api: FaultAPI) -> None:
    # The reject table holds 255 characters of the second, which are the whole of the first.
    longest = "L" * 255
    project.fill("Users", "Id", [(longest,), (longest + "\x01",), (longest + " ",)])
    project.entity(page_size=1)
    project.run(code=1)
    assert [record["Id"].rstrip() for request in api.requests for record in request.records] == [longest]


def test_a_baseline_counts_what_it_tracks_itself_as_new(project: Project) -> None:
    project.fill("Users", "Id, Level", TWICE)
    project.entity(page_size=1)
    done = project.cli("baseline", project.write(), "Users", "--yes", "--format", "json")
    assert json.loads(done.stdout) == {"entity": "Users", "tracked": 1, "tracked_before": 0, "skipped": 1}


def test_a_page_that_finds_its_last_key_again_is_not_taken_for_the_last(project: Project, api: FaultAPI) -> None:
    # As DATETIME keys of SQL Server do, which are held more finely than they are returned. It is older than blocks.
    project.users(20)
    project.entity(
        query="SELECT * FROM Users {% if after is not none %}WHERE Id >= {{ after }} {% endif %}ORDER BY Id LIMIT {{ limit }}",
        page_size=5,
    )
    assert users(project.run())["accepted"] == 20


def test_a_ledger_in_the_source_is_planned_before_the_first_run(project: Project) -> None:
    # Older than blocks, too.
    project.users(3)
    project.entity()
    project.spec["connections"]["log"] = project.spec["connections"]["default"]
    planned = project.cli("plan", project.write(), "--format", "json")
    assert (planned.returncode, json.loads(planned.stdout)["entities"][0]["due"]) == (0, 3), planned.stdout
