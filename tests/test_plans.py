"""What each of the ledger's statements reads: with large tables it seeks, and never scans one, on every database."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.db.connect import open_ledger
from engine.db.connection import Connection
from engine.db.sql import Statement
from engine.ledger.ledger import Ledger
from engine.model import LedgerSpec
from tests.project import ROOT
from tests.test_case import FOLDING, old_table
from tests.test_tsql import FACTS, STATEMENTS, PageRequest, variables

ROWS, SET = 60_000, 1000
SPEC = LedgerSpec("log", "TB_R_SYNC_TRACKING", "SchedulerLog", "TAMHR")
IDS = json.dumps([f"id-{number * 31}" for number in range(1, SET + 1)])
MAY_SCAN = {
    "tracked_counts": "`status` counts everything",
    "reject_counts": "`status` counts everything",
    "rejects": "`rejects` lists everything",
    "open_batches": "sorts the open batches, which are few; found by an index",
    "parks": "one row per endpoint",
    "batches_of": "one record's history: looks into the IDs of the entity's batches",
    "calls_of": "one record's history: the log is the table of another job and has no index of ours",
    "acts_on": "one record's history: as for calls_of",
    "runs": "the history of runs: one row per run",
    "clashes": "PostgreSQL's citext is found by LOWER: one scan per page; asked only where the tracking table ignores case",
    "retry without ids": "frees the whole entity",
}
"""Statements that may read a table whole, and why. All others read no more than some rows for each ID."""

SERIES = {
    "sqlite": "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows}) {insert} FROM n",
    "postgresql": "{insert} FROM generate_series(1, {rows}) AS n(n)",
    "mysql": "{insert} FROM (SELECT seq AS n FROM seq_1_to_{rows}) AS n",
}
JOIN = {"sqlite": "{0} || n", "postgresql": "{0} || n", "mysql": "CONCAT({0}, n)"}


@pytest.fixture(params=["sqlite", "postgresql", "mysql"], scope="module")
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A ledger whose tables have many rows of one entity."""
    dialect = str(request.param)
    if dialect == "sqlite":
        text = f"sqlite:///{tmp_path_factory.mktemp('plans') / 'log.db'}"
    else:
        server = request.getfixturevalue({"postgresql": "postgresql_server", "mysql": "mariadb_server"}[dialect])
        text = server.database("plans")
    db = open_ledger("log", text, ROOT, create=True)
    Ledger(db, SPEC, "sync", "run").prepare()
    with db.transaction():
        _fill(db, dialect)
    for table in ("TB_R_SYNC_TRACKING", "TB_R_SYNC_REJECT", "TB_R_SYNC_CONTENT", "TB_R_SYNC_BATCH", "SchedulerLog"):
        db.execute(Statement({"mysql": f"ANALYZE TABLE {table}"}.get(dialect, f"ANALYZE {table}"), ()))
    yield db
    db.close()


def _fill(db: Connection, dialect: str) -> None:
    now, record, key = db.dialect.now, JOIN[dialect].format("'id-'"), JOIN[dialect].format("'b-'")
    inserts = {
        "TB_R_SYNC_TRACKING (EntityType, EntityId, SyncTimestamp)": f"'Users', {record}, {now}",
        "TB_R_SYNC_REJECT (EntityType, EntityId, State, Reason, Attempts, FirstSeen, LastSeen, BatchId)": (
            f"'Users', {record}, 'rejected', 'no', 1, {now}, {now}, 'b'"
        ),
        "TB_R_SYNC_CONTENT (EntityType, Kind, EntityId, ContentHash, RecordedOn)": (
            f"'Users', CASE WHEN n % 2 = 0 THEN 'accepted' ELSE 'rejected' END, {record}, 'hash', {now}"
        ),
        "TB_R_SYNC_BATCH (BatchId, RunId, Pipeline, EntityType, IdempotencyKey, State, RecordCount, RecordIds, Attempts, CreatedOn)": (
            f"{key}, 'run', 'sync', 'Users', 'k', CASE WHEN n % 1000 = 0 THEN 'in_doubt' ELSE 'settled' END, 1, '[]', 1, {now}"
        ),
        "SchedulerLog (ID, ApplicationName, LogID, Activity, Status, CreatedOn)": (
            {
                "postgresql": "CAST(LPAD(CAST(n AS TEXT), 32, '0') AS UUID)",
                "mysql": "LPAD(n, 36, '0')",
                "sqlite": "printf('%036d', n)",
            }[dialect]
            + f", 'a', 'run', 'Sync Batch: Users', 'Success', {now}"
        ),
    }
    for into, values in inserts.items():
        text = SERIES[dialect].format(insert=f"INSERT INTO {into} SELECT {values}", rows=ROWS)
        if dialect == "sqlite":  # the CTE stands before INSERT
            assert text.startswith("WITH")
        db.execute(Statement(text, ()))


