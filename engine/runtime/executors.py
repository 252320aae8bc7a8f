"""Who works on the parts of a run: processes of this machine, or those of a Dask cluster. One seam: `Executor`."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import ConnectionFailed
from engine.runtime.memory import collect_rarely
from engine.runtime.process import digest, work
from engine.sync.partition import Part, PartResult


@dataclass(slots=True)
class Local:
    """Processes of this machine."""

    spec: str
    digest: str
    size: int
    _pool: Executor = field(init=False)

    def __post_init__(self) -> None:
        self._pool = self._new()

    def submit(self, part: Part) -> Future[PartResult]:
        """Give out a part."""
        return self._pool.submit(work, part)

    def renew(self) -> None:
        """A dead worker breaks the whole pool; its other workers end before there is a new one."""
        self.close()
        self._pool = self._new()

    def close(self) -> None:
        """Wait for the processes to end."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _new(self) -> Executor:
        # Spawned, not forked: a fork would take open connections and threads' locks with it.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.size, mp_context=context, initializer=_begin)


@dataclass(slots=True)
class Cluster:
    """The workers of a running Dask cluster."""

    spec: str
    digest: str
    client: Any
    size: int

    def submit(self, part: Part) -> Future[PartResult]:
        """Give out a part. The scheduler is not to repeat it on its own."""
        executor: Executor = self.client.get_executor(pure=False, retries=0)
        return executor.submit(work, part)

    def renew(self) -> None:
        """The scheduler replaces workers itself."""

    def close(self) -> None:
        """Leave the cluster as it is."""
        self.client.close()


@contextmanager
def local(spec: Path, workers: int) -> Iterator[Local]:
    """So many processes of this machine."""
    crew = Local(str(spec.resolve()), digest(spec), workers)
    try:
        yield crew
    finally:
        crew.close()


@contextmanager
def cluster(spec: Path, address: str) -> Iterator[Cluster]:
    """The workers of the Dask cluster at an address. Raises `ConnectionFailed`."""
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as failure:
        raise ConnectionFailed(f"Dask is not here ({failure}): pip install 'syncledger[cluster]'") from failure
    try:
        client = distributed.Client(address, timeout="10s", set_as_default=False)
        threads = sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
    except Exception as failure:
        # Each transport of Dask raises what it likes: TypeError for tls:// without certificates, for one.
        hint = (
            "; tls:// needs certificates here (Dask's distributed.comm.tls) and a scheduler that speaks TLS"
            if address.startswith("tls:")
            else ""
        )
        raise ConnectionFailed(f"there is no Dask scheduler at {address}: {failure}{hint}") from failure
    crew = Cluster(str(spec.resolve()), digest(spec), client, max(1, threads))
    try:
        yield crew
    finally:
        crew.close()


def _begin() -> None:
    """A worker's process begins. Signals of the terminal are for the run itself, which tells its workers; without it they end."""
    collect_rarely()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
