"""`schedule`: the loop that runs pipelines when they are due."""

from __future__ import annotations

import heapq
import os
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import click

from engine.cli import common
from engine.cli.say import say, say_json
from engine.context import utc_now
from engine.errors import LedgerError, SpecError
from engine.runtime import signals
from engine.runtime.schedule import Coming, Entry, Loop, Memory, coming, entries, run_spec

EPILOG = """\b
Examples:
  syncledger schedule pipelines/*.yaml
  syncledger schedule pipelines/*.yaml --next 10      the coming times, then leave
  syncledger schedule pipelines/sync.yaml --log-format json
\b
Each due time loads its spec anew, so a changed entity needs no restart; a
changed schedule does. SIGTERM finishes what is on the wire and leaves: with 130 where a
run was cut short, with 0 where none was.
"""


@click.command(epilog=EPILOG)
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SPEC...")
@click.option(
    "--next",
    "count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print the next N due times of a start now and leave.",
)
@common.format_option
@common.log_options
def schedule(specs: tuple[Path, ...], count: int | None, format_: str, log_format: str, quiet: bool) -> int:
    """Run each SPEC when its schedule says so, in this process, until SIGINT or SIGTERM."""
    common.log_setup(log_format, quiet=quiet)
    try:
        made, loaded = entries(list(specs))
    except SpecError as failure:
        common.leave_with_problems(failure, format_)
    memory = Memory(loaded)
    if count:
        return _show(made, memory, count, format_)
    with signals.cancel_on_signals(lambda: os._exit(130)) as cancelled:
        loop = Loop(made, cancelled, utc_now, run_spec, memory)
        loop.run()
    return 130 if loop.cut_short else 0


def _show(made: list[Entry], memory: Memory, count: int, format_: str) -> int:
    """Print the next due times of a start now. Leaves out a pipeline whose ledger cannot be read, and returns 4."""
    now, plans, failed = utc_now(), [], False
    for entry in made:
        try:
            plans.append(coming(entry, memory.look(entry), now))
        except LedgerError as failure:
            failed = True
            say(f"error: {entry.name}: {failure}", err=True)
    times = list(islice(heapq.merge(*plans, key=lambda coming: coming.due), count))
    if format_ == "json":
        say_json([{**asdict(time), "due": time.due.isoformat(timespec="seconds")} for time in times])
    else:
        for time in times:
            say(_line(time))
    return 4 if failed else 0


def _line(time: Coming) -> str:
    why = f"  {'now: ' if time.at_once else ''}{time.why}" if time.why else ""
    return f"{time.due.isoformat(timespec='seconds')}  {time.pipeline}{why}"