def statements(db: Connection) -> Iterator[tuple[str, Statement]]:
    """Every statement of the ledger that reads or writes rows, with values of the kind it gets."""
    names = Ledger(db, SPEC, "sync", "run").names
    values: dict[str, Any] = {
        "ids": IDS,
        "pairs": json.dumps([[f"new-{number}", "h"] for number in range(SET)]),
        "rows": json.dumps([[f"new-{n}", "rejected", "no", 400, 1, 60.0, None] for n in range(SET)]),
        "name": "TB_R_SYNC_TRACKING",
        "limit": 5,
        "entity": "Users",
        "record": "id-31",
        "kind": "accepted",
        "pipeline": "sync",
        "batch": "b-7",
        "before": "2026-01-01 00:00:00",
        "id": "00000000-0000-0000-0000-000000000007",
        "token": 1,
        "pid": 1,
        "count": 1,
        "attempts": 1,
        "status": None,
        "seconds": 60.0,
        "payload": b"x",
        "part": 1,
        "folds": False,
        "gone": None,
        "keep": False,
        "full": True,
        "expected": "settled",
        "run": "run",
        "tables": [],
    }
    partial = re.compile(r"create_|(ids|pairs|refusals|match|clash|age|expires|places|payload)\.")
    for file in STATEMENTS:
        if partial.match(file):
            continue
        name = file.removesuffix(".sql.j2")
        wanted = variables(db.templates, f"ledger/{file}") - {"now", "types", *names}
        given = {word: values.get(word, "x") for word in wanted}
        if name == "runs":
            given["status"] = "delivered"
        made = db.templates.statement(f"ledger/{file}", **names, **given)
        if "VALUES (?" not in made.text:  # one row that is written, none that is read
            yield name, made
        if name == "retry":
            yield "retry without ids", db.templates.statement(f"ledger/{file}", **names, **{**given, "ids": None})


def rows_read(db: Connection, statement: Statement) -> int:
    """Rows of tables that a statement reads, by the database's own count; what it writes is rolled back."""
    if isinstance(db.raw, sqlite3.Connection):
        return _steps(db.raw, db, statement) // 10  # at least ten steps of its machine for each row
    analyze = {"postgresql": "EXPLAIN (ANALYZE, FORMAT JSON) ", "mysql": "ANALYZE FORMAT=JSON "}[db.dialect.name]
    found: Any = None

    class Undo(Exception):
        pass

    try:
        with db.transaction():
            found = db.execute(Statement(analyze + statement.text, statement.parameters)).rows[0][0]
            raise Undo
    except Undo:
        pass
    return _touched(json.loads(found) if isinstance(found, (str, bytes)) else found)


def _steps(raw: sqlite3.Connection, db: Connection, statement: Statement) -> int:
    count = 0

    def more() -> int:
        nonlocal count
        count += 100
        return 0

    raw.execute("BEGIN")
    raw.set_progress_handler(more, 100)
    try:
        db.execute(statement)
    finally:
        raw.set_progress_handler(None, 0)
        raw.execute("ROLLBACK")
    return count


