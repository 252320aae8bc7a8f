"""Start-up time: help, validation of the shipped spec, and a run of ten records, against bare imports.

python bench/start.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import common


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=15)
    options = parser.parse_args()
    engine = [sys.executable, "-m", "engine"]
    shipped = str(common.HERE.parent / "pipelines" / "sync.yaml")
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name, common.api() as url:
        folder = Path(name)
        common.source(folder, 10)
        for number in range(options.times):
            spec = common.spec(folder, f"ten{number}", url, ledger=f"ten{number}.db")
            for what, command in {
                "import click": [sys.executable, "-c", "import click"],
                "--help": [*engine, "--help"],
                "import click, yaml, jsonschema": [sys.executable, "-c", "import click, yaml, jsonschema"],
                "validate": [*engine, "validate", shipped],
                "run of 10 records": common.run(spec),
            }.items():
                found.setdefault(what, []).append(common.measure(command, folder).wall)
    for what, walls in found.items():
        print(f"{what:32} {statistics.median(walls):.2f} s ({min(walls):.2f} to {max(walls):.2f})")


if __name__ == "__main__":
    main()
