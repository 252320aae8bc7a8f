"""Shared by the benchmarks: a source of generated users, a local API, and measured processes."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.demo import hr

HERE = Path(__file__).parent
SPEC = """\
version: 1
name: bench
connections: {{ default: "{source}", log: "{ledger}" }}
api: {{ base_url: "{url}", auth: {{ bearer: t }}, in_flight: {in_flight} }}
entities:
  - name: Users
    query: SELECT Id, NoReg, Username, Name, Gender, Email, IsActive FROM TB_M_USER
    endpoint: /users
    {extra}
    fields: {{ Id: guid, NoReg: string, Username: string, Name: string, Gender: string, Email: "string?", IsActive: int }}
"""


@dataclass(frozen=True)
class Measured:
    """One process: wall seconds, CPU seconds, peak resident megabytes."""

    wall: float
    cpu: float
    peak: float


def measure(command: list[str], folder: Path, code: int = 0) -> Measured:
    """Run a command to its end. Raises `SystemExit` on an exit code other than `code`."""
    # An installed program has its bytecode. If the shell forbids writing it, the engine would be compiled at every start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        raise SystemExit(f"{command} left with {process.returncode}")
    return Measured(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def source(folder: Path, rows: int) -> None:
    """Create mdm.db with this many users."""
    connection = sqlite3.connect(folder / "mdm.db")
    with connection:
        hr._fill(connection, hr.TABLES[0], rows)
    connection.close()


def add(folder: Path, rows: int) -> None:
    """Insert new users, scattered over the key space."""
    connection = sqlite3.connect(folder / "mdm.db")
    with connection:
        model = connection.execute(
            "SELECT NoReg, Username, Name, Gender, Email, IsActive FROM TB_M_USER LIMIT 1"
        ).fetchone()
        connection.executemany(
            "INSERT INTO TB_M_USER (Id, NoReg, Username, Name, Gender, Email, IsActive) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(str(uuid.uuid4()), *model) for _ in range(rows)],
        )
    connection.close()


def spec(
    folder: Path,
    name: str,
    url: str,
    *,
    source: str = "sqlite:///mdm.db",
    ledger: str = "log.db",
    in_flight: int = 1,
    extra: str = "",
) -> Path:
    """Write the spec of a run. `ledger` is a file of the folder, or a connection string."""
    file = folder / f"{name}.yaml"
    ledger = ledger if "=" in ledger else f"sqlite:///{ledger}"
    text = SPEC.format(
        source=source, ledger=ledger, url=f"{url}/{name}", in_flight=in_flight, extra=extra or "method: POST"
    )
    file.write_text(text)
    return file


def run(file: Path, *options: str) -> list[str]:
    """Return the engine's command."""
    return [sys.executable, "-m", "engine", "run", str(file), "--quiet", "--first-run", *options]


@contextmanager
def api(*options: str) -> Iterator[str]:
    """Start a local API in its own process; yields its URL."""
    command = [sys.executable, "-m", "engine", "receive", "--port", "0", *options]
    receiver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None
    found = re.search(r"http://\S+", receiver.stdout.readline())
    assert found is not None
    try:
        yield found[0]
    finally:
        receiver.terminate()
        receiver.wait()


@contextmanager
def postgresql() -> Iterator[Callable[[str], str]]:
    """A private PostgreSQL, as in the tests; yields a function that creates a database and returns its ODBC string."""
    sys.path.insert(0, str(HERE.parent))
    from tests import servers

    try:
        with servers.postgresql() as server:
            yield server.database
    except servers.Absent as absent:
        raise SystemExit(f"this needs {absent}; tests/install_servers.sh installs it") from absent


def users(text: str, rows: int) -> None:
    """Create this many users in a PostgreSQL database."""
    import pyodbc

    connection = pyodbc.connect(text, autocommit=True)
    connection.execute(
        "CREATE TABLE TB_M_USER (Id VARCHAR(36) PRIMARY KEY, NoReg VARCHAR(20), Username VARCHAR(50), Name VARCHAR(100), "
        "Gender VARCHAR(1), Email VARCHAR(100), IsActive INTEGER)"
    )
    connection.execute(
        "INSERT INTO TB_M_USER SELECT gen_random_uuid()::text, lpad(n::text, 8, '0'), 'user' || n, 'Name Surname ' || n, "
        f"CASE WHEN n % 2 = 0 THEN 'F' ELSE 'M' END, 'user' || n || '@example.co.id', 1 FROM generate_series(1, {rows}) n"
    )
    connection.execute("VACUUM ANALYZE TB_M_USER")
    connection.close()
