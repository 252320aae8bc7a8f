"""`completion`: the shell script that completes commands and options."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, get_completion_class

from engine.cli.main import COMPLETE
from engine.cli.say import say_exact

PROGRAM = "syncledger"
EPILOG = """\b
Examples:
  syncledger completion bash >> ~/.bashrc
  syncledger completion zsh >> ~/.zshrc
  syncledger completion fish > ~/.config/fish/completions/syncledger.fish
  syncledger completion powershell >> $PROFILE
"""
_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $env:%(complete_var)s = 'powershell_complete'
    $env:COMP_WORDS = ($commandAst.CommandElements | ForEach-Object { $_.ToString() }) -join "`n"
    $env:COMP_WORD = $wordToComplete
    try {
        %(prog_name)s | ForEach-Object {
            $value, $help = $_ -split "`t", 2
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:%(complete_var)s, Env:COMP_WORDS, Env:COMP_WORD
    }
}
"""


class PowerShell(ShellComplete):
    """Completion in PowerShell 5 and later; without candidates the shell completes file names itself."""

    name = "powershell"
    source_template = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the word at it."""
        words, incomplete = os.environ["COMP_WORDS"].split("\n")[1:], os.environ.get("COMP_WORD", "")
        if incomplete and words and words[-1] == incomplete:
            words.pop()
        return words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return a line: value, tab, help (PowerShell rejects an empty help)."""
        return f"{item.value}\t{item.help or item.value}"

    def complete(self) -> str:
        """Return all candidates, one per line; file names are left to the shell."""
        args, incomplete = self.get_completion_args()
        items = self.get_completions(args, incomplete)
        return "\n".join(self.format_completion(item) for item in items if item.type == "plain")


add_completion_class(PowerShell)


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "powershell"]))
def completion(shell: str) -> int:
    """Print the script that makes SHELL complete the commands and options of `syncledger`.

    Put it where your shell reads its settings at a start (see the examples), and start the shell anew."""
    root = click.get_current_context().find_root().command
    found = get_completion_class(shell)
    assert found is not None, "each choice has one"  # noqa: S101
    say_exact(found.source_template % found(root, {}, PROGRAM, COMPLETE).source_vars())
    return 0
