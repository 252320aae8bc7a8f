"""Runs one command over several specs, in order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from engine.cli import common
from engine.cli.kind import is_job
from engine.cli.say import collected, say, say_json
from engine.errors import Problem, SpecError
from engine.sync.spec.load import load

_GRAVITY = (0, 1, 3, 2, 4, 70, 130)
"""Exit codes in ascending severity."""
_CANCELLED = 130


def specs(command: Callable[..., int]) -> Callable[..., int]:
    """Add the argument SPEC...: call `command` for each spec in order, and return the most severe exit code.

    All specs are loaded before the first call. For several specs, JSON output is one document: a list under `runs`.
    """

    @functools.wraps(command)
    def each(specs: tuple[Path, ...], **options: Any) -> int:
        if len(specs) == 1:
            return command(spec=specs[0], **options)
        if options.get("entities"):
            raise click.UsageError("--entity names an entity of one SPEC; run that one alone")
        _check(specs, options["format_"])
        as_json = options["format_"] == "json"
        codes: list[int] = []
        with collected() as documents:
            for spec in specs:
                if not as_json:
                    if codes:
                        say()
                    say(f"{spec}:")
                codes.append(command(spec=spec, **options))
                if codes[-1] == _CANCELLED:
                    break
        if as_json:
            say_json({"runs": documents})
        return max(codes, key=_GRAVITY.index)

    return click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SPEC...")(each)


def _check(specs: tuple[Path, ...], format_: str) -> None:
    """Exit with all problems of all specs, before any of them is run."""
    problems: list[Problem] = []
    for spec in specs:
        try:
            _load(spec)
        except SpecError as failure:
            problems += failure.problems
    if problems:
        common.leave_with_problems(SpecError(problems), format_)


def _load(spec: Path) -> None:
    if not is_job(spec):
        load(spec)
        return
    from engine.jobs.spec.load import load as load_job  # noqa: PLC0415 - only for a job

    load_job(spec)
