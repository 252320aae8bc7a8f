"""Retries transient ledger failures on a new connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from engine.db.connection import Connection
from engine.errors import ConnectionFailed, DatabaseError, LedgerError
from engine.observe.printable import printable

Result = TypeVar("Result")

_LOG = logging.getLogger(__name__)
_LONG = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a ledger is asked again: `total` seconds, or `refused` where its answer is that it will not."""

    total: float
    refused: float = 4.0
    first: float = 0.25
    longest: float = 4.0
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class Retries:
    """Repeats what failed while the database restarted, was locked or chose a deadlock's victim. One object per connection and thread."""

    patience: Patience
    _away: bool = field(default=False, init=False)
    _left_alone: tuple[float, str] = field(default=(0.0, ""), init=False)
    """Until when a server that took long to fail is not asked again, and its last error."""

    def run(self, db: Connection, work: Callable[[bool], Result]) -> Result:
        """Call `work(False)`; where that fails, `work(True)` on a new connection until it succeeds or the patience ends.

        After a failure that lasted for all tries, the next work gets one try on a new connection, until one succeeds.
        Raises `DatabaseError`.
        """
        away, self._away = self._away, True
        try:
            if away:
                self._look_again(db)
            done = _tried(work, again=False)
        except DatabaseError as failure:
            if away:
                raise
            done = self._try_again(db, work, failure)
        self._away = False
        return done

    def give_another_chance(self) -> None:
        """Ask a server again that took long to fail: what comes now is the last statement of a run."""
        self._left_alone = (0.0, "")

    def _try_again(self, db: Connection, work: Callable[[bool], Result], first: DatabaseError) -> Result:
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
                _reconnect(db)
                done = _tried(work, again=True)
            except DatabaseError as failure:
                last = failure
                continue
            _LOG.warning("the ledger answers again after %.1f s", patience.now() - began)
            return done
        later = "" if str(last) == str(first) else f", then: {last}"
        raise DatabaseError(f"{first} (tried again for {total:g} s{later})", first.sqlstate) from first

    def _look_again(self, db: Connection) -> None:
        """Reconnect once. What took long in vain is not done again at once: a run that ends has many things to write.

        Raises `DatabaseError`.
        """
        now = self.patience.now
        began, (until, why) = now(), self._left_alone
        if began < until:
            raise DatabaseError(why)
        try:
            _reconnect(db)
        except DatabaseError as failure:
            took = now() - began
            self._left_alone = (now() + (took if took > _LONG else 0.0), str(failure))
            raise


def _reconnect(db: Connection) -> None:
    try:
        db.reconnect()
    except ConnectionFailed as failure:
        raise DatabaseError(str(failure)) from failure


def _tried(work: Callable[[bool], Result], *, again: bool) -> Result:
    """One try. A `LedgerError` that a failing database has caused is raised as that `DatabaseError`, so that it is retried."""
    try:
        return work(again)
    except LedgerError as failure:
        if isinstance(failure.__cause__, DatabaseError):
            raise failure.__cause__ from failure
        raise
