"""The group of commands, quick to start, and the one place that turns errors into exit codes."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from engine import __version__, failpoint
from engine.cli.say import say, say_json
from engine.errors import Exit, SpecError, SyncLedgerError
from engine.observe.masks import masked
from engine.observe.printable import printable
from engine.runtime.memory import collect_rarely

COMPLETE = "_SYNCLEDGER_COMPLETE"
"""The variable by which a shell's script (`completion`) asks what it may offer."""

# Of each command: its module, and its line in the help.
COMMANDS = {
    "run": ("engine.cli.run", "Send everything that is due, or run a job, once."),
    "plan": ("engine.cli.plan", "Show what a run would send; sends and writes nothing."),
    "validate": ("engine.cli.validate", "Show everything that is wrong with specs and templates."),
    "schedule": ("engine.cli.schedule", "Keep running pipelines when they are due."),
    "status": ("engine.cli.status", "Last runs, and what stands in the ledger."),
    "runs": ("engine.cli.runs", "The latest runs of jobs."),
    "show": ("engine.cli.runs", "What a run of a job did, item by item."),
    "cancel": ("engine.cli.runs", "End a run of a job; its SQL really stops."),
    "resume": ("engine.cli.job", "Go on with a run of a job where it failed or was cut off."),
    "why": ("engine.cli.why", "The life of one record, in plain sentences."),
    "rejects": ("engine.cli.rejects", "The records that were rejected, as a table, CSV or JSON."),
    "retry": ("engine.cli.operator", "Offer rejected records again with the next run."),
    "resolve": ("engine.cli.operator", "Settle a batch in doubt by hand."),
    "unlock": ("engine.cli.operator", "Break the lease of a run that is gone."),
    "baseline": ("engine.cli.operator", "Track an entity's records without sending them."),
    "forget": ("engine.cli.operator", "Un-track records, so that the next run offers them again."),
    "prune": ("engine.cli.prune", "Delete what is old in the ledger and not needed any more."),
    "migrate": ("engine.cli.migrate", "Bring the ledger's tables to this version."),
    "init": ("engine.cli.init", "Write a new project to start from."),
    "demo": ("engine.cli.demo", "The whole thing on SQLite with generated HR data."),
    "receive": ("engine.cli.receive", "A local API that counts what arrives."),
    "completion": ("engine.cli.completion", "Completion of commands and options for your shell."),
}

EPILOG = """\b
Exit codes: 0 all that was due is delivered, 1 something was not, 2 the spec or
the usage is wrong, 3 another run holds the lease, 4 a database could not be
read or written, 5 a run waits for a person, 130 cancelled, 70 a bug.
\b
Start here:
  syncledger demo                       see it work in a minute
  syncledger init my-project            a project of your own
  syncledger validate pipelines/*.yaml  in CI
  syncledger run pipelines/sync.yaml    the job
"""


class _Lazy(click.Group):
    """Imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown command is answered with the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no such command {printable(args[0])!r}{_nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands by their names alone: no module is loaded for them."""
        names = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *super(click.Group, self).shell_complete(ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'run'?`, or where the list is."""
    near = difflib.get_close_matches(word.casefold(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else "; `syncledger --help` lists the commands"


@click.group(cls=_Lazy, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="syncledger")
def cli() -> None:
    """Move records from databases to third-party APIs: nothing lost, nothing sent twice unnoticed."""


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    collect_rarely()
    _tolerant_streams()
    invalid = failpoint.invalid()
    if invalid:
        say(f"error: {invalid}", err=True)
        sys.exit(Exit.USAGE)
    if os.environ.get(COMPLETE, "").startswith("powershell"):
        importlib.import_module("engine.cli.completion")  # click does not know this shell
    try:
        result = cli.main(prog_name="syncledger", standalone_mode=False, complete_var=COMPLETE)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.ClickException as failure:
        _show_usage(failure)
        sys.exit(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        say("cancelled", err=True)
        sys.exit(Exit.CANCELLED)
    except BrokenPipeError:
        # The reader of our output left (`| head`): nothing more can be said to it.
        sys.stderr.close()
        sys.exit(Exit.INCOMPLETE)
    except SpecError as failure:
        for problem in failure.problems:
            say(str(problem), err=True)
        sys.exit(failure.exit_code)
    except SyncLedgerError as failure:
        _show(failure)
        sys.exit(failure.exit_code)
    except Exception as bug:  # noqa: BLE001 - the last line of defence: a report instead of a traceback
        _report(bug)
        sys.exit(Exit.BUG)
    sys.exit(result if isinstance(result, int) else 0)


def _show(failure: SyncLedgerError) -> None:
    """The error on stderr; and as the one document on stdout where JSON was asked for."""
    say(f"error: {failure}", err=True)
    if "--format=json" in sys.argv or ("--format", "json") in pairwise(sys.argv):
        say_json({"error": str(failure)})


def _show_usage(failure: click.ClickException) -> None:
    """What click has to say: several lines, which may repeat what was typed."""
    said = io.StringIO()
    failure.show(said)
    for line in said.getvalue().rstrip("\n").split("\n"):
        say(line.replace("\t", "    "), err=True)


def _tolerant_streams() -> None:
    """A console that is not UTF-8 shows `?` for what it cannot show, and never ends the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _report(bug: Exception) -> None:
    text = masked("".join(traceback.format_exception(bug)))
    with tempfile.NamedTemporaryFile(
        "w", prefix="syncledger-bug-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
    ) as file:
        file.write(f"syncledger {__version__}, Python {sys.version}\n{text}")
    say(f"This is a bug in SyncLedger: {type(bug).__name__}. A report was saved: {Path(file.name)}", err=True)
