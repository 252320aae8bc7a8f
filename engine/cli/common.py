"""Shared by the commands: options, reading a spec, printing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.cli.say import safe, say, say_json
from engine.errors import SpecError
from engine.identity import InvalidID, parse
from engine.observe import logs
from engine.observe.masks import masked
from engine.runtime import runner
from engine.sync.model import Entity, Pipeline
from engine.sync.spec.load import Loaded, load

Command = TypeVar("Command", bound=Callable[..., Any])

spec_argument = click.argument("spec", type=click.Path(path_type=Path))
format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    help="json prints one document on stdout.",
)


def log_options(command: Command) -> Command:
    """Add `--quiet` and `--log-format` to a command."""
    command = click.option("-q", "--quiet", is_flag=True, help="No progress; only warnings and errors on stderr.")(
        command
    )
    return click.option(
        "--log-format", type=click.Choice(["text", "json"]), default="text", help="The form of log lines on stderr."
    )(command)


def load_spec(spec: Path, format_: str) -> Loaded:
    """Load a spec and print its warnings. On errors, report them in the requested format and exit with 2."""
    try:
        loaded = load(spec)
    except SpecError as failure:
        leave_with_problems(failure, format_)
    for problem in loaded.problems:
        say(str(problem), err=True)
    return loaded


def chosen(pipeline: Pipeline, names: Sequence[str], format_: str) -> tuple[Entity, ...]:
    """Return the named entities (all without names); exit with 2 for an unknown name."""
    try:
        return runner.chosen(pipeline, names)
    except SpecError as failure:
        leave_with_problems(failure, format_)


def canonical_ids(entity: Entity, texts: Sequence[str]) -> list[str]:
    """Return typed IDs in canonical form, each once. Raises `click.UsageError` for an invalid one."""
    try:
        return list(dict.fromkeys(parse(text, len(entity.id)) for text in texts))
    except InvalidID as failure:
        raise click.UsageError(safe(str(failure))) from failure


def leave_with_problems(failure: SpecError, format_: str) -> NoReturn:
    """Report the problems and exit with 2: as JSON here, as text through `main`."""
    if format_ == "json":
        say_json({"problems": [problem_json(problem) for problem in failure.problems]})
        sys.exit(failure.exit_code)
    raise failure


def problem_json(problem: Any) -> dict[str, Any]:
    """One problem as JSON."""
    return {
        "file": problem.file, "line": problem.line, "column": problem.column,
        "message": problem.message,
    }  # fmt: skip


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or 120 columns without one."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 120
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def table(columns: list[tuple[str, str]], rows: list[list[str]]) -> Table:
    """A plain table; `columns` are titles with `left` or `right`."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title, justify in columns:
        made.add_column(title, justify=justify, no_wrap=justify == "right")  # type: ignore[arg-type]
    for row in rows:
        # Text, not markup: a name may hold brackets.
        made.add_row(*[Text(safe(cell)) for cell in row])
    return made


def print_table(columns: list[tuple[str, str]], rows: list[list[str]]) -> None:
    """Print a table without truncation; a narrower terminal wraps its lines."""
    made, shown = table(columns, rows), console()
    natural = shown.measure(made, options=shown.options.update(width=10_000)).maximum
    shown.width = max(shown.width, natural)
    shown.print(made)


def log_setup(log_format: str, *, quiet: bool) -> logs.Formatter:
    """Set up logging to stderr, with all known secrets masked."""
    formatter = logs.setup(as_json=log_format == "json", quiet=quiet)
    formatter.masks.append(masked)
    return formatter
