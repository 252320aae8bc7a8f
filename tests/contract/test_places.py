"""Where the ledger's tables stand: found by the catalogue, under any name, and never begun anew beside themselves."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.db.connection import Connection, Rows
from engine.errors import DatabaseError, LedgerError
from engine.store.tables import present
from engine.sync.ledger.tables import Tables
from engine.sync.model import LedgerSpec
from tests.builders import ledger_spec, open_ledger
from tests.conftest import fill
from tests.faultapi import FaultAPI
from tests.ledgers import history_on, ledger_on
from tests.project import ROOT, Project

DIALECTS = ["sqlite", "postgresql", "mysql"]


def spec(tracking: str = "TB_R_SYNC_TRACKING", log: str = "SchedulerLog") -> LedgerSpec:
    return ledger_spec(tracking, log, "TAMHR")


@pytest.fixture(params=DIALECTS)
def db(request: pytest.FixtureRequest, database: Callable[[str], str]) -> Iterator[Connection]:
    connection = open_ledger("log", database(request.param), ROOT, create=True)
    yield connection
    connection.close()


@pytest.mark.parametrize(("tracking", "log"), [("order", "Select"), ("user", "Group"), ("Table", "index")])
def test_tables_may_have_names_that_are_words_of_sql(db: Connection, tracking: str, log: str) -> None:
    ledger = ledger_on(db, spec(tracking, log), "sync", str(uuid.uuid4()))
    assert "made" in ledger.prepare()
    assert "made" not in ledger.prepare(), "they are found again"
    history = history_on(db, spec(tracking, log), "sync", "run")
    assert history.in_use()
    assert set(history.lookup("Users", changed=False)(["1"]).tracked) == set()


def test_tables_that_were_made_without_quotes_are_found_as_the_database_folds_them(db: Connection) -> None:
    """PostgreSQL holds them in lower case; the name of the spec leads there as it would in a statement written by hand."""
    ledger = ledger_on(db, spec("Delivered", "Calls"), "sync", "run")
    create = db.templates.statement(
        "ledger/create_tracking.sql.j2", **{**ledger.store.names, "tracking_table": "Delivered"}
    )
    fill_ = create.text.replace(db.dialect.table("Delivered"), "Delivered")
    assert "CREATE TABLE Delivered (" in fill_
    db.execute(type(create)(fill_, ()))
    said = ledger.prepare()
    assert said.startswith("found ")
    assert "Delivered" in said.partition(";")[0]


@pytest.mark.parametrize("dialect", ["sqlite", "mysql"])
def test_a_name_of_too_many_parts_is_refused_by_validate_and_by_the_ledger(
    project: Project, database: Callable[[str], str], dialect: str
) -> None:
    text = database(dialect)
    db = open_ledger("log", text, ROOT, create=True)
    with pytest.raises(LedgerError, match="3 parts"):
        ledger_on(db, spec("db.app.t"), "sync", "run").prepare()
    db.close()
    project.spec["connections"]["log"] = text
    project.spec["ledger"] = {"tracking_table": "db.app.t"}
    project.users(1)
    project.entity()
    checked = project.cli("validate", project.write())
    assert checked.returncode == 2
    assert "db.app.t has too many parts" in checked.stdout


class OtherWords(Connection):
    """A server whose errors are its own (Babelfish: 33557097, `relation does not exist`)."""

    def run(self, template: str, /, **context: Any) -> Rows:
        try:
            return Connection.run(self, template, **context)
        except DatabaseError as failure:
            raise DatabaseError('relation "x" is not known to this server', "33557") from failure


def test_an_absent_table_is_told_from_an_unreadable_one_by_the_catalogue(db: Connection) -> None:
    """Whatever a server calls the error: only its catalogue says whether a table is there."""
    other = OtherWords(db.driver, db.dialect, db.templates, db.description)
    tables = Tables.of(spec())
    assert not present(other, tables.tracking)
    ledger_on(other, spec(), "sync", "run").prepare()
    assert present(other, tables.tracking)
    db.run("ledger/probe.sql.j2", name="TB_R_SYNC_LEASE")


def test_a_changed_search_path_stops_a_run_instead_of_beginning_a_new_ledger(
    project: Project, api: FaultAPI, database: Callable[[str], str]
) -> None:
    """The run names the schema that has the tables; nothing is sent. With the schema in the spec it goes on as before."""
    text = database("postgresql")
    fill(text, "CREATE SCHEMA other")
    project.spec["connections"]["log"] = text
    project.users(5)
    project.entity()
    project.write()
    first = project.cli("run", project.file)
    assert first.returncode == 0
    assert "made public.TB_R_SYNC_TRACKING, public.SchedulerLog" in first.stderr
    again = project.cli("run", project.file)
    assert "found public.TB_R_SYNC_TRACKING, public.SchedulerLog and " in again.stderr
    sent = len(api.requests)
    project.spec["connections"]["log"] = text + "ConnSettings=SET search_path TO other;"
    report = project.run(code=4)
    assert "TB_R_SYNC_TRACKING is not in the schema" in report["error"]
    assert "public" in report["error"]
    assert len(api.requests) == sent
    planned = project.cli("plan", project.file)
    assert planned.returncode == 4
    assert "public" in planned.stdout + planned.stderr
    project.spec["ledger"] = {"tracking_table": "public.TB_R_SYNC_TRACKING", "log_table": "public.SchedulerLog"}
    assert project.run()["entities"][0]["excluded"] == 5
