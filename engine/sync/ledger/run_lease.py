"""The lease as one run uses it: whoever has lost it changes nothing in the ledger any more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing

from engine.db.connection import Connection
from engine.errors import LedgerError, SyncLedgerError
from engine.runs import lease as leases
from engine.runs.lease import Heartbeat, Lease
from engine.store.retries import Result
from engine.sync.ledger import fence
from engine.sync.ledger.store import Store

_LOG = logging.getLogger(__name__)


class RunLease:
    """The lease of this run, and the fence around its writes. `held` is None before `acquire` or `share`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.held: Lease | None = None

    def acquire(self, seconds: float) -> Lease:
        """Take the pipeline's lease. Raises `LeaseHeld`."""
        store = self._store
        with store.guard("cannot be written"):
            self.held = leases.acquire(store.db, store.names, store.pipeline, store.run, seconds)
        return self.held

    def share(self, token: int, seconds: float) -> None:
        """Work under the lease that another process of this run holds."""
        self.held = Lease(self._store.pipeline, self._store.run, token, seconds)

    @property
    def mine(self) -> Lease:
        """The lease that was acquired. Raises `RuntimeError` before: a bug."""
        if self.held is None:
            raise RuntimeError("the lease was not acquired")
        return self.held

    def heartbeat(self, connect: Callable[[], Connection]) -> Heartbeat:
        """What renews the lease while the run goes on, on a connection of its own."""
        return Heartbeat(self.mine, connect, self._store.names)

    def release(self) -> None:
        """Give the lease back."""
        if self.held:
            lease, store = self.held, self._store
            if store.retries:
                store.retries.give_another_chance()
            store.write(lambda _again: lease.free(store.db, store.names))

    def fence(self) -> None:
        """Inside a transaction: go on only while the lease is ours. Raises `LedgerError`."""
        if self.held and not self.held.holds(self._store.db, self._store.names):
            raise LedgerError(
                f"the lease of this run is lost: another run has taken it, or it was broken{self.held.last_words}"
            )

    def write(self, work: Callable[[bool], Result]) -> Result:
        """Do something in one transaction behind the fence; where it fails, again on a new connection.

        `work` is told whether this is another try: an earlier one may have been committed though its answer was lost.
        """

        def fenced(again: bool) -> Result:
            # The heartbeat may starve behind this run's own writes (SQLite has one writer): then they renew the lease.
            if self.held and self.held.late():
                self.held.renew(self._store.db, self._store.names)
            with self._store.db.transaction():
                self.fence()
                return work(again)

        return self._store.write(fenced)

    def write_once(self, work: Callable[[], Result]) -> Result:
        """Do something in one transaction behind the fence, once: what fails here is left to the next run."""
        with self._store.guard("cannot be written"), self._store.db.transaction():
            self.fence()
            return work()

    def prove(self, connect: Callable[[], Connection]) -> None:
        """Try once, on a second connection, whether the lock on the lease keeps others out; warn where it does not."""
        store = self._store
        try:
            with closing(connect()) as another:
                kept = fence.holds(store.db, another, store.names, self.mine)
        except SyncLedgerError as failure:
            _LOG.info("whether the ledger's locks hold could not be tried: %s", store.mask(str(failure)))
            return
        if kept is False:
            _LOG.warning(
                "the ledger %s does not keep the lock on the lease: a run that was thought dead may settle beside another one; "
                "never `unlock` before you have ended its process (docs/guarantees.md)",
                store.db.description,
            )
