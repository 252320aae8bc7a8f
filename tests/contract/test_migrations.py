"""The ledger's tables as version 1 made them, with rows in them, are brought to today's version; and a newer one is left alone."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.errors import DatabaseError, LedgerError
from engine.store import migrations
from engine.sync.model import Batch
from tests.builders import ledger_spec, open_ledger
from tests.faultapi import FaultAPI, answer
from tests.ledgers import acts_on, ledger_on
from tests.project import ROOT, Project

DATABASES = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.odbc),
    pytest.param("mysql", marks=pytest.mark.odbc),
]
SPEC = ledger_spec(application="A")
NEWEST = migrations.known()[-1].version
STEPS = "2 (resend ordered), 3 (lease process), 4 (watermark revision)"
LAST = "4 (watermark revision)"
BATCH = (
    "INSERT INTO TB_R_SYNC_BATCH (BatchId, RunId, Pipeline, EntityType, IdempotencyKey, State, RecordCount, RecordIds, Attempts, "
    "Reason, CreatedOn) VALUES ('{id}', 'r', 'sync', 'Users', 'k-{id}', '{state}', 1, '[\"{id}\"]', 1, '{reason}', {now})"
)


def opened(text: str) -> Connection:
    return open_ledger("log", text, ROOT, create=True)


def rows(db: Connection, text: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in db.execute(Statement(text, ())).rows]


@pytest.fixture(params=DATABASES)
def old(request: pytest.FixtureRequest, database: Callable[[str], str]) -> str:
    """A ledger of version 1: a delivered record, a rejected one, and open batches; in one a person has ordered it sent again."""
    text = database(request.param)
    fill(text)
    return text


def fill(text: str) -> None:
    db = opened(text)
    made = (ROOT / "tests" / "version1" / f"{db.dialect.name}.sql").read_text()
    now = db.dialect.now
    more = [
        f"INSERT INTO TB_R_SYNC_TRACKING (EntityType, EntityId, SyncTimestamp) VALUES ('Users', '1', {now})",
        "INSERT INTO TB_R_SYNC_REJECT (EntityType, EntityId, State, Reason, Attempts, FirstSeen, LastSeen) "
        f"VALUES ('Users', '2', 'rejected', 'no', 1, {now}, {now})",
        BATCH.format(id="ordered", state="in_doubt", reason="resolved by hand: resend", now=now),
        BATCH.format(id="doubt", state="in_doubt", reason="no answer", now=now),
        BATCH.format(id="over", state="settled", reason="resolved by hand: resend", now=now),
    ]
    for statement in [*re.split(r"(?m)^;$", made), *more]:
        db.execute(Statement(statement.strip(), ()))
    db.close()


def test_tables_of_version_1_are_migrated_with_what_they_hold(old: str) -> None:
    db = opened(old)
    ledger = ledger_on(db, SPEC, "sync", "run")
    assert [one.version for one in ledger.store.pending()] == list(range(2, NEWEST + 1))
    assert f"migrated to version {NEWEST}" in ledger.prepare()
    assert rows(db, "SELECT Version FROM TB_R_SYNC_VERSION ORDER BY Version") == [
        (one,) for one in range(1, NEWEST + 1)
    ]
    assert {left.id: left.ordered_again for left in ledger.history.open_batches()} == {"ordered": True, "doubt": False}
    assert ledger.history.rejects("Users")[0].reason == "no"
    assert rows(db, "SELECT EntityId FROM TB_R_SYNC_TRACKING") == [("1",)]
    assert ledger.store.pending() == []
    assert "migrated" not in ledger_on(db, SPEC, "sync", "again").prepare(), "once"
    assert len(rows(db, "SELECT Version FROM TB_R_SYNC_VERSION")) == NEWEST
    db.close()


def test_a_ledger_made_today_is_of_the_newest_version_and_works_the_same(database: Callable[[str], str]) -> None:
    db = opened(database("sqlite"))
    ledger = acts_on(db, SPEC, "sync", "run")
    assert "migrated" in ledger.store.prepare(), "version 1 is made first, and then every step is taken"
    assert migrations.version(db, ledger.store.names) == NEWEST
    made = Batch("b", "Users", "k", ("1",), b"[]")
    writing = ledger_on(db, SPEC, "sync", "run")
    writing.batches.intend(made)
    (left,) = ledger.history.open_batches()
    ledger.resolve(left, "resend")
    (left,) = ledger.history.open_batches()
    assert (left.state, left.ordered_again) == ("in_doubt", True)
    db.close()


def test_the_tables_of_the_replaced_job_are_not_changed(old: str) -> None:
    db = opened(old)
    before = {
        table: db.run("ledger/probe.sql.j2", name=table).columns for table in ("TB_R_SYNC_TRACKING", "SchedulerLog")
    }
    ledger_on(db, SPEC, "sync", "run").prepare()
    assert before == {table: db.run("ledger/probe.sql.j2", name=table).columns for table in before}
    for file in (ROOT / "templates" / "sql").rglob("migrations/*.j2"):
        assert not re.search(r"tracking_table|log_table", file.read_text()), file
    db.close()


def test_a_newer_ledger_is_refused_and_left_alone(old: str) -> None:
    db = opened(old)
    ledger = ledger_on(db, SPEC, "sync", "run")
    ledger.prepare()
    rows_before = rows(db, "SELECT BatchId, State FROM TB_R_SYNC_BATCH ORDER BY BatchId")
    db.execute(Statement(f"INSERT INTO TB_R_SYNC_VERSION VALUES ({NEWEST + 1}, 'x', {db.dialect.now})", ()))
    said = rf"has version {NEWEST + 1}: a newer SyncLedger has used it. This one knows versions up to {NEWEST}"
    with pytest.raises(LedgerError, match=said):
        ledger_on(db, SPEC, "sync", "run").prepare()
    with pytest.raises(LedgerError, match=said):
        ledger.store.pending()
    assert rows(db, "SELECT BatchId, State FROM TB_R_SYNC_BATCH ORDER BY BatchId") == rows_before
    db.close()


def test_two_that_migrate_at_once_do_it_once(old: str) -> None:
    done: list[int] = []
    failed: list[BaseException] = []
    start = threading.Barrier(3)

    def work() -> None:
        try:
            db = opened(old)
            ledger = ledger_on(db, SPEC, "sync", "run")
            start.wait()
            for _ in range(20):
                try:
                    ledger.prepare()
                    break
                except LedgerError as failure:
                    if not isinstance(failure.__cause__, DatabaseError):
                        raise  # others may make the table of versions at this very moment
            done.append(1)
            db.close()
        except BaseException as failure:  # noqa: BLE001 - the test's thread says so
            failed.append(failure)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db = opened(old)
    assert (failed, len(done)) == ([], 3)
    assert rows(db, "SELECT Version FROM TB_R_SYNC_VERSION ORDER BY Version") == [
        (one,) for one in range(1, NEWEST + 1)
    ]
    db.close()


# As a user sees it


@pytest.fixture
def project(tmp_path: Path, api: FaultAPI) -> Project:
    made = Project(tmp_path / "project", api.url)
    made.users(3)
    made.entity()
    made.write()
    fill(f"sqlite:///{made.folder / 'log.db'}")
    return made


def test_migrate_checks_does_it_and_has_nothing_more_to_do(project: Project) -> None:
    found = project.cli("migrate", project.file, "--check")
    assert (found.returncode, found.stdout) == (
        1,
        f"The ledger of sync has 3 migrations to run: to version {STEPS}.\n",
    )
    found = project.cli("migrate", project.file)
    assert (found.returncode, found.stdout) == (0, f"The ledger of sync was migrated to version {STEPS}.\n")
    found = project.cli("migrate", project.file, "--check", "--format", "json")
    assert (found.returncode, json.loads(found.stdout)) == (0, {"pipeline": "sync", "migrations": [], "done": False})
    assert project.cli("migrate", project.file).stdout == "The ledger of sync is up to date.\n"
    assert project.ledger("SELECT COUNT(*) FROM SchedulerLog WHERE Activity = 'Migrate: sync'") == [(1,)], (
        "an act has its row"
    )


def test_migrate_before_the_first_run_says_so(tmp_path: Path, api: FaultAPI) -> None:
    made = Project(tmp_path / "project", api.url)
    made.users(1)
    made.entity()
    found = made.cli("migrate", made.write(), "--check")
    assert (found.returncode, found.stdout) == (
        0,
        "The ledger of sync is not there yet: the first run makes it in its newest version.\n",
    )


@pytest.mark.parametrize("command", [["status"], ["plan"], ["why", "1"], ["rejects"]])
def test_looking_at_an_older_ledger_changes_nothing_and_says_what_to_do(project: Project, command: list[str]) -> None:
    name, *more = command
    found = project.cli(name, project.file, *(["Users", *more] if more else []))
    assert found.returncode == 4
    assert f"is older than this SyncLedger: 3 migrations to run, the last one to version {LAST}" in found.stderr
    assert f"syncledger migrate {project.file}" in found.stderr
    assert project.ledger("SELECT COUNT(*) FROM sqlite_master WHERE name = 'TB_R_SYNC_VERSION'") == [(0,)]


def test_validate_connect_says_what_would_be_migrated(project: Project) -> None:
    found = project.cli("validate", project.file, "--connect")
    assert f"warning: the next run migrates the ledger to version {LAST}" in found.stdout
    assert found.returncode == 0
    assert project.ledger("SELECT COUNT(*) FROM sqlite_master WHERE name = 'TB_R_SYNC_VERSION'") == [(0,)]


def test_a_run_migrates_and_sends_what_was_ordered(project: Project, api: FaultAPI) -> None:
    with sqlite3.connect(project.folder / "log.db") as ledger:
        ledger.execute("DELETE FROM TB_R_SYNC_BATCH WHERE BatchId <> 'ordered'")
        ledger.execute("DELETE FROM TB_R_SYNC_REJECT")
    ledger.close()
    api.script("/users", answer())
    report = project.run()
    assert report["entities"][0]["accepted"] == 2
    assert sorted(project.tracked()) == ["1", "2", "3"]
    assert project.ledger("SELECT MAX(Version) FROM TB_R_SYNC_VERSION") == [(NEWEST,)]


@pytest.mark.parametrize(
    "step", ["migrating:1", "migrating:2", "migrated:1", "migrated:2", "migrating:3", "migrated:3", "before commit:2"]
)
def test_killed_in_the_middle_the_next_one_goes_on(project: Project, step: str) -> None:
    killed = project.cli("migrate", project.file, env={"SYNCLEDGER_FAILPOINT": step}, process=True)
    assert killed.returncode == -9
    assert project.cli("migrate", project.file).returncode == 0
    assert project.ledger("SELECT Version FROM TB_R_SYNC_VERSION ORDER BY Version") == [
        (one,) for one in range(1, NEWEST + 1)
    ]
    assert project.ledger("SELECT BatchId FROM TB_R_SYNC_BATCH WHERE ResendOrdered = 1") == [("ordered",)]


@pytest.mark.odbc
def test_killed_between_two_statements_where_tables_change_outside_of_transactions(
    project: Project, database: Callable[[str], str]
) -> None:
    text = database("mysql")
    fill(text)
    project.spec["connections"]["log"] = text
    project.write()
    killed = project.cli("migrate", project.file, env={"SYNCLEDGER_FAILPOINT": "migrating:1"}, process=True)
    assert killed.returncode == -9
    done = project.cli("migrate", project.file)
    assert (done.returncode, done.stderr) == (0, "")
    db = opened(text)
    assert rows(db, "SELECT BatchId FROM TB_R_SYNC_BATCH WHERE ResendOrdered = 1") == [("ordered",)]
    assert migrations.version(db, ledger_on(db, SPEC, "sync", "r").store.names) == NEWEST
    db.close()
