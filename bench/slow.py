"""A slow API: how close the engine comes to the ideal when each call takes 200 ms.

    python bench/slow.py                          60,000 users, 8 calls in flight

The ideal is the total time of the calls divided by the calls in flight, plus the hand-written loop's time with a fast API.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import common

DELAY = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    calls = -(-options.rows // 3000)
    with tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name:
        folder = Path(name)
        common.source(folder, options.rows)
        script = folder / "slow.yaml"
        script.write_text(f'"*":\n  - {{ delay: {int(DELAY * 1000)}ms }}\n')
        ratios = []
        with common.api("--script", str(script)) as slow, common.api() as quick:
            for number in range(options.times):
                ledger = f"loop{number}.db"
                loop = [sys.executable, str(common.HERE / "handloop.py"), "mdm.db", ledger, f"{quick}/x{number}"]
                spec = common.spec(folder, f"slow{number}", slow, ledger=f"s{number}.db", in_flight=options.in_flight)
                ideal = calls / options.in_flight * DELAY + common.measure(loop, folder).wall
                engine = common.measure(common.run(spec), folder).wall
                ratios.append(engine / ideal)
                print(f"ideal {ideal:.2f} s   engine {engine:.2f} s   {ratios[-1]:.2f}x")
    print(f"{calls} calls of 200 ms, {options.in_flight} in flight: {statistics.median(ratios):.2f}x of the ideal")


if __name__ == "__main__":
    main()
