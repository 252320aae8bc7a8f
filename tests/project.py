"""A project in a temporary folder: write a spec, fill its source, run the command line, look at the ledger."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests import inside

ROOT = Path(__file__).parent.parent


class Project:
    """`spec` is a dict that becomes pipelines/sync.yaml; the source is source.db and the ledger log.db, both SQLite."""

    def __init__(self, folder: Path, api_url: str = "http://127.0.0.1:9") -> None:
        self.folder = folder
        (folder / "templates" / "sql").mkdir(parents=True)
        (folder / "pipelines").mkdir()
        self.file = folder / "pipelines" / "sync.yaml"
        self.environment: dict[str, str] = {}
        self.spec: dict[str, Any] = {
            "version": 1,
            "name": "sync",
            "connections": {"default": "sqlite:///source.db", "log": "sqlite:///log.db"},
            "api": {"base_url": api_url, "retry": {"attempts": 2, "wait": "10ms", "max_wait": "1s"}, "timeout": "5s"},
            "entities": [],
        }

    # Writing

    def entity(self, name: str = "Users", **keys: Any) -> dict[str, Any]:
        """Add an entity that reads a table of its own name, and give it."""
        made = {"name": name, "query": f"SELECT * FROM {name}", "endpoint": f"/{name.lower()}", **keys}
        if "sql" in keys:
            del made["query"]
        self.spec["entities"].append(made)
        return made

    def write(self, text: str | None = None) -> Path:
        """Write the spec (or this text); gives the file."""
        self.file.write_text(
            text if text is not None else yaml.safe_dump(self.spec, sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )
        return self.file

    def template(self, name: str, text: str) -> Path:
        """Write a template."""
        file = self.folder / "templates" / "sql" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def fill(self, table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Make a table in the source, `columns` as in CREATE TABLE, and insert rows."""
        with sqlite3.connect(self.folder / "source.db") as connection:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            rows = list(rows)
            if rows:
                connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        connection.close()

    def users(self, count: int, table: str = "Users") -> None:
        """A table with whole-number IDs from 1 and a name."""
        self.fill(
            table, "Id INTEGER PRIMARY KEY, Name TEXT", ((number, f"name {number}") for number in range(1, count + 1))
        )

    # Running

    def cli(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        input: str | None = None,
        process: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """`python -m engine ARGUMENTS` in the project's folder: inside this process where that is possible, or with `process` as one of its own."""
        texts, given = [str(argument) for argument in arguments], {**self.environment, **(env or {})}
        if not process and inside.possible(texts, given):
            return inside.call(texts, self.folder, given, input)
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.env(env), capture_output=True, text=True, timeout=timeout,
            check=False, encoding="utf-8", input=input,
        )  # fmt: skip

    def popen(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The same, in the background."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.env(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "engine", *map(str, arguments)]

    def env(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **self.environment, **(extra or {})}

    def run(self, *arguments: str, code: int | None = 0, env: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Write the spec, run it with `--format json`, check the exit code, give the document."""
        self.write()
        finished = self.cli("run", self.file, "--format", "json", *arguments, env=env)
        assert code is None or finished.returncode == code, (
            f"exit {finished.returncode}\n{finished.stdout}\n{finished.stderr}"
        )
        return json.loads(finished.stdout)

    # Looking

    def ledger(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """A query on the SQLite ledger."""
        connection = sqlite3.connect(self.folder / "log.db")
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    def write_ledger(self, sql: str, *parameters: Any) -> None:
        """A statement on the SQLite ledger, behind the engine's back."""
        with contextlib.closing(sqlite3.connect(self.folder / "log.db")) as connection, connection:
            connection.execute(sql, parameters)

    def tracked(self, entity: str = "Users") -> list[str]:
        """The tracked IDs of an entity."""
        return [
            row[0]
            for row in self.ledger("SELECT EntityId FROM TB_R_SYNC_TRACKING WHERE EntityType = ? ORDER BY Id", entity)
        ]

    def log_rows(self, entity: str = "Users") -> list[dict[str, Any]]:
        """The rows of SchedulerLog of an entity's calls: status, information, exception."""
        rows = self.ledger(
            "SELECT Status, AdditionalInformation, ExceptionMessage FROM SchedulerLog WHERE Activity = ? ORDER BY CreatedOn, rowid",
            f"Sync Batch: {entity}",
        )
        return [
            {"status": status, "information": json.loads(information), "exception": exception}
            for status, information, exception in rows
        ]

    def rejects(self, entity: str = "Users") -> dict[str, str]:
        """Rejected IDs and their reasons."""
        return dict(self.ledger("SELECT EntityId, Reason FROM TB_R_SYNC_REJECT WHERE EntityType = ?", entity))


def check_sums(report: dict[str, Any]) -> None:
    """What section `run` of the guide promises of every entity's counts."""
    for entity in report["entities"]:
        assert entity["read"] == entity["excluded"] + entity["dropped"] + entity["waiting"] + entity["due"], entity
        assert entity["due"] == entity["accepted"] + entity["rejected"] + entity["failed"] + entity["in_doubt"], entity
