"""The command line run inside the tests' own process: the same program without the start of an interpreter.

For tests whose point is not the process. Signals, kills, failpoints and workers need a process of their own.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from engine.cli.main import main
from engine.failpoint import VARIABLE
from engine.observe import masks
from engine.observe.secrets import Secrets

_NEED_A_PROCESS = ("--workers", "--cluster", "schedule", "receive", "demo")


def possible(arguments: Sequence[str], env: Mapping[str, str]) -> bool:
    """True for a command that may run in this process and this thread."""
    in_main = threading.current_thread() is threading.main_thread()
    of_python = any(name.startswith("PYTHON") for name in env)
    return in_main and VARIABLE not in env and not of_python and not set(arguments) & set(_NEED_A_PROCESS)


def call(
    arguments: Sequence[str], folder: Path, env: Mapping[str, str], input: str | None
) -> subprocess.CompletedProcess[str]:
    """`python -m engine ARGUMENTS` in a folder, with these variables on top of the environment."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    argv = ["syncledger", *arguments]
    code: Any = 0
    with _restored(), contextlib.chdir(folder), mock.patch.dict(os.environ, env), mock.patch.object(sys, "argv", argv):
        typed = io.TextIOWrapper(io.BytesIO((input or "").encode()), "utf-8")
        with (
            mock.patch.object(sys, "stdin", typed),
            contextlib.redirect_stdout(streams[0]),
            contextlib.redirect_stderr(streams[1]),
        ):
            try:
                main()
            except SystemExit as leaving:
                code = leaving.code
    # As `subprocess` reads text.
    output, errors = (stream.buffer.getvalue().decode().replace("\r\n", "\n") for stream in streams)  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(argv, code, output, errors)


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """What the command line sets for its whole process is put back: masks, log handlers, signal handlers, the collector."""
    log = logging.getLogger("engine")
    kept, level, propagate = log.handlers[:], log.level, log.propagate
    known, threshold = masks._ALL, gc.get_threshold()
    masks._ALL = Secrets(newest=1000)
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
        gc.set_threshold(*threshold)
        masks._ALL = known
        log.handlers[:], log.propagate = kept, propagate
        log.setLevel(level)
