"""Private database servers for one test process: their own folder, a free loopback port, stopped at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class Absent(Exception):
    """Something a server needs is not on this machine; the text says what."""


@dataclass(frozen=True)
class Server:
    """A running server. `string(database)` is an ODBC string for one of its databases."""

    name: str
    string: Callable[[str], str]
    maintenance: str
    create: str

    def database(self, name: str) -> str:
        """Make an empty database; gives its ODBC string."""
        import pyodbc

        connection = pyodbc.connect(self.maintenance, autocommit=True)
        connection.execute(self.create.format(name=name))
        connection.close()
        return self.string(name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _user(preferred: str) -> str | None:
    """The servers refuse to run as root: an account of theirs, or None where we are not root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return preferred if preferred in names else "nobody"


def _odbc_driver(name: str) -> None:
    try:
        import pyodbc
    except ImportError as failure:
        raise Absent(f"unixODBC ({failure})") from failure
    if name not in pyodbc.drivers():
        raise Absent(f"the ODBC driver {name}")


def _wait(connect: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import pyodbc

    deadline = time.monotonic() + 60
    while True:
        try:
            pyodbc.connect(connect, timeout=5).close()
            return
        except pyodbc.Error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Absent(f"a server that starts: {log.read_text(errors='replace')[-500:]}") from None
            time.sleep(0.1)


@contextmanager
def _running(
    command: list[str], user: str | None, folder: Path, connect: str, at_end: signal.Signals
) -> Iterator[None]:
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, user=user, stdout=output, stderr=output, cwd=folder, start_new_session=True)
    try:
        _wait(connect, process, log)
        yield
    finally:
        # Nothing in it is worth an orderly end: PostgreSQL leaves at once on SIGQUIT, others are killed.
        process.send_signal(at_end)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _folder(user: str | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="syncledger-server-"))
    if user:
        shutil.chown(folder, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql() -> Iterator[Server]:
    """A private PostgreSQL. Raises `Absent`."""
    _odbc_driver("PostgreSQL Unicode")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or [
        Path(p) for p in [shutil.which("postgres")] if p
    ]
    if not found:
        raise Absent("the PostgreSQL server")
    binaries = found[-1].resolve().parent
    user = _user("postgres")
    with _folder(user) as folder:
        made = subprocess.run(
            [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            user=user, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise Absent(f"a PostgreSQL that can be set up: {made.stderr[-300:]}")
        port = _free_port()

        def string(database: str) -> str:
            return f"Driver={{PostgreSQL Unicode}};Server=127.0.0.1;Port={port};Database={database};UID=postgres;PWD=sesam-pg;"

        command = [
            str(binaries / "postgres"),
            "-D",
            str(folder / "data"),
            "-p",
            str(port),
            "-h",
            "127.0.0.1",
            "-k",
            "",
            "-c",
            "fsync=off",
        ]
        with _running(command, user, folder, string("postgres"), signal.SIGQUIT):
            yield Server("postgresql", string, string("postgres"), "CREATE DATABASE {name}")


@contextmanager
def mariadb() -> Iterator[Server]:
    """A private MariaDB. Raises `Absent`."""
    _odbc_driver("MariaDB Unicode")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    daemon, install = shutil.which("mariadbd", path=path), shutil.which("mariadb-install-db", path=path)
    if not daemon or not install:
        raise Absent("the MariaDB server")
    user = _user("mysql")
    with _folder(user) as folder:
        as_user = [f"--user={user}"] if user else []
        made = subprocess.run(
            [install, "--no-defaults", f"--datadir={folder}/data", "--auth-root-authentication-method=normal", "--skip-test-db", f"--tmpdir={folder}", *as_user],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            raise Absent(f"a MariaDB that can be set up: {(made.stderr or made.stdout)[-300:]}")
        port = _free_port()

        def string(database: str) -> str:
            return f"Driver={{MariaDB Unicode}};Server=127.0.0.1;Port={port};Database={database};UID=root;"

        command = [
            daemon, "--no-defaults", f"--datadir={folder}/data", f"--port={port}", "--bind-address=127.0.0.1",
            f"--socket={folder}/s", f"--pid-file={folder}/pid", f"--tmpdir={folder}", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0", *as_user,
        ]  # fmt: skip
        with _running(command, None, folder, string("mysql"), signal.SIGKILL):
            yield Server("mysql", string, string("mysql"), "CREATE DATABASE {name} CHARACTER SET utf8mb4")
