"""One run of a pipeline at a time: a lease with an expiry and a fencing token, on the database's clock."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine import failpoint
from engine.db.connection import Connection
from engine.errors import DatabaseError, LeaseHeld, SyncLedgerError
from engine.observe.printable import printable
from engine.runs import processes
from engine.runs.whoami import host, user
from engine.store.base import Kept

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease. Times are naive UTC on the database's clock."""

    run: str | None
    holder: str
    host: str
    pid: int
    since: Any
    heartbeat: Any
    expires: Any
    process: str | None = None
    """The identity of its process, from `runs.processes`."""

    def as_json(self) -> dict[str, Any]:
        """Return the `holder` in the report of a refused run."""
        return {
            "run_id": self.run, "user": self.holder, "host": self.host, "pid": self.pid,
            "since": str(self.since), "last_heartbeat": str(self.heartbeat), "expires": str(self.expires),
        }  # fmt: skip

    def __str__(self) -> str:
        return (
            f"run {self.run} of {self.holder} on {self.host}, process {self.pid}, since {self.since} UTC, "
            f"last heartbeat {self.heartbeat} UTC"
        )


@dataclass(slots=True)
class Lease:
    """A lease held by this run. `token` is in every guarded statement; a later holder has a higher one."""

    pipeline: str
    run: str
    token: int
    seconds: float
    _renewed: float = field(default_factory=time.monotonic)
    trouble: str | None = field(default=None, init=False)
    """Why the last heartbeat failed; None if it did not."""

    @property
    def last_words(self) -> str:
        """Why the last heartbeat failed, as the end of a sentence; empty if it did not."""
        return f" (its last heartbeat failed: {printable(self.trouble)})" if self.trouble else ""

    def valid(self) -> bool:
        """True while it certainly has not expired. Nothing is sent otherwise, even after the process was suspended for long."""
        return time.monotonic() - self._renewed < self.seconds

    def late(self) -> bool:
        """True if a heartbeat is overdue: the writes of its own run may be blocking it."""
        return time.monotonic() - self._renewed > self.seconds / 2

    def renew(self, db: Connection, names: dict[str, str]) -> bool:
        """Check that the lease is still ours and extend it; False if another run has it."""
        before = time.monotonic()
        values = {"pipeline": self.pipeline, "run": self.run, "token": self.token, "seconds": self.seconds}
        if db.run("ledger/lease_renew.sql.j2", **names, **values).rowcount != 1:
            self._renewed = float("-inf")
            return False
        self._renewed = before
        return True

    def holds(self, db: Connection, names: dict[str, str]) -> bool:
        """True if the lease is still ours. Call it inside a transaction: no other run can take the lease until that ends."""
        values = {"pipeline": self.pipeline, "run": self.run, "token": self.token}
        if db.run("ledger/lease_check.sql.j2", **names, **values).rows:
            failpoint.reached("lease held")
            return True
        self._renewed = float("-inf")
        return False

    def free(self, db: Connection, names: dict[str, str]) -> None:
        """Release the lease; the row stays, so that tokens only increase."""
        db.run("ledger/lease_free.sql.j2", **names, pipeline=self.pipeline, token=self.token)


def acquire(db: Connection, names: dict[str, str], pipeline: str, run: str, seconds: float) -> Lease:
    """Take the lease. A holder on this host whose process is gone is replaced at once, any other once its lease has expired.

    Raises `LeaseHeld`.
    """
    mine = {
        "pipeline": pipeline, "run": run, "holder": user(), "host": host(), "pid": os.getpid(), "process": processes.identity(),
        "seconds": seconds,
    }  # fmt: skip
    while True:
        began = time.monotonic()
        row = _row(db, names, pipeline)
        if row is None:
            try:
                db.run("ledger/lease_first.sql.j2", **names, **mine)
            except DatabaseError:
                if _row(db, names, pipeline) is None:
                    raise
                continue  # another run was first
            return Lease(pipeline, run, 1, seconds, began)
        token, free = int(row[4]), bool(row[8])
        holder = _holder(row)
        dead = not free and gone(holder)
        if not free and not dead:
            raise LeaseHeld(holder)
        try:
            taken = db.run("ledger/lease_take.sql.j2", **names, **mine, token=token, gone=holder.run if dead else None)
        except DatabaseError as failure:
            if holder.run is None:
                raise  # nobody holds it: the table cannot be written
            # The holder hangs in a transaction of its own, and waiting for its row lock has failed.
            raise LeaseHeld(holder) from failure
        if taken.rowcount == 1:
            return Lease(pipeline, run, token + 1, seconds, began)


def holder(db: Connection, names: dict[str, str], pipeline: str) -> Holder | None:
    """Return the current holder of the lease; None if it is free or has expired."""
    row = _row(db, names, pipeline)
    return _holder(row) if row is not None and not row[8] else None


def break_lease(db: Connection, names: dict[str, str], pipeline: str) -> Holder | None:
    """Release the lease, whoever holds it; returns that holder, whose token is invalid from then on."""
    row = _row(db, names, pipeline)
    if row is None or row[8]:
        return None
    db.run("ledger/lease_free.sql.j2", **names, pipeline=pipeline, token=row[4])
    return _holder(row)


class Heartbeat:
    """Renews a lease from its own thread and connection, three times per expiry, and sooner after a failure."""

    def __init__(self, lease: Lease, connect: Callable[[], Connection], names: dict[str, str]) -> None:
        self._lease, self._names = lease, names
        # A heartbeat that takes longer than this is too late anyway.
        self._kept = Kept(connect, time_limit=lease.seconds / 3)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=self._lease.seconds)

    def _run(self) -> None:
        # A failed heartbeat is retried; `Lease.valid` tells when the lease has expired.
        wait = self._lease.seconds / 3
        while not self._stop.wait(wait):
            try:
                with self._kept.connection() as connection:
                    if not self._lease.renew(connection, self._names):
                        break
                self._lease.trouble = None
                wait = self._lease.seconds / 3
            except SyncLedgerError as failure:
                if self._lease.trouble is None:
                    _LOG.warning("the lease cannot be renewed (%s); trying again", printable(str(failure)))
                self._lease.trouble = str(failure)
                wait = self._lease.seconds / 30
        self._kept.close()


def _row(db: Connection, names: dict[str, str], pipeline: str) -> Any:
    rows = db.run("ledger/lease.sql.j2", **names, pipeline=pipeline).rows
    return rows[0] if rows else None


def _holder(row: Any) -> Holder:
    return Holder(row[0], row[1], row[2], int(row[3] or 0), row[5], row[6], row[7], row[9])


def gone(holder: Holder) -> bool:
    """True if the holder ran on this host and its process no longer exists."""
    return holder.host == host() and processes.is_gone(holder.pid, holder.process)
