"""Distinct IDs with one canonical form: only one of the rows can be sent, and the other is never counted as delivered."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.faultapi import FaultAPI
from tests.project import Project, check_sums

_GUID = "{:08x}-0000-4000-8000-0000000000ab"


def _counts(report: dict[str, Any]) -> tuple[int, ...]:
    check_sums(report)
    (users,) = report["entities"]
    return users["read"], users["excluded"], users["accepted"], users["rejected"]


def test_an_id_with_a_space_at_the_end_stays_rejected_while_its_twin_is_delivered(
    project: Project, api: FaultAPI
) -> None:
    project.fill("Users", "Id TEXT PRIMARY KEY, Name TEXT", [("a", "one"), ("a ", "two"), ("b", "three")])
    project.entity()
    assert _counts(project.run(code=1)) == (3, 0, 2, 1)
    assert "same canonical form" in project.rejects()['raw:"a "']
    for _ in range(2):  # known by now: it stays rejected, and is no news
        assert _counts(project.run()) == (3, 2, 0, 1)
    assert [record["Name"] for request in api.requests for record in request.records] == ["one", "three"]


@pytest.mark.parametrize("exclude", ["lookup", "ids_first", "in_database"])
def test_a_guid_in_two_cases_on_pages_far_apart_is_found(project: Project, api: FaultAPI, exclude: str) -> None:
    if exclude == "in_database":
        project.spec["connections"]["log"] = "sqlite:///source.db"
    guids = [_GUID.format(0xA0000000 + n) for n in range(30)]
    project.fill("Users", "Id TEXT PRIMARY KEY, Name TEXT", [(guid, "n") for guid in guids])
    project.entity(page_size=7, batch_size=5, fields={"Id": "guid", "Name": "string"})
    project.run()
    project.spec["entities"][0]["exclude"] = exclude
    # Upper case sorts before lower case: the twin stands on another page.
    project.fill("Users", "Id", [(guids[20].upper(), "twin")])
    assert _counts(project.run(code=1)) == (31, 30, 0, 1)
    assert _counts(project.run()) == (31, 30, 0, 1)
    assert len(project_rejects(project)) == 1


def test_a_twin_is_sent_once_the_other_row_is_gone_and_forgotten(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id TEXT PRIMARY KEY, Name TEXT", [("a", "one"), ("a ", "two")])
    project.entity()
    project.run(code=1)
    with sqlite3.connect(project.folder / "source.db") as source:
        source.execute("DELETE FROM Users WHERE Id = 'a'")
    source.close()
    assert _counts(project.run()) == (1, 0, 0, 1)
    assert project.cli("forget", project.file, "Users", "a").returncode == 0
    assert _counts(project.run()) == (1, 0, 1, 0)
    assert project.rejects() == {}
    assert _counts(project.run()) == (1, 1, 0, 0)


def test_plan_and_validate_count_twins(project: Project, api: FaultAPI) -> None:
    rows = [
        (_GUID.format(0xABC), "x"),
        (_GUID.format(0xABC).upper(), "y"),
        ("a", "x"),
        ("a ", "y"),
        ("abc", "x"),
        ("ABC", "y"),
    ]
    project.fill("Users", "Id TEXT PRIMARY KEY, Name TEXT", rows)
    project.entity()
    project.write()
    planned = json.loads(project.cli("plan", project.file, "--format", "json").stdout)
    assert planned["entities"][0]["twin_ids"] == 2
    checked = project.cli("validate", project.file, "--connect")
    assert checked.returncode == 2
    assert "2 rows have an ID that is another row's but for case or spaces at the end" in checked.stdout


def project_rejects(project: Project) -> list[str]:
    """The names in the reject table, wherever the ledger is."""
    log = project.spec["connections"]["log"].removeprefix("sqlite:///")
    with sqlite3.connect(Path(project.folder / log)) as ledger:
        found = [row[0] for row in ledger.execute("SELECT EntityId FROM TB_R_SYNC_REJECT")]
    ledger.close()
    return found
