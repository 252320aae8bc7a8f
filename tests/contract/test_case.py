"""IDs that differ only in case are two records, whatever collation the tracking table has: none is taken for another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import ledger_spec, open_ledger
from tests.conftest import fill
from tests.faultapi import FaultAPI
from tests.ledgers import acts_on, ledger_on
from tests.project import ROOT, Project, check_sums
from tests.unit.db.test_tsql import ledger_statement, templates

# Tracking tables of a program that took both cases for one ID: the dialect, what is needed first, the type of EntityId.
FOLDING = {
    "sqlite": ("sqlite", [], "NVARCHAR(255) COLLATE NOCASE"),
    "mysql": ("mysql", [], "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"),
    "mysql, another collation": ("mysql", [], "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"),
    "postgresql, citext": ("postgresql", ["CREATE EXTENSION citext"], "citext"),
    "postgresql, nondeterministic": (
        "postgresql",
        ["CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"],
        "VARCHAR(255) COLLATE nocase",
    ),
}
IDENTITY = {
    "sqlite": "INTEGER PRIMARY KEY",
    "mysql": "BIGINT AUTO_INCREMENT PRIMARY KEY",
    "postgresql": "BIGSERIAL PRIMARY KEY",
}
BINARY = {
    "sqlite": "TEXT",
    "mysql": "VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "postgresql": "VARCHAR(50)",
}


def old_table(text: str, kind: str) -> None:
    dialect, first, column = FOLDING[kind]
    fill(
        text,
        *first,
        f"CREATE TABLE TB_R_SYNC_TRACKING (Id {IDENTITY[dialect]}, EntityType VARCHAR(100) NOT NULL, EntityId {column} NOT NULL, "
        "SyncTimestamp TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)",
        "CREATE UNIQUE INDEX UQ_old ON TB_R_SYNC_TRACKING (EntityType, EntityId)",
    )


def source(text: str, dialect: str, *ids: str) -> None:
    fill(text, *[f"INSERT INTO Users VALUES ('{id_}', 'n')" for id_ in ids])


@pytest.fixture
def make(project: Project, database: Callable[[str], str]) -> Callable[[str], str]:
    """Makes source and ledger in one database; gives its connection string."""

    def made(dialect: str) -> str:
        text = database(dialect)
        project.spec["connections"] = {"default": text, "log": text}
        fill(text, f"CREATE TABLE Users (Id {BINARY[dialect]} PRIMARY KEY, Name VARCHAR(50))")
        return text

    return made


def sent(api: FaultAPI) -> list[Any]:
    return [record["Id"] for request in api.requests for record in request.records]


def rejected(text: str, *ids: str) -> dict[str, str]:
    db = open_ledger("log", text, ROOT, create=True)
    try:
        spec = ledger_spec()
        return {one.id: one.reason for one in acts_on(db, spec, "sync", "run").history.rejects("Users")}
    finally:
        db.close()


@pytest.mark.parametrize(
    ("kind", "way"),
    [(kind, "in_database") for kind in FOLDING] + [("sqlite", "ids_first"), ("sqlite", "lookup"), ("mysql", "lookup")],
)
def test_an_id_that_the_tracking_table_takes_for_another_one_is_rejected_and_never_excluded(
    project: Project, api: FaultAPI, make: Callable[[str], str], kind: str, way: str
) -> None:
    """`abc` was delivered, then `ABC` appears; `xyz` and `XYZ` appear together: one of each is sent, the other one is named."""
    dialect = FOLDING[kind][0]
    text = make(dialect)
    old_table(text, kind)
    source(text, dialect, "abc", *[f"other {number}" for number in range(10)])
    project.entity(exclude=way)
    assert project.run()["entities"][0]["accepted"] == 11
    source(text, dialect, "ABC", "xyz", "XYZ")
    for accepted in (1, 0):
        report = project.run(code=None)
        (users,) = report["entities"]
        assert (users["read"], users["excluded"], users["accepted"], users["rejected"]) == (
            14,
            12 - accepted,
            accepted,
            2,
        )
        check_sums(report)
    assert len(sent(api)) == len(set(sent(api))) == 12
    found = rejected(text)
    assert "ABC" in found
    assert "'abc'" in found["ABC"]
    assert len({"xyz", "XYZ"} & set(found)) == 1
    checked = project.cli("validate", project.file, "--connect", "--format", "json")
    messages = [one["message"] for one in json.loads(checked.stdout)["problems"]]
    assert any("2 IDs cannot be tracked" in message and "'abc'" in message for message in messages), messages


@pytest.mark.parametrize("dialect", BINARY)
def test_the_engines_own_tables_hold_ids_that_differ_only_in_case(
    project: Project, api: FaultAPI, make: Callable[[str], str], dialect: str
) -> None:
    """Both are delivered, both refused ones stand in the reject table, and the next run has nothing to do."""
    text = make(dialect)
    source(text, dialect, "abc", "ABC", "long name", "LONG NAME")
    project.entity(transform=[{"select": "Id.lower() == 'abc'"}])
    assert project.run()["entities"][0]["accepted"] == 2
    (users,) = project.run()["entities"]
    assert (users["excluded"], users["accepted"]) == (2, 0)
    del project.spec["entities"][0]["transform"]
    project.spec["entities"][0]["fields"] = {"Id": "string", "Name": "int"}
    assert project.run(code=1)["entities"][0]["rejected"] == 2
    assert project.run(code=None)["entities"][0]["rejected"] == 2
    assert set(rejected(text)) == {"long name", "LONG NAME"}


def test_forget_touches_no_id_of_another_case(make: Callable[[str], str]) -> None:
    text = make("sqlite")
    old_table(text, "sqlite")
    db = open_ledger("log", text, ROOT, create=True)
    spec = ledger_spec()
    ledger_on(db, spec, "sync", "run").prepare()
    acts = acts_on(db, spec, "sync", "run")
    acts.baseline("Users", ["abc"])
    assert acts.forget("Users", ["ABC"]) == []
    assert acts.history.standings(["Users"])["Users"].tracked == 1
    assert acts.forget("Users", ["abc"]) == ["abc"]
    assert acts.history.standings(["Users"])["Users"].tracked == 0
    db.close()


SETS = [
    "accept_rejected", "contents", "drop_contents", "drop_rejects", "forget", "refused", "reject_attempts", "retry", "touch",
    "track", "tracked", "tracked_row",
]  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_sql_server_compares_ids_binary(name: str) -> None:
    """By the index of the database's collation and by the binary one; COLLATE stands in a derived table, never inside WITH."""
    text = ledger_statement("mssql", f"{name}.sql.j2", folds=False).text
    assert "(SELECT value COLLATE Latin1_General_BIN2 AS value FROM OPENJSON(" in text
    assert "WITH (value NVARCHAR(255) '$')) AS ids" in text
    assert (
        "t.EntityId = ids.value COLLATE DATABASE_DEFAULT AND t.EntityId = ids.value COLLATE Latin1_General_BIN2" in text
    )


