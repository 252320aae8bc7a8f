"""A ledger that cannot be opened, read or written: exit 4, a clear error, and nothing counts as delivered that was not."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import absent
from tests.faultapi import Behaviour, FaultAPI, answer
from tests.project import Project, check_sums

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """`mount("size=200k")` gives the folder of a small file system of its own; `mount(options)` again changes it."""
    folder = tmp_path / "ledger"

    def make(options: str) -> Path:
        how = ["-o", f"remount,{options}", str(folder)] if folder.exists() else ["-t", "tmpfs", "-o", options, "tmpfs"]
        if not folder.exists():
            folder.mkdir()
            how.append(str(folder))
        program = shutil.which("mount")
        if program is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
            absent("an account that may mount file systems")
        done = subprocess.run([program, *how], capture_output=True, text=True, check=False)
        if done.returncode:
            absent(f"a file system that can be mounted ({done.stderr.strip()})")
        return folder

    yield make
    if folder.exists() and os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=False)


def execute(file: Path, *statements: str) -> list[Any]:
    """Statements on a SQLite file; gives the rows of the last."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        rows: list[Any] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def tracked(file: Path) -> list[int]:
    return [int(row[0]) for row in execute(file, "SELECT EntityId FROM TB_R_SYNC_TRACKING ORDER BY Id")]


def refused(project: Project, api: FaultAPI, *words: str) -> dict[str, Any]:
    """A run that cannot use its ledger: exit 4, the error in words, nothing sent."""
    before = len(api.requests)
    report = project.run(code=4)
    assert report["status"] == "error"
    assert report["error"]
    for word in words:
        assert word in report["error"]
    assert len(api.requests) == before, "something was sent that could not be tracked"
    return report


def breaking(file: Path, *statements: str) -> Behaviour:
    """An accepting API that meanwhile changes the ledger."""

    def behave(handler: Any, request: Any) -> None:
        execute(file, *statements)
        answer()(handler, request)

    return behave


def test_a_ledger_in_a_folder_that_cannot_be_written_is_named_and_nothing_is_sent(
    project: Project, api: FaultAPI, mount: Mount
) -> None:
    file = mount("ro,size=1m") / "log.db"
    project.spec["connections"]["log"] = f"sqlite:///{file}"
    project.users(3)
    project.entity()
    refused(project, api, str(file), "cannot be")
    mount("rw,size=1m")
    assert project.run()["entities"][0]["accepted"] == 3
    assert tracked(file) == [1, 2, 3]


def test_a_read_only_ledger_is_named_and_nothing_is_sent(project: Project, api: FaultAPI, mount: Mount) -> None:
    file = mount("rw,size=1m") / "log.db"
    project.spec["connections"]["log"] = f"sqlite:///{file}"
    project.users(2)
    project.entity()
    project.run()
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(3, "new")])
    mount("ro,size=1m")
    refused(project, api, str(file), "readonly")
    mount("rw,size=1m")
    assert project.run()["entities"][0]["accepted"] == 1
    assert tracked(file) == [1, 2, 3]


def test_a_full_disk_stops_the_run_and_a_run_with_room_delivers_the_rest(
    project: Project, api: FaultAPI, mount: Mount
) -> None:
    file = mount("size=200k") / "log.db"
    project.spec["connections"]["log"] = f"sqlite:///{file}"
    project.users(6000)
    project.entity(batch_size=300)
    report = project.run("--first-run", code=4)
    assert report["status"] == "error"
    entity = report["entities"][0]
    error = report["error"] or entity["error"]
    assert str(file) in error
    assert "full" in error
    sent = [record["Id"] for request in api.of("/users") for record in request.records]
    # How far it came is the disk's affair: what is tracked was sent, what is accepted is tracked.
    assert set(tracked(file)) <= set(sent)
    assert len(tracked(file)) == entity["accepted"] < 6000
    assert len(sent) - entity["accepted"] <= 300, "at most the batch on the wire was sent without a trace"
    assert entity["in_doubt"] == len(sent) - entity["accepted"]
    check_sums(report)
    mount("size=20m")
    again = project.run()
    (users,) = again["entities"]
    assert users["accepted"] + users["settled"] == 6000 - entity["accepted"]
    assert sorted(tracked(file)) == list(range(1, 6001))


def test_a_disk_too_small_for_the_tables_sends_nothing(project: Project, api: FaultAPI, mount: Mount) -> None:
    file = mount("size=8k") / "log.db"
    project.spec["connections"]["log"] = f"sqlite:///{file}"
    project.users(3)
    project.entity()
    refused(project, api, str(file))
    mount("size=1m")
    assert project.run()["entities"][0]["accepted"] == 3


