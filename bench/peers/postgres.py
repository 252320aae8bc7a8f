"""A private PostgreSQL for drt's ledger: a folder of its own, a free loopback port, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    other = shutil.which("pg_ctl")
    return found[-1].parent if found else Path(other).resolve().parent if other else None


def _user() -> str | None:
    """PostgreSQL refuses to run as root: an account for it, or None where we are not root."""
    if os.geteuid() != 0:
        return None
    return "postgres" if "postgres" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"


@contextmanager
def server() -> Iterator[int | None]:
    """The port of a running server; None where there is no PostgreSQL on this machine."""
    binaries, user = _binaries(), _user()
    if binaries is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="syncledger-peers-"))
    if user:
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(program: str, *options: str) -> None:
        command = [binaries / program, "-D", folder / "data", *options]
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    try:
        call("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        # Without fsync: what is measured is drt, not this machine's disk.
        call("pg_ctl", "start", "-w", "-l", "log", "-o", f"-p {port} -h 127.0.0.1 -k '' -c fsync=off")
        yield port
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            call("pg_ctl", "stop", "-w", "-m", "immediate")
        shutil.rmtree(folder, ignore_errors=True)
