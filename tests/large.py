"""A large ledger for tests and benchmarks: filled by sets, its statements with values of the kind they get, and what they read."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

from engine.db.connection import Connection
from engine.db.statement import Statement
from tests.builders import ledger_spec
from tests.ledgers import ledger_on
from tests.unit.db.test_tsql import STATEMENTS, variables

SET = 1000
SPEC = ledger_spec()
IDS = json.dumps([f"id-{number * 31}" for number in range(1, SET + 1)])
MAY_SCAN = {
    "tracked_count": "`status` counts an entity, by an index",
    "tracked_last": "`status`: asked only of small entities",
    "entities_known": "`status` counts every entity",
    "activities": "`prune`: which activities there are, by an index",
    "oldest_open": "`prune`: once",
    "twins": "once a run: the rejected records of an entity",
    "reject_counts": "`status` counts everything",
    "rejects": "`rejects` lists everything",
    "open_batches": "sorts the open batches, which are few; found by an index",
    "parks": "one row per endpoint",
    "calls_of": "one record's history: bounded by time",
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


def fill(db: Connection, tracking: int, log: int, rejects: int, contents: int, batches: int) -> None:
    """So many rows of one entity into each table, in one transaction, and the statistics that an optimizer wants."""
    dialect = db.dialect.name
    with db.transaction():
        for into, (rows, values) in _inserts(db).items():
            text = SERIES[dialect].format(
                insert=f"INSERT INTO {into} SELECT {values}",
                rows={
                    "TB_R_SYNC_TRACKING": tracking,
                    "SchedulerLog": log,
                    "TB_R_SYNC_REJECT": rejects,
                    "TB_R_SYNC_CONTENT": contents,
                    "TB_R_SYNC_BATCH": batches,
                }[rows],
            )
            db.execute(Statement(text, ()))
    for table in ("TB_R_SYNC_TRACKING", "TB_R_SYNC_REJECT", "TB_R_SYNC_CONTENT", "TB_R_SYNC_BATCH", "SchedulerLog"):
        db.execute(Statement(f"ANALYZE TABLE {table}" if dialect == "mysql" else f"ANALYZE {table}", ()))


def _inserts(db: Connection) -> dict[str, tuple[str, str]]:
    """What goes into which columns: the table, and an expression over `n`."""
    dialect = db.dialect.name
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
    return {into: (into.partition(" ")[0], values) for into, values in inserts.items()}


def statements(db: Connection) -> Iterator[tuple[str, Statement]]:
    """Every statement of the ledger that reads or writes rows, with values of the kind it gets."""
    names = ledger_on(db, SPEC, "sync", "run").store.names
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
        "ordered": None,
        "version": 99,
        "columns": {"TB_R_SYNC_BATCH": frozenset()},
        "full": True,
        "expected": "settled",
        "run": "run",
        "tables": [],
        "prefix": "raw:%",
        "state": "settled",
        "after": None,
        "since": "2026-01-01 00:00:00",
        "upto": "2026-01-02 00:00:00",
        "said": '[["id-31", "why", 422, 0]]',
    }
    partial = re.compile(
        r"create_|right_|migrat|prune|(ids|pairs|refusals|match|clash|age|expires|places|payload|said|old|text|indexes)\."
    )
    for file in STATEMENTS:
        if partial.match(file):
            continue
        name = file.removesuffix(".sql.j2")
        wanted = variables(db.templates, f"ledger/{file}") - {"now", "types", *names}
        given = {word: values.get(word, "x") for word in wanted}
        if name == "runs":
            given["status"] = "delivered"
        if name == "rejects":
            given["state"] = None
        if name == "watermark_move":
            given["expected"] = 0
        made = db.templates.statement(f"ledger/{file}", **names, **given)
        if "VALUES (?" not in made.text:  # one row that is written, none that is read
            yield name, made
        if name == "retry":
            yield "retry without ids", db.templates.statement(f"ledger/{file}", **names, **{**given, "ids": None})


def rows_read(db: Connection, statement: Statement) -> int:
    """Rows of tables that a statement reads, by the database's own count; what it writes is rolled back."""
    if isinstance(db.driver.raw, sqlite3.Connection):
        return _steps(db.driver.raw, db, statement) // 10  # at least ten steps of its machine for each row
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
