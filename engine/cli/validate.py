"""`validate`: report all problems of specs and templates at once."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.kind import is_job
from engine.cli.say import safe, say, say_json
from engine.errors import Problem
from engine.observe import masks
from engine.observe.words import count
from engine.sync.spec.across import across
from engine.sync.spec.load import Examined, examine

EPILOG = """\b
Examples:
  syncledger validate pipelines/*.yaml
  syncledger validate pipelines/*.yaml --format github     annotations in a pull request
  syncledger validate pipelines/sync.yaml --connect        also opens the databases
  syncledger validate pipelines/sync.yaml --connect --api  and tries the token
"""


@click.command(epilog=EPILOG)
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SPEC...")
@click.option("--connect", is_flag=True, help="Also open the connections and compare columns, IDs and ledger tables.")
@click.option(
    "--api", is_flag=True, help="Also fetch the token and try the credentials with the request of `api.check`."
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    help="json, or GitHub annotations.",
)
def validate(specs: tuple[Path, ...], connect: bool, api: bool, format_: str) -> int:
    """Show all problems of all SPECs as file:line:column: message. Warnings alone leave exit code 0."""
    jobs = [spec for spec in specs if is_job(spec)]
    found = [examine(spec) for spec in specs if spec not in jobs]
    problems = [problem for loaded in found for problem in loaded.problems]
    unreachable = False
    if connect or api:
        problems, unreachable = _outside(found, connect=connect, api=api, quiet=format_ == "json")
    problems += [
        Problem(p.file, p.line, p.column, masks.masked(p.message), p.severity)
        for p in across([one.loaded for one in found if one.loaded])
    ]
    problems += [problem for spec in jobs for problem in _problems_of_job(spec)]
    _print(problems, format_, len(specs))
    if any(problem.is_error for problem in problems):
        return 4 if unreachable else 2
    return 0


def _problems_of_job(spec: Path) -> list[Problem]:
    from engine.jobs.spec.load import examine as examine_job  # noqa: PLC0415 - only for a job

    return examine_job(spec).problems


def _outside(found: list[Examined], *, connect: bool, api: bool, quiet: bool) -> tuple[list[Problem], bool]:
    """Return all problems, with those of databases and API, and whether one of these was unreachable and no spec is wrong.

    A missing variable is an error here.
    """
    from engine.runtime.api_check import check_api  # noqa: PLC0415 - petl and drivers only where they are used
    from engine.runtime.connection_check import check_connections  # noqa: PLC0415

    problems = [problem.in_the_way() or problem for one in found for problem in one.problems]
    wrong_spec = any(problem.is_error for one in found for problem in one.problems)
    failed, met = False, []
    for loaded in [one.loaded for one in found if one.loaded]:
        if connect:
            checked = check_connections(loaded)
            met += checked.problems
            failed = failed or checked.database_failed
        if api:
            tried = check_api(loaded)
            met += tried.problems
            failed = failed or tried.unreachable
            if tried.answered and not quiet:
                say(f"{loaded.pipeline.name}: {tried.answered}", err=True)
    problems += [Problem(p.file, p.line, p.column, masks.masked(p.message), p.severity) for p in met]
    return problems, failed and not wrong_spec


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
        errors = sum(problem.is_error for problem in problems)
        what = f"{count(errors, 'error')}, {count(len(problems) - errors, 'warning')}" if problems else "no problems"
        say(f"{count(specs, 'spec')}: {what}", err=True)


def _annotation(problem: Problem) -> str:
    """Escaped as in https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""
    message = safe(problem.message).replace("%", "%25")
    file = safe(problem.file).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{problem.severity} file={file},line={problem.line},col={problem.column}::{message}"
