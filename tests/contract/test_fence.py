"""The lease is proved to keep others out, and kept although its heartbeat starves."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from contextlib import closing

import pytest

from engine.db.statement import Statement
from engine.errors import LeaseHeld
from engine.sync.ledger import fence
from engine.sync.model import Batch, Rejection
from tests.builders import ledger_spec, open_ledger
from tests.faultapi import FaultAPI
from tests.ledgers import ledger_on
from tests.project import ROOT, Project
from tests.unit.db.test_tsql import ledger_statement

SPEC = ledger_spec()


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
def test_a_lock_that_holds_is_proved_without_a_word(
    database: Callable[[str], str], dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = database(dialect)
    with closing(open_ledger("log", text, ROOT, create=True)) as db:
        ledger = ledger_on(db, SPEC, "sync", str(uuid.uuid4()))
        ledger.prepare()
        lease = ledger.lease.acquire(60)
        with closing(open_ledger("log", text, ROOT, create=True)) as another:
            assert fence.holds(db, another, ledger.store.names, lease) is True
        with caplog.at_level(logging.INFO):
            ledger.lease.prove(lambda: open_ledger("log", text, ROOT, create=True))
        assert caplog.messages == []
        ledger.check()
        ledger.lease.release()


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_a_server_that_ignores_the_lock_is_warned_of_at_the_start_of_a_run(
    project: Project, api: FaultAPI, database: Callable[[str], str], dialect: str
) -> None:
    """As on Babelfish, which takes HOLDLOCK and ignores it: here a statement of the project's own takes no lock."""
    project.template(
        f"{dialect}/ledger/lease_check.sql.j2",
        "SELECT Token FROM {{ lease_table | table }} WHERE Pipeline = {{ pipeline }} AND Token = {{ token }} AND RunId = {{ run }}",
    )
    project.spec["connections"]["log"] = database(dialect)
    project.users(3)
    project.entity()
    finished = project.cli("run", project.write())
    assert finished.returncode == 0, "it still works, but says what it cannot rely on"
    assert "does not keep the lock on the lease" in finished.stderr


def test_the_try_never_waits_on_sql_server() -> None:
    assert "WITH (XLOCK, ROWLOCK, NOWAIT)" in ledger_statement("mssql", "lease_try.sql.j2").text


def test_a_payload_of_null_is_bound_as_bytes_on_sql_server() -> None:
    assert "CAST(? AS VARBINARY(MAX))" in ledger_statement("mssql", "intend.sql.j2").text
    assert "CAST" not in ledger_statement("postgresql", "intend.sql.j2").text


@pytest.mark.parametrize("what", ["a batch", "rejections", "contents"])
def test_the_writes_of_a_run_renew_a_lease_whose_heartbeat_starves(database: Callable[[str], str], what: str) -> None:
    """SQLite has one writer: while a run writes without a pause its heartbeat may never get its turn."""
    text = database("sqlite")
    with closing(open_ledger("log", text, ROOT, create=True)) as db:
        ledger = ledger_on(db, SPEC, "sync", str(uuid.uuid4()))
        ledger.prepare()
        lease = ledger.lease.acquire(60)
        write: Callable[[], object] = {
            "a batch": lambda: ledger.batches.intend(Batch(str(uuid.uuid4()), "Users", "key", ("1",), b"[1]")),
            "rejections": lambda: ledger.records.reject("Users", [Rejection("1", "no")]),
            "contents": lambda: ledger.records.adopt("Users", {"1": "hash"}),
        }[what]
        db.execute(Statement("UPDATE TB_R_SYNC_LEASE SET ExpiresOn = '2020-01-01 00:00:00'", ()))
        write()
        assert lease.valid()
        assert db.execute(Statement("SELECT ExpiresOn FROM TB_R_SYNC_LEASE", ())).rows[0][0] < "2021", "it was not late"
        lease._renewed -= 40
        write()
        assert not lease.late()
        other = ledger_on(db, SPEC, "sync", str(uuid.uuid4()))
        with pytest.raises(LeaseHeld):
            other.lease.acquire(60)