def _touched(plan: Any) -> int:
    """The rows of all scans of a plan, those that a filter took away too."""
    if isinstance(plan, list):
        return sum(map(_touched, plan))
    if not isinstance(plan, dict):
        return 0
    here = 0.0
    if plan.get("Relation Name"):
        here = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    if (
        plan.get("table_name")
        and "r_rows" in plan
        and not str(plan["table_name"]).startswith(("ids", "pairs", "refusals"))
    ):
        here = (plan["r_rows"] or 0) * (plan.get("r_loops") or 1)
    return int(here) + sum(_touched(value) for value in plan.values() if isinstance(value, (dict, list)))


def test_no_statement_of_the_ledger_reads_more_than_some_rows_for_each_id(large: Connection) -> None:
    """Of 60,000 rows per table none is scanned, and no set of IDs is gone through once per row."""
    read = {name: rows_read(large, statement) for name, statement in statements(large)}
    scanning = {name: rows for name, rows in read.items() if rows > 8 * SET and name not in MAY_SCAN}
    assert scanning == {}, read
    assert len(read) > 40


@pytest.mark.parametrize("kind", ["sqlite", "mysql", "mysql, another collation", "postgresql, nondeterministic"])
def test_a_tracking_table_that_ignores_case_is_sought_too(database: Callable[[str], str], kind: str) -> None:
    """By the index of its own collation first; the binary comparison only looks at what that found."""
    dialect = FOLDING[kind][0]
    text = database(dialect)
    old_table(text, kind)
    db = open_ledger("log", text, ROOT, create=True)
    Ledger(db, SPEC, "sync", "run").prepare()
    values = f"'Users', {JOIN[dialect].format(chr(39) + 'id-' + chr(39))}, CURRENT_TIMESTAMP"
    insert = f"INSERT INTO TB_R_SYNC_TRACKING (EntityType, EntityId, SyncTimestamp) SELECT {values}"
    db.execute(Statement(SERIES[dialect].format(insert=insert, rows=ROWS), ()))
    db.execute(
        Statement("ANALYZE TABLE TB_R_SYNC_TRACKING" if dialect == "mysql" else "ANALYZE TB_R_SYNC_TRACKING", ())
    )
    wanted = ("tracked", "tracked_row", "touch", "forget", "clashes", "track")
    read = {name: rows_read(db, made) for name, made in statements(db) if name in wanted}
    if dialect == "postgresql":
        read.pop("clashes")  # see MAY_SCAN
    db.close()
    assert {name: rows for name, rows in read.items() if rows > 8 * SET} == {}


@pytest.mark.parametrize("charset", ["latin1", "ascii", "utf8mb4"])
@pytest.mark.parametrize("length", [36, 120], ids=["a GUID", "longer than the driver carries"])
def test_a_text_key_of_any_character_set_is_sought_on_mariadb(
    database: Callable[[str], str], charset: str, length: int
) -> None:
    """The next page and the rows of some keys are found by the index, also where the key column is not utf8mb4."""
    text = database("mysql")
    db = open_ledger("default", text, ROOT, create=True)
    db.execute(Statement(f"CREATE TABLE Users (Id VARCHAR(150) CHARACTER SET {charset} PRIMARY KEY, Name INT)", ()))
    db.execute(Statement(f"INSERT INTO Users SELECT LPAD(seq, {length}, '0'), seq FROM seq_1_to_20000", ()))
    db.execute(Statement("ANALYZE TABLE Users", ()))
    query, keys = "SELECT Id, Name FROM Users", [str(number).zfill(length) for number in range(1, 20000, 1000)]
    for request in (
        PageRequest("Users", FACTS, 10, ("Id",), (keys[10],)),
        PageRequest("Users", FACTS, 10, ("Id",), (keys[10],), upto=(keys[11],)),
        PageRequest("Users", FACTS, 20, ("Id",), find=tuple((key,) for key in keys)),
    ):
        made = db.templates.page(None, query, request)
        assert 10 <= rows_read(db, made) <= 30, made.text
        assert len(db.execute(made).rows) == (20 if request.find else 10)
    db.close()
