"""`validate`: everything that is wrong with specs and templates, at once."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.say import safe, say, say_json
from engine.errors import Problem
from engine.observe import masks
from engine.spec.across import across
from engine.spec.load import Loaded, examine

EPILOG = """\b
Examples:
  python -m engine validate pipelines/*.yaml
  python -m engine validate pipelines/*.yaml --format github     annotations in a pull request
  python -m engine validate pipelines/sync.yaml --connect        also opens the databases
"""


@click.command(epilog=EPILOG)
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SPEC...")
@click.option("--connect", is_flag=True, help="Also open the connections and compare columns, IDs and ledger tables.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    help="json, or GitHub annotations.",
)
def validate(specs: tuple[Path, ...], connect: bool, format_: str) -> int:
    """Show all problems of all SPECs as file:line:column: message. Warnings alone leave exit code 0."""
    found = [examine(spec) for spec in specs]
    problems = [problem for loaded in found for problem in loaded.problems]
    database_failed = False
    if connect:
        problems, database_failed = _with_connections(found)
    problems += [Problem(p.file, p.line, p.column, masks.masked(p.message), p.severity) for p in across(found)]
    _print(problems, format_, len(specs))
    if any(problem.severity == "error" for problem in problems):
        return 4 if database_failed else 2
    return 0


def _with_connections(found: list[Loaded]) -> tuple[list[Problem], bool]:
    """All problems, those of the databases too; a missing variable is an error here."""
    from engine.connectcheck import check_connections  # noqa: PLC0415 - petl and drivers only where they are used

    problems: list[Problem] = []
    failed = False
    for loaded in found:
        for problem in loaded.problems:
            missing = "environment variable" in problem.message
            problems.append(
                Problem(
                    problem.file,
                    problem.line,
                    problem.column,
                    problem.message,
                    "error" if missing else problem.severity,
                )
            )
        if loaded.pipeline:
            checked = check_connections(loaded)
            problems += [
                Problem(p.file, p.line, p.column, masks.masked(p.message), p.severity) for p in checked.problems
            ]
            failed = failed or checked.database_failed
    return problems, failed and not any(problem.severity == "error" for loaded in found for problem in loaded.problems)


def _print(problems: list[Problem], format_: str, specs: int) -> None:
    if format_ == "json":
        rows = [
            {"file": p.file, "line": p.line, "column": p.column, "message": p.message, "severity": p.severity}
            for p in problems
        ]
        say_json({"problems": rows})
        return
    for problem in problems:
        say(_annotation(problem) if format_ == "github" else str(problem))
    if format_ == "text":
        errors = sum(problem.severity == "error" for problem in problems)
        warnings = len(problems) - errors
        what = (
            f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
            if problems
            else "no problems"
        )
        say(f"{specs} spec{'s' * (specs != 1)}: {what}", err=True)


def _annotation(problem: Problem) -> str:
    """https://docs.github.com/actions/reference/workflow-commands-for-github-actions, escapes included."""
    message = safe(problem.message).replace("%", "%25")
    file = safe(problem.file).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{problem.severity} file={file},line={problem.line},col={problem.column}::{message}"
