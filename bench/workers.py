"""Speed-up by workers: one process, then two, on the same rows and the same local API.

python bench/workers.py                       500,000 users, SQLite
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import common


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--most", type=int, default=2)
    options = parser.parse_args()
    found: dict[int, list[float]] = {workers: [] for workers in range(1, options.most + 1)}
    with tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name, common.api() as url:
        folder = Path(name)
        common.source(folder, options.rows)
        for number in range(options.times):
            for workers, walls in found.items():
                ledger = f"w{workers}x{number}.db"
                command = common.run(common.spec(folder, ledger[:-3], url, ledger=ledger), "--workers", str(workers))
                walls.append(common.measure(command, folder).wall)
    alone = statistics.median(found[1])
    for workers, walls in found.items():
        median = statistics.median(walls)
        print(
            f"{workers} workers: {median:5.1f} s ({min(walls):.1f} to {max(walls):.1f}), {alone / median:.2f}x as fast as one"
        )


if __name__ == "__main__":
    main()
