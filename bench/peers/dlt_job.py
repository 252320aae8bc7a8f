"""The dlt pipeline of bench/peers/run.py: users from SQLite by a cursor, POSTed by a custom destination.

python dlt_job.py sqlalchemy mdm.db http://127.0.0.1:PORT/users 1
python dlt_job.py pyarrow mdm.db http://127.0.0.1:PORT/users 8

Its state stays in `pipelines/` of the working folder. It runs in the peers' own environment, which has no SyncLedger.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import dlt
from dlt.common import json
from dlt.sources.helpers import requests
from dlt.sources.sql_database import sql_table

BATCH = 3_000
PAGE = 10_000
COLUMNS = ["Id", "NoReg", "Username", "Name", "Gender", "Email", "IsActive"]


def post(items: Any, table: Any, url: str = dlt.config.value, token: str = dlt.secrets.value) -> None:
    """One batch is one call; dlt's `requests` repeats a 429, a 5xx and a broken connection."""
    # dlt's JSON files leave out what is null, its Parquet files do not.
    empty = dict.fromkeys(table["columns"])
    records = [empty | item for item in items] if isinstance(items, list) else items.to_pylist()
    body = json.dumpb(records)
    # dlt keeps a batch in its load package until it is loaded: after a crash the same batch comes with the same bytes.
    key = hashlib.sha256(url.encode() + body).hexdigest()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", "Idempotency-Key": key}
    requests.post(url, data=body, headers=headers).raise_for_status()


def main(backend: str, source: str, url: str, in_flight: str) -> None:
    destination = dlt.destination(
        post,
        name="partner",
        batch_size=BATCH,
        loader_file_format="parquet" if backend == "pyarrow" else "typed-jsonl",
        max_parallel_load_jobs=int(in_flight),
    )
    pipeline = dlt.pipeline(
        "users", destination=destination(url=url, token="t"), pipelines_dir=str(Path("pipelines").resolve())
    )
    users = sql_table(
        f"sqlite:///{source}",
        table="TB_M_USER",
        backend=backend,
        # Files are rotated between pages, and each file is a job of its own: to be parallel a page must be a batch.
        chunk_size=PAGE if in_flight == "1" else BATCH,
        included_columns=COLUMNS,
        incremental=dlt.sources.incremental("Id", row_order="asc", range_start="open"),
    )
    # `run` ends after it has loaded what an earlier run left behind.
    if pipeline.has_pending_data:
        pipeline.run()
    pipeline.run(users)


if __name__ == "__main__":
    main(*sys.argv[1:])
