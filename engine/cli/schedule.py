"""`schedule`: the loop that runs pipelines when they are due."""

from __future__ import annotations

import heapq
import os
from itertools import islice, repeat
from pathlib import Path

import click

from engine import app
from engine.cli import common
from engine.cli.say import say, say_json
from engine.context import utc_now
from engine.errors import SpecError
from engine.schedule import Loop, Memory, due_times, entries, run_spec

EPILOG = """\b
Examples:
  python -m engine schedule pipelines/*.yaml
  python -m engine schedule pipelines/*.yaml --next 10      the coming times, then leave
  python -m engine schedule pipelines/sync.yaml --log-format json
\b
Each due time loads its spec anew, so a changed entity needs no restart; a
changed schedule does. SIGTERM finishes what is on the wire and leaves with 130.
"""


@click.command(epilog=EPILOG)
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SPEC...")
@click.option("--next", "coming", type=click.IntRange(min=1), metavar="N", help="Print the next N due times and leave.")
@common.format_option
@common.log_options
def schedule(specs: tuple[Path, ...], coming: int | None, format_: str, log_format: str, quiet: bool) -> int:
    """Run each SPEC when its schedule says so, in this process, until SIGINT or SIGTERM."""
    common.log_setup(log_format, quiet=quiet, times=True)
    try:
        made, loaded = entries(list(specs))
    except SpecError as failure:
        common.leave_with_problems(failure, format_)
    if coming:
        now = utc_now()
        merged = heapq.merge(*[zip(islice(due_times(entry.plan, now), coming), repeat(entry.name)) for entry in made])
        times = [{"due": due.isoformat(timespec="seconds"), "pipeline": name} for due, name in islice(merged, coming)]
        if format_ == "json":
            say_json(times)
        else:
            for time in times:
                say(f"{time['due']}  {time['pipeline']}")
        return 0
    with app.cancel_on_signals(lambda: os._exit(130)) as cancelled:
        Loop(made, cancelled, utc_now, run_spec, Memory(loaded)).run()
    return 130
