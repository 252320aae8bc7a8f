"""How cost grows: a chart of time and memory over 10^3 to 10^7 records.

    python bench/grow.py                          writes bench/grow.svg
    python bench/grow.py --most 100000 --out some.svg

The largest size needs about 6 GB of disk and some minutes.

At each size: the first run (everything is new), one with nothing new, one with 1,000 new records, the second run on a
ledger with contents and a long journal, and the second run on one whose records are all rejected.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from pathlib import Path

import common

KINDS = {
    "first run": "#2563eb",
    "nothing new": "#059669",
    "1,000 new": "#d97706",
    "contents and journal": "#7c3aed",
    "all refused": "#dc2626",
}
Points = dict[str, list[tuple[int, float, float]]]


def sample(url: str, rows: int, times: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds and megabytes of each kind of run at one size."""
    found: dict[str, list[common.Measured]] = {kind: [] for kind in KINDS}
    for number in range(times):
        with tempfile.TemporaryDirectory(prefix="syncledger-bench-") as name:
            folder = Path(name)
            common.source(folder, rows)
            command = common.run(common.spec(folder, f"grow{rows}x{number}", url))
            found["first run"].append(common.measure(command, folder))
            found["nothing new"].append(common.measure(command, folder))
            common.add(folder, 1000)
            found["1,000 new"].append(common.measure(command, folder))
            small = {"ledger": "contents.db", "extra": "resend: changed\n    batch_size: 500"}
            command = common.run(common.spec(folder, f"contents{rows}x{number}", url, **small))
            common.measure(command, folder)
            found["contents and journal"].append(common.measure(command, folder))
            broken = common.spec(folder, f"refused{rows}x{number}", url, ledger="refused.db")
            broken.write_text(broken.read_text().replace("Username: string", "Username: int"))
            common.measure(common.run(broken), folder, code=1)
            found["all refused"].append(common.measure(common.run(broken), folder, code=1))
    return {
        kind: (statistics.median(m.wall for m in made), statistics.median(m.peak for m in made))
        for kind, made in found.items()
    }


def picture(points: Points) -> str:
    """Return an SVG of two logarithmic panels: seconds, and megabytes."""
    last = max(math.ceil(math.log10(row[0])) for rows in points.values() for row in rows)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 380" font-family="sans-serif" font-size="12">',
        '<rect width="900" height="380" fill="white"/>',
    ]
    for panel, (title, column, low, high) in enumerate(
        (("seconds, whole process", 1, 0.1, 1000.0), ("peak memory, MB", 2, 10.0, 1000.0))
    ):
        left = 60 + panel * 440
        parts.append(f'<text x="{left}" y="24" font-size="14" font-weight="bold">{title}</text>')
        parts += _axes(left, low, high, last)
        for number, (kind, colour) in enumerate(KINDS.items()):
            places = [(_x(left, row[0], last), _y(row[column], low, high), row[column]) for row in points[kind]]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{value:.1f}</title></circle>'
                for x, y, value in places
            ]
            parts.append(f'<text x="{left + 20}" y="{60 + 18 * number}" fill="{colour}">{kind}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(left: float, rows: int, last: int) -> float:
    return left + (math.log10(rows) - 3) / (last - 3) * 360


def _y(value: float, low: float, high: float) -> float:
    return 330 - (math.log10(max(value, low)) - math.log10(low)) / math.log10(high / low) * 290


def _axes(left: float, low: float, high: float, last: int) -> list[str]:
    made = [f'<rect x="{left}" y="40" width="360" height="290" fill="none" stroke="#9ca3af"/>']
    for power in range(3, last + 1):
        x = _x(left, 10**power, last)
        made.append(f'<line x1="{x}" y1="40" x2="{x}" y2="330" stroke="#e5e7eb"/>')
        made.append(f'<text x="{x}" y="348" text-anchor="middle">{10**power:,}</text>')
    value = low
    while value <= high:
        y = _y(value, low, high)
        made.append(f'<line x1="{left}" y1="{y}" x2="{left + 360}" y2="{y}" stroke="#e5e7eb"/>')
        made.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
        value *= 10
    made.append(f'<text x="{left + 180}" y="368" text-anchor="middle">records in the source</text>')
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--out", type=Path, default=common.HERE / "grow.svg")
    options = parser.parse_args()
    points: Points = {kind: [] for kind in KINDS}
    with common.api() as url:
        rows = 1000
        while rows <= options.most:
            for kind, (wall, peak) in sample(url, rows, options.times if rows < 10**7 else 1).items():
                points[kind].append((rows, wall, peak))
                print(f"{rows:>10,} {kind:12} {wall:6.2f} s {peak:5.0f} MB", flush=True)
            rows *= 10
    options.out.write_text(picture(points), encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
