"""The tools that are compared: how each gets its job into a folder, and the command that runs it there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import common
import yaml

HERE = Path(__file__).parent
PEERS = HERE / ".venv"
PYTHON = PEERS / "bin" / "python"
SOURCE = "mdm.db"


@dataclass(frozen=True)
class Tool:
    """A row of the table. `job(folder, url, in_flight)` gives the command; `absent` says why there is none."""

    name: str
    job: Callable[[Path, str, int], list[str]]
    absent: str = ""


def install() -> str:
    """Give the peers an environment of their own. Gives the reason where that fails."""
    wanted, had = HERE / "requirements.txt", PEERS / "requirements.txt"
    if had.exists() and had.read_text() == wanted.read_text():
        return ""
    print("installing the peers into bench/peers/.venv ...", file=sys.stderr)
    venv.create(PEERS, clear=True, with_pip=True)
    pip = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", wanted]
    if subprocess.run(pip, check=False).returncode:
        return "pip could not install bench/peers/requirements.txt"
    shutil.copy(wanted, had)
    return ""


def every(postgres: int | None) -> list[Tool]:
    """All tools, the yardstick first."""
    absent = install()
    drt, dlt = ("drt", "dlt") if absent else (f"drt {_version('drt-core')}", f"dlt {_version('dlt')}")
    no_server = "" if postgres else "its ledger needs PostgreSQL, which is not on this machine"
    return [
        Tool("hand-written loop", _loop),
        Tool(f"SyncLedger {version('syncledger')}", _engine),
        Tool(f"{drt}, cursor", _drt("cursor", postgres), absent),
        Tool(f"{drt}, ledger", _drt("ledger", postgres), absent or no_server),
        Tool(f"{dlt}, default backend", _dlt("sqlalchemy"), absent),
        Tool(f"{dlt}, pyarrow backend", _dlt("pyarrow"), absent),
    ]


def _version(package: str) -> str:
    program = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([PYTHON, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def _loop(folder: Path, url: str, in_flight: int) -> list[str]:  # noqa: ARG001 - it has one call at a time
    return [sys.executable, str(common.HERE / "handloop.py"), SOURCE, "ledger.db", f"{url}/users"]


def _engine(folder: Path, url: str, in_flight: int) -> list[str]:
    return common.run(common.spec(folder, "peers", url, ledger="ledger.db", in_flight=in_flight))


def _drt(mode: str, postgres: int | None) -> Callable[[Path, str, int], list[str]]:
    def job(folder: Path, url: str, in_flight: int) -> list[str]:
        if not (folder / "drt_project.yml").exists():
            shutil.copytree(HERE / "drt" / mode, folder, dirs_exist_ok=True)
            _profiles(folder, postgres)
            if in_flight > 1:
                _split(folder / "syncs", in_flight)
        settings = {"HOME": str(folder), "DO_NOT_TRACK": "1", "API_URL": f"{url}/users", "API_TOKEN": "t"}
        return _with(settings, [str(PEERS / "bin" / "drt"), "run", "--quiet", "--threads", str(in_flight)])

    return job


def _profiles(folder: Path, postgres: int | None) -> None:
    """drt reads its connections from the home folder. Each job's ledger is a schema of its own."""
    ledger = {"type": "postgres", "host": "127.0.0.1", "port": postgres, "dbname": "postgres", "user": "postgres"}
    ledger["managed_schema"] = f"drt_{uuid.uuid4().hex}"
    home = folder / ".drt"
    home.mkdir(exist_ok=True)
    (home / "profiles.yml").write_text(
        yaml.safe_dump({"mdm": {"type": "sqlite", "database": SOURCE}, "ledger": ledger})
    )


def _split(syncs: Path, parts: int) -> None:
    """drt sends the batches of a sync in turn and runs syncs side by side: so each part of the key space is a sync."""
    whole = yaml.safe_load((syncs / "users.yml").read_text())
    (syncs / "users.yml").unlink()
    bounds = [f"{256 * part // parts:02x}" for part in range(parts)] + ["g"]
    for part, (first, end) in enumerate(pairwise(bounds)):
        sync = whole | {"name": f"users_{part}", "model": f"{whole['model']} WHERE Id >= '{first}' AND Id < '{end}'"}
        (syncs / f"users_{part}.yml").write_text(yaml.safe_dump(sync))


def _dlt(backend: str) -> Callable[[Path, str, int], list[str]]:
    def job(folder: Path, url: str, in_flight: int) -> list[str]:
        settings = {"HOME": str(folder), "RUNTIME__DLTHUB_TELEMETRY": "false"}
        if in_flight > 1:
            # Without rotation all records are one file, and a file is one job.
            settings["DATA_WRITER__FILE_MAX_ITEMS"] = "3000"
        command = [str(PYTHON), str(HERE / "dlt_job.py"), backend, SOURCE, f"{url}/users", str(in_flight)]
        return _with(settings, command)

    return job


def _with(settings: dict[str, str], command: Sequence[str]) -> list[str]:
    """The command with these variables: `env` becomes the program itself, so its memory is what is measured."""
    return ["env", "NO_PROXY=127.0.0.1", *(f"{name}={value}" for name, value in settings.items()), *command]
