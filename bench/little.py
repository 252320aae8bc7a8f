"""A run with little to do: many records tracked, a few new ones scattered over the key space.

    python bench/little.py                        1,000,000 tracked, 1,000 new
    python bench/little.py --rows 100000

Each `exclude` mode against the bare SQL of its plan in a separate process, run alternately.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import common

# The same reads, with raw sqlite3 and nothing else.
BARE = {
    "lookup": """
page = source.execute(f"SELECT {COLUMNS} FROM TB_M_USER ORDER BY Id LIMIT 10000").fetchall()
while page:
    known = {row[0] for row in ledger.execute(TRACKED, (orjson.dumps([row[0] for row in page]).decode(),))}
    due += [row for row in page if row[0] not in known]
    page = source.execute(f"SELECT {COLUMNS} FROM TB_M_USER WHERE Id > ? ORDER BY Id LIMIT 10000", (page[-1][0],)).fetchall()
""",
    "ids_first": """
page = source.execute("SELECT Id FROM TB_M_USER ORDER BY Id LIMIT 10000").fetchall()
while page:
    known = {row[0] for row in ledger.execute(TRACKED, (orjson.dumps([row[0] for row in page]).decode(),))}
    new = [row[0] for row in page if row[0] not in known]
    if new:
        marks = ", ".join("?" * len(new))
        due += source.execute(f"SELECT {COLUMNS} FROM TB_M_USER WHERE Id IN ({marks})", new).fetchall()
    page = source.execute("SELECT Id FROM TB_M_USER WHERE Id > ? ORDER BY Id LIMIT 10000", page[-1]).fetchall()
""",
    "in_database": """
due = source.execute(f'''SELECT {COLUMNS} FROM TB_M_USER p WHERE NOT EXISTS (SELECT 1 FROM TB_R_SYNC_TRACKING t
    WHERE t.EntityType = 'Users' AND t.EntityId = LOWER(CAST(p.Id AS TEXT))) ORDER BY p.Id''').fetchall()
source.execute("SELECT COUNT(*) FROM TB_M_USER").fetchone()
""",
}
PROGRAM = """
import sqlite3, sys, orjson
COLUMNS = "Id, NoReg, Username, Name, Gender, Email, IsActive"
TRACKED = '''SELECT ids.value FROM json_each(?) AS ids
WHERE EXISTS (SELECT 1 FROM TB_R_SYNC_TRACKING t WHERE t.EntityType = 'Users' AND t.EntityId = ids.value)'''
source, ledger, due = sqlite3.connect(sys.argv[1]), sqlite3.connect(sys.argv[2]), []
{body}
assert len(due) == {new}, len(due)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name, common.api() as url:
        folder = Path(name)
        common.source(folder, options.rows)
        common.measure(common.run(common.spec(folder, "first", url, ledger="mdm.db")), folder)
        common.add(folder, options.new)
        shutil.copy(folder / "mdm.db", folder / "whole.db")
        for way, body in BARE.items():
            # One file with source and ledger serves every mode; two of them open a copy of it as the ledger.
            ledger = "mdm.db" if way == "in_database" else "log.db"
            bare = [sys.executable, "-c", PROGRAM.format(body=body, new=options.new), "mdm.db", ledger]
            spec = common.spec(folder, way, url, ledger=ledger, extra=f"exclude: {way}")
            pairs = []
            for _ in range(options.times):
                shutil.copy(folder / "whole.db", folder / "mdm.db")
                shutil.copy(folder / "whole.db", folder / "log.db")
                pairs.append((common.measure(bare, folder), common.measure(common.run(spec), folder)))
            ratios = [engine.wall / loop.wall for loop, engine in pairs]
            print(
                f"{way:12} bare SQL {statistics.median(loop.wall for loop, _ in pairs):5.2f} s   engine "
                f"{statistics.median(engine.wall for _, engine in pairs):5.2f} s, {statistics.median(e.peak for _, e in pairs):.0f} MB   "
                f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
