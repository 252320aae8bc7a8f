"""A hand-written loop for one table: the reference of bench/compare.py.

It runs the engine's statements (keyset page, set-based exclusion, one set-based tracking insert and one log row per
call) and its POSTs with raw sqlite3, orjson and http.client, and nothing else: no checks, no retries, no spec.

    python bench/handloop.py SOURCE.db LEDGER.db http://127.0.0.1:PORT/users
"""

from __future__ import annotations

import http.client
import sqlite3
import sys
import uuid
from urllib.parse import urlsplit

import orjson

PAGE, BATCH = 10_000, 3_000
COLUMNS = ("Id", "NoReg", "Username", "Name", "Gender", "Email", "IsActive")
SELECT = "SELECT Id, NoReg, Username, Name, Gender, Email, IsActive FROM TB_M_USER"
SCHEMA = """
CREATE TABLE IF NOT EXISTS TB_R_SYNC_TRACKING (Id INTEGER PRIMARY KEY AUTOINCREMENT, EntityType NVARCHAR(100) NOT NULL,
  EntityId NVARCHAR(255) NOT NULL, SyncTimestamp DATETIME2 NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')));
CREATE UNIQUE INDEX IF NOT EXISTS UQ ON TB_R_SYNC_TRACKING (EntityType, EntityId);
CREATE TABLE IF NOT EXISTS SchedulerLog (ID TEXT PRIMARY KEY, LogID TEXT, Activity TEXT, Status TEXT, AdditionalInformation TEXT, CreatedOn DATETIME2);
"""
TRACKED = """SELECT ids.value FROM json_each(?) AS ids
WHERE EXISTS (SELECT 1 FROM TB_R_SYNC_TRACKING t WHERE t.EntityType = 'Users' AND t.EntityId = ids.value)"""
TRACK = "INSERT INTO TB_R_SYNC_TRACKING (EntityType, EntityId) SELECT 'Users', value FROM json_each(?) WHERE 1 ON CONFLICT DO NOTHING"
LOG = "INSERT INTO SchedulerLog VALUES (?, ?, 'Sync Batch: Users', ?, ?, strftime('%Y-%m-%d %H:%M:%f', 'now'))"


def main(source_file: str, ledger_file: str, url: str) -> None:
    source = sqlite3.connect(f"file:{source_file}?mode=ro", uri=True, isolation_level=None)
    ledger = sqlite3.connect(ledger_file, isolation_level=None)
    ledger.executescript(SCHEMA)
    place = urlsplit(url)
    api = http.client.HTTPConnection(place.hostname or "", place.port)
    run, sent = str(uuid.uuid4()), 0
    due: list[tuple[object, ...]] = []

    def send(rows: list[tuple[object, ...]]) -> None:
        nonlocal sent
        body = orjson.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows])
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": str(uuid.uuid4()),
            "Authorization": "Bearer t",
        }
        api.request("POST", place.path, body, headers)
        answer = api.getresponse()
        answer.read()
        information = orjson.dumps({"HttpResponseCode": answer.status, "BatchSize": len(rows)}).decode()
        ledger.execute(LOG, (str(uuid.uuid4()), run, "Success" if answer.status == 200 else "Failure", information))
        if answer.status == 200:
            ledger.execute(TRACK, (orjson.dumps([row[0] for row in rows]).decode(),))
            sent += len(rows)

    page = source.execute(f"SELECT * FROM ({SELECT}) ORDER BY Id LIMIT ?", (PAGE,)).fetchall()
    while page:
        tracked = {value for (value,) in ledger.execute(TRACKED, (orjson.dumps([row[0] for row in page]).decode(),))}
        due += [row for row in page if row[0] not in tracked]
        while len(due) >= BATCH:
            send(due[:BATCH])
            due = due[BATCH:]
        page = source.execute(
            f"SELECT * FROM ({SELECT}) WHERE Id > ? ORDER BY Id LIMIT ?", (page[-1][0], PAGE)
        ).fetchall()
    if due:
        send(due)
    print(f"{sent:,} records sent")


if __name__ == "__main__":
    main(*sys.argv[1:])
