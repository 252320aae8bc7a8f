"""Memory must not grow with the table: peaks of whole processes at two sizes, on SQLite and on PostgreSQL over ODBC.

python bench/memory.py                        100,000 and 1,000,000 users, 8 calls in flight
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import common


def peak(command: list[str], folder: Path) -> float:
    """Return the peak megabytes of a first run."""
    return common.measure(command, folder).peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--in-flight", type=int, default=8)
    options = parser.parse_args()
    found: dict[str, list[float]] = {"SQLite": [], "PostgreSQL over ODBC": []}
    with common.api() as url, common.postgresql() as database:
        for rows in (options.rows // 10, options.rows):
            with tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name:
                folder = Path(name)
                common.source(folder, rows)
                spec = common.spec(folder, f"lite{rows}", url, in_flight=options.in_flight)
                found["SQLite"].append(peak(common.run(spec), folder))
                text, ledger = database(f"source{rows}"), database(f"ledger{rows}")
                common.users(text, rows)
                spec = common.spec(folder, f"odbc{rows}", url, source=text, ledger=ledger, in_flight=options.in_flight)
                found["PostgreSQL over ODBC"].append(peak(common.run(spec), folder))
    for kind, (small, large) in found.items():
        print(
            f"{kind:22} {options.rows // 10:>9,} users {small:5.0f} MB   {options.rows:>9,} users {large:5.0f} MB   "
            f"{100 * (large / small - 1):+.1f}%"
        )


if __name__ == "__main__":
    main()
