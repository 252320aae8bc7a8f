"""A ledger whose text is not Unicode: what it cannot hold is refused alone or escaped, and nothing is sent again for it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import fill
from tests.faultapi import FaultAPI, answer, when
from tests.project import Project, check_sums


@pytest.fixture
def latin1(request: pytest.FixtureRequest, database: Callable[[str], str]) -> Callable[[str], str]:
    """An empty ledger whose text is LATIN1: a PostgreSQL database, or tables that another program made in MariaDB."""

    def make(dialect: str) -> str:
        if dialect == "postgresql":
            server = request.getfixturevalue("postgresql_server")
            other = type(server)(
                server.name, server.string, server.maintenance,
                "CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
            )  # fmt: skip
            made: str = other.database("latin1")
            return made
        text = database(dialect)
        fill(
            text,
            "CREATE TABLE TB_R_SYNC_TRACKING (Id BIGINT AUTO_INCREMENT PRIMARY KEY, EntityType VARCHAR(100) NOT NULL, "
            "EntityId VARCHAR(255) NOT NULL, SyncTimestamp DATETIME NOT NULL) CHARACTER SET latin1",
            "CREATE UNIQUE INDEX UQ_old ON TB_R_SYNC_TRACKING (EntityType, EntityId)",
        )
        return text

    return make


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_an_id_that_the_ledger_cannot_hold_is_rejected_alone(
    project: Project, api: FaultAPI, latin1: Callable[[str], str], dialect: str
) -> None:
    """Its page goes on, the API's answer is logged with escapes, and `validate --connect` refuses such a ledger."""
    project.spec["connections"]["log"] = latin1(dialect)
    rows: list[tuple[Any, ...]] = [("日本", "x"), ("é", "x"), ("bad", "x"), ("good", "x")]
    project.fill("Users", "Id TEXT PRIMARY KEY, Name TEXT", rows)
    project.entity(batch_size=1)
    refusal = answer(422, body="名前 is missing".encode())
    api.script("/users", when(lambda request: request.records[0]["Id"] == "bad", refusal, answer()))
    for accepted, excluded in ((2, 0), (0, 2)):
        report = project.run(code=None)
        (users,) = report["entities"]
        assert (users["accepted"], users["excluded"]) == (accepted, excluded), report
        assert users["error"] is None, users
        check_sums(report)
    sent = [record["Id"] for request in api.requests for record in request.records]
    assert sorted(sent) == ["bad", "good", "é"]
    listed = project.cli("rejects", project.file, "--format", "json")
    reasons = {one["id"]: one["reason"] for one in json.loads(listed.stdout)["rejects"]}
    encoding = "LATIN1" if dialect == "postgresql" else "latin1"
    (strange,) = set(reasons) - {"bad"}
    assert strange == r"\u65e5\u672c"
    assert f"encoding is {encoding}" in reasons[strange]
    assert r"\u540d\u524d is missing" in reasons["bad"]
    checked = project.cli("validate", project.file, "--connect")
    assert checked.returncode != 0
    assert f"text is {encoding}" in checked.stdout


def test_a_ledger_that_holds_unicode_keeps_every_id_as_it_is(project: Project, api: FaultAPI) -> None:
    with sqlite3.connect(project.folder / "source.db"):
        pass
    project.fill("Users", "Id TEXT PRIMARY KEY, Name TEXT", [("日本", "x")])
    project.entity()
    assert project.run()["entities"][0]["accepted"] == 1
    assert project.tracked() == ["日本"]
