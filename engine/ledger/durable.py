"""Reads and writes that outlive a moment's trouble: each is tried again on a new connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.db.connection import Connection
from engine.errors import ConnectionFailed, DatabaseError
from engine.ledger.history import History
from engine.ledger.store import Result

_TRIES = 5


@dataclass(slots=True)
class Durable(History):
    """A ledger whose database may restart, lock or deadlock meanwhile. `reopen` gives a new connection."""

    reopen: Callable[[], Connection] | None = None
    _away: bool = field(default=False, init=False)

    def read(self, look: Callable[[], Result]) -> Result:
        """Ask, and where that fails ask again on a new connection."""
        return self.durably(lambda _again: look(), "cannot be read")

    def durably(self, write: Callable[[bool], Result], what: str = "cannot be written") -> Result:
        """Write, and where that fails write again on a new connection; `write` hears whether this is another try.

        Once all tries of a write were in vain, the next one has only one, until one succeeds.
        """
        tries, self._away = (1 if self._away else _TRIES), True
        with self.guard(what):
            try:
                done = write(False)
            except DatabaseError as failure:
                done = self._try_again(write, tries, failure)
        self._away = False
        return done

    def _try_again(self, write: Callable[[bool], Result], tries: int, failure: DatabaseError) -> Result:
        """What an API has accepted is too dear to lose to a restart of the database: some seconds are waited."""
        # Loaded where it is needed: see engine/stages/post.py.
        from tenacity import (  # noqa: PLC0415
            Retrying,
            retry_if_exception_type,
            stop_after_attempt,
            stop_after_delay,
            wait_exponential,
        )

        def attempt(number: int) -> Result:
            if number == 1:
                raise failure
            self._reconnect()
            return write(True)

        for trying in Retrying(
            stop=stop_after_attempt(tries) | stop_after_delay(30),
            wait=wait_exponential(multiplier=0.25, max=4),
            retry=retry_if_exception_type(DatabaseError),
            reraise=True,
        ):
            with trying:
                return attempt(trying.retry_state.attempt_number)
        raise AssertionError("tenacity returns or raises")  # pragma: no cover

    def _reconnect(self) -> None:
        if self.reopen:
            self.db.close()
            try:
                self.db = self.reopen()
            except ConnectionFailed as failure:
                raise DatabaseError(str(failure)) from failure
