"""The nightly run on a large ledger, compared with its SQL alone.

    python bench/nightly.py                       2,000,000 tracked records, 1,000 new ones, on SQLite, PostgreSQL and MariaDB
    python bench/nightly.py --rows 100000 --only sqlite

Source and ledger are in one database. Each run records its reading statements with their values; they are then executed
again on a bare driver connection, in the same order, and timed. The difference is the engine's overhead.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common

sys.path.insert(0, str(common.HERE.parent))
import ledger as large_ledger

from engine.db.connection import Connection, Rows
from engine.db.statement import Statement
from engine.observe.observer import Silent
from engine.runtime.runner import Choice, run_pipeline
from engine.sync.preflight import Allowed
from engine.sync.spec.load import load
from tests import large
from tests.builders import open_ledger
from tests.ledgers import ledger_on

Recorded = list[tuple[str, list[Any]]]
GUID = {
    "sqlite": "printf('%08x-0000-4000-8000-%012x', (n * 2654435761) % 4294967296, n)",
    "postgresql": "lpad(to_hex((n * 2654435761) % 4294967296), 8, '0') || '-0000-4000-8000-' || lpad(to_hex(n), 12, '0')",
    "mysql": "CONCAT(LPAD(LOWER(HEX((n * 2654435761) % 4294967296)), 8, '0'), '-0000-4000-8000-', LPAD(LOWER(HEX(n)), 12, '0'))",
}

FORGET = {
    **dict.fromkeys(
        ("sqlite", "postgresql"),
        "DELETE FROM TB_R_SYNC_TRACKING WHERE EntityId IN (SELECT Id FROM TB_M_USER WHERE CAST(NoReg AS INTEGER) % {share} = 0)",
    ),
    "mysql": "DELETE t FROM TB_M_USER u JOIN TB_R_SYNC_TRACKING t ON t.EntityType = 'Users' AND t.EntityId = CONVERT(u.Id USING utf8mb4) "
    "COLLATE utf8mb4_bin WHERE CAST(u.NoReg AS SIGNED) % {share} = 0",
}
"""Deletes about a thousand records from the tracking table."""


def fill(db: Connection, rows: int) -> None:
    """Create this many users in the source, all of them tracked."""
    dialect = db.dialect.name
    text, guid = (
        large.JOIN[dialect],
        GUID[dialect].replace("n *", "CAST(n AS BIGINT) *" if dialect == "postgresql" else "n *"),
    )
    values = f"{guid}, {text.format(chr(39) + chr(39))}, {text.format(chr(39) + 'user' + chr(39))}, 'Name Surname', 'F', 'user@example.co.id', 1"
    key = "CHARACTER SET ascii " if dialect == "mysql" else ""
    statements = [
        f"CREATE TABLE TB_M_USER (Id VARCHAR(36) {key}PRIMARY KEY, NoReg VARCHAR(20), Username VARCHAR(50), Name VARCHAR(100), "
        "Gender VARCHAR(1), Email VARCHAR(100), IsActive INTEGER)",
        large.SERIES[dialect].format(insert=f"INSERT INTO TB_M_USER SELECT {values}", rows=rows),
        "INSERT INTO TB_R_SYNC_TRACKING (EntityType, EntityId, SyncTimestamp) "
        f"SELECT 'Users', Id, {db.dialect.now} FROM TB_M_USER",
    ]
    with db.transaction():
        for statement in statements:
            db.execute(Statement(statement, ()))
    for table in ("TB_M_USER", "TB_R_SYNC_TRACKING"):
        db.execute(Statement(f"ANALYZE TABLE {table}" if dialect == "mysql" else f"ANALYZE {table}", ()))


@contextmanager
def recorded() -> Iterator[Recorded]:
    """Record every reading statement, with its values as the driver receives them."""
    statements: Recorded = []
    plain = Connection._execute

    def execute(self: Connection, statement: Statement) -> Rows:
        if statement.text.lstrip().upper().startswith(("SELECT", "WITH")):
            statements.append((statement.text, [self.driver.bind(value) for value in statement.parameters]))
        return plain(self, statement)

    Connection._execute = execute  # type: ignore[method-assign]
    try:
        yield statements
    finally:
        Connection._execute = plain  # type: ignore[method-assign]


def alone(statements: Recorded, text: str) -> float:
    """Return the seconds of the same statements on a bare connection."""
    if text.startswith("sqlite"):
        raw: Any = sqlite3.connect(text.removeprefix("sqlite:///"), isolation_level=None)
    else:
        import pyodbc

        raw = pyodbc.connect(text, autocommit=True)
    began = time.monotonic()
    for statement, values in statements:
        cursor = raw.cursor()
        cursor.execute(statement, values)
        if cursor.description:
            cursor.fetchall()
        cursor.close()
    seconds = time.monotonic() - began
    raw.close()
    return seconds


def nightly(file: Path, text: str, what: str) -> None:
    """Time one run, and its SQL alone."""
    loaded = load(file, dict(os.environ))
    with recorded() as statements:
        began = time.monotonic()
        report = run_pipeline(loaded, Silent(), Choice(allowed=Allowed(first_run=True)))
        seconds = time.monotonic() - began
    counts = report.entities[0].counts if report.entities else None
    found = alone(statements, text)
    print(
        f"  {what:12} {seconds:7.2f} s, its {len(statements):,} reading statements alone {found:7.2f} s: {seconds / found:.2f}x"
        f"   ({report.status}, {counts.accepted if counts else 0:,} delivered)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--only", action="append", choices=["sqlite", "postgresql", "mysql"])
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name,
        common.api() as url,
        large_ledger.databases(options.only or ["sqlite", "postgresql", "mysql"], Path(name)) as found,
    ):
        for dialect, text in found.items():
            folder = Path(name) / dialect
            folder.mkdir()
            db = open_ledger("log", text, common.HERE.parent, create=True)
            ledger_on(db, large.SPEC, "bench", "run").prepare()
            began = time.monotonic()
            fill(db, options.rows)
            print(f"{dialect}: {options.rows:,} users, all tracked, in {time.monotonic() - began:.1f} s", flush=True)
            db.close()
            for how in ("lookup", "ids_first", "in_database"):
                print(f" exclude: {how}", flush=True)
                file = common.spec(folder, "bench", url, ledger=text, source=text, extra=f"exclude: {how}")
                file.write_text(file.read_text().replace("sqlite:///sqlite", "sqlite"))
                nightly(file, text, "nothing new")
                forget = open_ledger("log", text, common.HERE.parent, create=True)
                forget.execute(Statement(FORGET[dialect].format(share=max(1, options.rows // 1000)), ()))
                forget.close()
                nightly(file, text, "1,000 new")


if __name__ == "__main__":
    main()