def test_sql_server_writes_one_of_the_ids_that_its_tracking_table_takes_for_one() -> None:
    """Instead of failing with 2627 for a batch that the API has stored."""
    text = ledger_statement("mssql", "track.sql.j2", folds=True).text
    assert "t.EntityId = ids.value COLLATE DATABASE_DEFAULT)" in text
    assert "GROUP BY ids.value COLLATE DATABASE_DEFAULT" in text
    assert "MIN(ids.value)" in text


@pytest.mark.parametrize("name", ["tracking", "reject", "content"])
def test_sql_server_keeps_ids_binary_in_the_engines_own_tables(name: str) -> None:
    assert (
        "EntityId NVARCHAR(255) COLLATE Latin1_General_BIN2 NOT NULL"
        in ledger_statement("mssql", f"create_{name}.sql.j2").text
    )


def test_sql_server_leaves_out_by_the_binary_form_of_a_text_key() -> None:
    from tests.unit.db.test_tsql import FACTS, PageRequest, TrackedIn

    request = PageRequest("Users", FACTS, 10, ("Id",), tracking=TrackedIn("dbo.TB_R_SYNC_TRACKING", "Users", False))
    text = templates("mssql").page(None, "SELECT Id FROM TB_M_USER", request).text
    assert "t_.EntityId = CAST(page_.[Id] AS NVARCHAR(4000)) COLLATE Latin1_General_BIN2" in text
