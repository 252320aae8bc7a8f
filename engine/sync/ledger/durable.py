"""Retries transient ledger failures on a new connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.errors import ConnectionFailed, DatabaseError, LedgerError
from engine.observe.printable import printable
from engine.sync.ledger.history import History
from engine.sync.ledger.store import Result

_LOG = logging.getLogger(__name__)
_LONG = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a ledger is asked again: `total` seconds, or `refused` where its answer is that it will not."""

    total: float = 30.0
    refused: float = 4.0
    first: float = 0.25
    longest: float = 4.0
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class Durable(History):
    """A ledger whose database may restart, lock or deadlock meanwhile."""

    patience: Patience = field(default_factory=Patience)
    _away: bool = field(default=False, init=False)
    _left_alone: tuple[float, str] = field(default=(0.0, ""), init=False)
    """Until when nobody asks a server that has just taken long to say nothing, and what that one said."""

    def read(self, look: Callable[[], Result]) -> Result:
        """Ask, and where that fails ask again on a new connection."""
        return self.durably(lambda _again: look(), "cannot be read")

    def durably(self, write: Callable[[bool], Result], what: str = "cannot be written") -> Result:
        """Write, and where that fails write again on a new connection; `write` hears whether this is another try.

        Once all tries of a write were in vain, the next one has only one, on a new connection, until one succeeds.
        """
        if self.db.in_transaction:
            # A new session would lose what stands in the open transaction: the whole of it is written again.
            with self.guard(what):
                return write(False)
        away, self._away = self._away, True
        with self.guard(what):
            try:
                if away:
                    self._look_again()
                done = _tried(write, again=False)
            except DatabaseError as failure:
                if away:
                    raise
                done = self._try_again(write, failure)
        self._away = False
        return done

    def _try_again(self, write: Callable[[bool], Result], first: DatabaseError) -> Result:
        """Retry on new connections until the database answers or the patience ends; the wait is logged at once.

        Raises `DatabaseError` with the first failure's words, and the last one's where they differ.
        """
        patience, last = self.patience, first
        total = min(patience.total, patience.refused) if first.refused else patience.total
        began, wait = patience.now(), patience.first
        why = "refuses a statement" if first.refused else "does not answer"
        _LOG.warning("the ledger %s (%s); trying again for up to %g s", why, printable(str(first)), total)
        while (left := began + total - patience.now()) > 0:
            patience.sleep(min(wait, left))
            wait = min(2 * wait, patience.longest)
            try:
                self._reconnect()
                done = _tried(write, again=True)
            except DatabaseError as failure:
                last = failure
                continue
            _LOG.warning("the ledger answers again after %.1f s", patience.now() - began)
            return done
        later = "" if str(last) == str(first) else f", then: {last}"
        raise DatabaseError(f"{first} (tried again for {total:g} s{later})", first.sqlstate) from first

    def _look_again(self) -> None:
        """Reconnect once. What took long in vain is not done again at once: a run that ends has many things to write.

        Raises `DatabaseError`.
        """
        now = self.patience.now
        began, (until, why) = now(), self._left_alone
        if began < until:
            raise DatabaseError(why)
        try:
            self._reconnect()
        except DatabaseError as failure:
            took = now() - began
            self._left_alone = (now() + (took if took > _LONG else 0.0), str(failure))
            raise

    def _reconnect(self) -> None:
        try:
            self.db.reconnect()
        except ConnectionFailed as failure:
            raise DatabaseError(str(failure)) from failure


def _tried(write: Callable[[bool], Result], *, again: bool) -> Result:
    """One try. A `LedgerError` that a failing database has caused is raised as that `DatabaseError`, so that it is retried."""
    try:
        return write(again)
    except LedgerError as failure:
        if isinstance(failure.__cause__, DatabaseError):
            raise failure.__cause__ from failure
        raise
