"""Commands in this process, with what they printed kept at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import inside


class Engine:
    """`engine("plan", file)` runs a command and keeps its exit code, output and errors."""

    def __init__(self) -> None:
        self.code, self.out, self.err = 0, "", ""

    def __call__(self, *arguments: str | Path, code: int | None = 0) -> str:
        """Run `python -m engine ARGUMENTS`, check the exit code, give what stands on stdout."""
        finished = inside.call([*map(str, arguments)], Path.cwd(), {"COLUMNS": "200"}, None)
        self.code, self.out, self.err = finished.returncode, finished.stdout, finished.stderr
        assert code is None or self.code == code, f"exit {self.code}\n{self.out}\n{self.err}"
        return self.out

    def json(self, *arguments: str | Path, code: int | None = 0) -> Any:
        """The same with `--format json`; gives the document."""
        return json.loads(self(*arguments, "--format", "json", code=code))
