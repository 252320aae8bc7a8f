"""A project with one job on any database, whose effects are counted in a table of their own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests import inside
from tests.conftest import fill
from tests.project import ROOT

EFFECT = "INSERT INTO EFFECT (Item, Step) VALUES ({{ item.Id }}, '%s')"


class JobProject:
    """`spec` becomes jobs/close.yaml; `target` is the database of its steps, `store` that of its runs."""

    def __init__(self, folder: Path, target: str, store: str | None = None, items: int = 3) -> None:
        self.folder, self.target = folder, target
        (folder / "templates" / "sql").mkdir(parents=True)
        (folder / "jobs").mkdir()
        self.file = folder / "jobs" / "close.yaml"
        self.store = store or f"sqlite:///{folder / 'var' / 'jobs.db'}"
        if store:
            project = {"version": 1, "name": "conso", "store": store}
            (folder / "project.yaml").write_text(yaml.safe_dump(project))
        rows = ", ".join(f"({number}, 'C{number}')" for number in range(1, items + 1))
        fill(
            target, "CREATE TABLE CONSO (Id INTEGER PRIMARY KEY, Code VARCHAR(20))", f"INSERT INTO CONSO VALUES {rows}"
        )
        fill(target, "CREATE TABLE EFFECT (Item INTEGER NOT NULL, Step VARCHAR(50) NOT NULL)")
        self.spec: dict[str, Any] = {
            "version": 1,
            "name": "close",
            "connections": {"conso": target},
            "for_each": {
                "query": "SELECT Id, Code FROM CONSO ORDER BY Id",
                "key": "Id",
                "label": "Code",
                "noun": "Conso",
            },
            "steps": [{"name": name, "sql": EFFECT % name} for name in ("one", "two")],
        }

    def write(self) -> Path:
        self.file.write_text(yaml.safe_dump(self.spec, sort_keys=False))
        return self.file

    def cli(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, process: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """A command in the project's folder."""
        texts = [*map(str, arguments)]
        if not process and inside.possible(texts, env or {}):
            return inside.call(texts, self.folder, env or {}, None)
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.env(env),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def popen(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.env(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "engine", *map(str, arguments)]

    def env(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **(extra or {})}

    def run(self, *options: str, code: int = 0) -> dict[str, Any]:
        """Write the job and run it; returns the document."""
        return self.document("run", str(self.write()), *options, code=code)

    def document(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        done = self.cli(*arguments, "--format", "json")
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        check(found)
        return found

    def effects(self) -> Counter[tuple[int, str]]:
        """How often each step of each item has had its effect, as the target itself tells."""
        return Counter((int(item), step) for item, step in rows(self.target, "SELECT Item, Step FROM EFFECT"))


def rows(text: str, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query, read beside the engine."""
    if text.startswith("sqlite:///"):
        connection = sqlite3.connect(text.removeprefix("sqlite:///"))
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()
    import pyodbc

    with pyodbc.connect(text, autocommit=True) as odbc:
        return [tuple(row) for row in odbc.execute(sql).fetchall()]


def check(document: dict[str, Any]) -> None:
    """What every run's counts promise."""
    counts = document.get("items")
    if isinstance(counts, dict):
        assert counts["total"] == sum(value for key, value in counts.items() if key != "total"), counts
