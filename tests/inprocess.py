"""The command line in this process, for tests in which the process is not the point."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main as commands
from engine.observe import masks


class Engine:
    """`engine("plan", file)` runs a command and keeps its exit code, output and errors."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch
        monkeypatch.setattr(commands, "collect_rarely", lambda: None)
        monkeypatch.setattr(masks, "_MASKS", [])
        monkeypatch.setenv("COLUMNS", "200")
        logger = logging.getLogger("engine")
        for name, value in (("handlers", []), ("propagate", True), ("level", logging.NOTSET)):
            monkeypatch.setattr(logger, name, value)
        self.code, self.out, self.err = 0, "", ""

    def __call__(self, *arguments: str | Path, code: int | None = 0) -> str:
        """Run `python -m engine ARGUMENTS`, check the exit code, give what stands on stdout."""
        self._monkeypatch.setattr(sys, "argv", ["engine", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            commands.main()
        self.out, self.err = self._capsys.readouterr()
        self.code = leaving.value.code if isinstance(leaving.value.code, int) else 0
        assert code is None or self.code == code, f"exit {self.code}\n{self.out}\n{self.err}"
        return self.out

    def json(self, *arguments: str | Path, code: int | None = 0) -> Any:
        """The same with `--format json`; gives the document."""
        return json.loads(self(*arguments, "--format", "json", code=code))