def test_a_locked_ledger_is_waited_for_then_named_and_nothing_is_sent(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity()
    with closing(sqlite3.connect(project.folder / "log.db", isolation_level=None)) as other:
        other.execute("PRAGMA user_version = 1")  # a database: an empty file would be asked for
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        refused(project, api, "log.db", "locked")
        assert 9 < time.monotonic() - began < 30
    assert project.run()["entities"][0]["accepted"] == 3


@pytest.mark.parametrize("kind", ["folder", "text", "folder of a file", "cut"])
def test_a_ledger_that_is_no_database_is_named_and_nothing_is_sent(project: Project, api: FaultAPI, kind: str) -> None:
    project.users(3)
    project.entity()
    file = project.folder / "log.db"
    if kind == "folder":
        file.mkdir()
    elif kind == "text":
        file.write_text("this is no database\n" * 100)
    elif kind == "folder of a file":
        file.write_text("a file")
        project.spec["connections"]["log"] = "sqlite:///log.db/log.db"
    else:
        project.run()
        file.write_bytes(file.read_bytes()[:5000])
        project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(4, "new")])
    refused(project, api, "log.db")
    if kind == "folder":
        file.rmdir()
    else:
        file.unlink()
    project.spec["connections"]["log"] = "sqlite:///log.db"
    # Healed by an empty ledger: it knows of nothing, so everything is delivered again.
    assert project.run()["entities"][0]["accepted"] == (4 if kind == "cut" else 3)


@pytest.mark.parametrize(
    ("table", "columns", "lacking"),
    [
        ("TB_R_SYNC_TRACKING", "Id INTEGER PRIMARY KEY, Entity TEXT, EntityId TEXT", ["entitytype", "synctimestamp"]),
        ("SchedulerLog", "ID TEXT, Status TEXT, Message TEXT", ["additionalinformation", "logid"]),
        ("TB_R_SYNC_REJECT", "EntityType TEXT", ["entityid", "reason"]),
    ],
)
def test_a_table_of_another_shape_is_named_with_what_it_lacks_and_nothing_is_sent(
    project: Project, api: FaultAPI, table: str, columns: str, lacking: list[str]
) -> None:
    project.users(3)
    project.entity()
    execute(project.folder / "log.db", f"CREATE TABLE {table} ({columns})")
    report = refused(project, api, table, "log.db")
    assert [name for name in lacking if name not in report["error"].casefold()] == []
    execute(project.folder / "log.db", f"DROP TABLE {table}")
    assert project.run()["entities"][0]["accepted"] == 3


def test_tables_of_another_name_are_used_beside_ones_of_another_shape(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity()
    execute(
        project.folder / "log.db",
        "CREATE TABLE TB_R_SYNC_TRACKING (Other TEXT)",
        "CREATE TABLE SchedulerLog (Other TEXT)",
    )
    project.spec["ledger"] = {"connection": "log", "tracking_table": "Sent", "log_table": "Calls"}
    assert project.run()["entities"][0]["accepted"] == 3
    assert project.ledger("SELECT EntityId FROM Sent ORDER BY Id") == [("1",), ("2",), ("3",)]
    assert project.ledger("SELECT count(*) FROM Calls") == [(1,)]
    assert project.ledger("SELECT count(*) FROM TB_R_SYNC_TRACKING") == [(0,)]


@pytest.mark.parametrize("table", ["SchedulerLog", "TB_R_SYNC_TRACKING"])
@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_table_that_vanishes_during_the_run_ends_it_and_the_next_run_delivers_the_rest(
    project: Project, api: FaultAPI, table: str, in_flight: int
) -> None:
    file = project.folder / "log.db"
    project.spec["api"]["in_flight"] = in_flight
    project.users(12)
    project.users(2, table="Orgs")
    project.entity(batch_size=2)
    project.entity("Orgs")
    api.script("/users", answer(), breaking(file, f"DROP TABLE IF EXISTS {table}"), answer())
    report = project.run(code=4)
    assert report["status"] == "error"
    users, orgs = report["entities"]
    assert table in users["error"]
    assert "log.db" in users["error"]
    assert "not run" in orgs["error"]
    assert api.of("/orgs") == [], "the other entities could not be tracked either"
    assert len(api.of("/users")) <= 2 + 2 * in_flight
    check_sums(report)
    if table == "SchedulerLog":
        sent = {record["Id"] for request in api.of("/users") for record in request.records}
        assert set(tracked(file)) <= sent
        assert len(tracked(file)) == users["accepted"]
    left = 12 - (users["accepted"] if table == "SchedulerLog" else 0)
    # Where the tracking table is gone, nothing is sent again before a person says so.
    again = project.run(*(["--first-run"] if table == "TB_R_SYNC_TRACKING" else []))
    assert [entity["accepted"] + entity["settled"] for entity in again["entities"]] == [left, 2]
    assert sorted({record["Id"] for request in api.of("/users") for record in request.records}) == list(range(1, 13))


def test_tracking_that_a_database_refuses_leaves_the_whole_batch_untracked_and_in_doubt(
    project: Project, api: FaultAPI
) -> None:
    project.users(6)
    project.entity(batch_size=3)
    project.run("--limit", "1")
    file = project.folder / "log.db"
    execute(
        file,
        "CREATE TRIGGER no_five BEFORE INSERT ON TB_R_SYNC_TRACKING WHEN NEW.EntityId = '6' "
        "BEGIN SELECT RAISE(ABORT, 'no room for 6'); END",
    )
    report = project.run(code=4)
    entity = report["entities"][0]
    assert "no room for 6" in entity["error"]
    assert (entity["accepted"], entity["in_doubt"]) == (3, 2)
    assert tracked(file) == [1, 2, 3, 4]
    check_sums(report)
    execute(file, "DROP TRIGGER no_five")
    assert project.run()["entities"][0]["settled"] == 2, "the same batch under the same key"
    assert tracked(file) == [1, 2, 3, 4, 5, 6]
