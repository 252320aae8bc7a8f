"""The shipped pipelines/sync.yaml as a process over PostgreSQL, MariaDB and SQLite: the contracts arrive."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.db.statement import Statement
from engine.demo import hr
from tests.builders import open_ledger
from tests.faultapi import FaultAPI
from tests.project import ROOT, Project, check_sums

USERS = 200
SPEC = ROOT / "pipelines" / "sync.yaml"
TYPES: dict[str, dict[Any, str]] = {
    "sqlite": dict(hr.SQLITE_TYPES),
    "postgresql": {
        "guid": "UUID", "text": "TEXT", "int": "INTEGER", "bool": "BOOLEAN", "decimal": "NUMERIC(9,4)",
        "datetime": "TIMESTAMP",
    },
    "mysql": {
        "guid": "CHAR(36)", "text": "VARCHAR(200)", "int": "INT", "bool": "BOOLEAN", "decimal": "DECIMAL(9,4)",
        "datetime": "DATETIME",
    },
}  # fmt: skip
# What the API is sent for a value of each kind; decimals are read back as text, so that every digit counts.
SENT: dict[str, Callable[[Any], Any]] = {
    "guid": str.lower,
    "text": lambda value: value,
    "int": int,
    "bool": bool,
    "decimal": str,
    "datetime": lambda value: value.replace(" ", "T"),
}
ENTITIES = {
    "Users": ("/users", "TB_M_USER"),
    "ActualOrg": ("/actual-org", "TB_M_ACTUAL_ORG"),
    "ActualEntity": ("/actual-entity", "TB_M_ACTUAL_ENTITY"),
    "OrgObject": ("/org-object", "TB_M_ORG_OBJECT"),
    "EventsCalendar": ("/events-calendar", "TB_M_EVENTS_CALENDAR"),
}


def fill(dialect: str, text: str, databases: set[str]) -> None:
    """The generated tables of these of the job's two databases, in this dialect's own types."""
    connection = open_ledger("source", text, ROOT, create=True)
    for table in hr.TABLES:
        if table.database not in databases:
            continue
        connection.execute(Statement(hr.create_table(table, TYPES[dialect]), ()))
        kinds = [kind for _, kind in table.columns]
        sql = f"INSERT INTO {table.name} VALUES ({', '.join('?' * len(kinds))})"
        with connection.transaction():
            for row in table.rows(USERS):
                # The replaced job's GUIDs are upper case in some tables; bool columns take real booleans.
                values = [bool(value) if kind == "bool" else value for kind, value in zip(kinds, row, strict=True)]
                connection.execute(Statement(sql, (values[0].upper(), *values[1:])))
    connection.close()


def expected(table_name: str) -> list[dict[str, Any]]:
    table = next(table for table in hr.TABLES if table.name == table_name)
    records = [
        {
            name: None if value is None else SENT[kind](value)
            for (name, kind), value in zip(table.columns, row, strict=True)
        }
        for row in table.rows(USERS)
    ]
    return sorted(records, key=lambda record: record["Id"])


def arrived(api: FaultAPI, path: str) -> list[dict[str, Any]]:
    found = [record for request in api.of(path) for record in json.loads(request.body, parse_float=str)]
    return sorted(found, key=lambda record: record["Id"])


def compare(found: list[dict[str, Any]], table_name: str, *, digits: bool) -> None:
    """What arrived is what the contract says. SQLite has no decimals: `digits` is False where only the value counts."""
    wanted = expected(table_name)
    if digits:
        assert found == wanted
        return
    table = next(table for table in hr.TABLES if table.name == table_name)
    decimals = [name for name, kind in table.columns if kind == "decimal"]
    for records in (found, wanted):
        for record in records:
            record |= {name: Decimal(record[name]) for name in decimals}
    assert found == wanted


def check_delivery(api: FaultAPI, strings: dict[str, str], project: Project, *, digits: bool = True) -> None:
    """Run twice: everything arrives as the contracts say, then nothing more."""
    project.environment = {**strings, "API_BASE_URL": api.url, "API_TOKEN": "sesam-token"}
    first = project.cli("run", SPEC, "--format", "json")
    assert first.returncode == 0, first.stdout + first.stderr
    report = json.loads(first.stdout)
    check_sums(report)
    fields = {entity["name"]: entity["fields"] for entity in yaml.safe_load(SPEC.read_text("utf-8"))["entities"]}
    for entity in report["entities"]:
        path, table = ENTITIES[entity["name"]]
        found = arrived(api, path)
        compare([dict(record) for record in found], table, digits=digits)
        assert [list(record) for record in found] == [list(fields[entity["name"]])] * len(found)
        # true and 1 are equal in Python, but not in JSON.
        assert {type(value) for record in found for value in record.values()} <= {str, int, bool, type(None)}
        for name, kind in next(made for made in hr.TABLES if made.name == table).columns:
            values = {type(record[name]) for record in found} - {type(None)}
            if digits or kind != "decimal":
                assert values <= {{"int": int, "bool": bool}.get(kind, str)}, (entity["name"], name)
        assert (entity["read"], entity["accepted"]) == (len(found), len(found))
    calls = len(api.requests)
    second = project.cli("run", SPEC, "--format", "json")
    assert second.returncode == 0, second.stdout + second.stderr
    again = json.loads(second.stdout)
    assert len(api.requests) == calls
    assert all((entity["due"], entity["calls"]) == (0, 0) for entity in again["entities"])
    assert [entity["excluded"] for entity in again["entities"]] == [entity["read"] for entity in report["entities"]]
    check_sums(again)


def check_ledger(text: str) -> None:
    """The tracking table holds every ID once, canonical; the log a row per call."""
    connection = open_ledger("log", text, ROOT, create=True)
    try:
        for entity, (_, table) in ENTITIES.items():
            sql = "SELECT EntityId FROM TB_R_SYNC_TRACKING WHERE EntityType = ?"
            rows = connection.execute(Statement(sql, (entity,))).rows
            assert sorted(row[0] for row in rows) == [record["Id"] for record in expected(table)]
        sql = "SELECT COUNT(*) FROM SchedulerLog WHERE Status = 'Success' AND ApplicationName = 'TAMHR'"
        assert connection.execute(Statement(sql, ())).rows[0][0] == len(ENTITIES)
    finally:
        connection.close()


@pytest.mark.parametrize("log", ["sqlite", "postgresql", "mysql"])
def test_the_job_from_postgresql_and_mariadb_delivers_all_contracts_once(
    project: Project, api: FaultAPI, database: Callable[[str], str], tmp_path: Path, log: str
) -> None:
    strings = {
        "DEFAULT_CONNECTION": database("postgresql"),
        "ESS_CONNECTION": database("mysql"),
        "LOG_CONNECTION": f"sqlite:///{tmp_path}/log.db" if log == "sqlite" else database(log),
    }
    fill("postgresql", strings["DEFAULT_CONNECTION"], {"default"})
    fill("mysql", strings["ESS_CONNECTION"], {"ess"})
    check_delivery(api, strings, project)
    check_ledger(strings["LOG_CONNECTION"])


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
def test_sources_and_ledger_may_be_one_database(
    project: Project, api: FaultAPI, database: Callable[[str], str], dialect: str
) -> None:
    text = database(dialect)
    fill(dialect, text, {"default", "ess"})
    strings = dict.fromkeys(("DEFAULT_CONNECTION", "ESS_CONNECTION", "LOG_CONNECTION"), text)
    check_delivery(api, strings, project, digits=dialect != "sqlite")
    check_ledger(text)


def test_decimals_stand_in_the_body_as_numbers_with_every_digit(
    project: Project, api: FaultAPI, database: Callable[[str], str]
) -> None:
    text = database("postgresql")
    connection = open_ledger("source", text, ROOT, create=True)
    connection.execute(Statement("CREATE TABLE Pay (Id INT, Amount NUMERIC(30,10), On_ BOOLEAN, Big BIGINT)", ()))
    connection.execute(
        Statement(
            "INSERT INTO Pay VALUES (1, 1.23, true, 9223372036854775807), (2, 12345678901234567890, false, 1)", ()
        )
    )
    connection.close()
    project.spec["connections"]["default"] = text
    project.entity("Pay", fields={"Id": "int", "Amount": "decimal", "On_": "bool", "Big": "int"})
    project.run()
    (request,) = api.of("/pay")
    assert request.body == (
        b'[{"Id":1,"Amount":1.2300000000,"On_":true,"Big":9223372036854775807},'
        b'{"Id":2,"Amount":12345678901234567890.0000000000,"On_":false,"Big":1}]'
    )
