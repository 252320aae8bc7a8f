"""The interface of a driver: one class per driver, the only place with code specific to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from engine.db.drivers.results import Results
from engine.errors import DatabaseError


class Driver(Protocol):
    """One open session. Used by one thread at a time, except for `cancel`."""

    raw: Any
    """The driver's own connection."""
    errors: tuple[type[Exception], ...]
    """The exceptions that its methods raise."""

    def execute(self, text: str, parameters: Sequence[Any]) -> Results:
        """Run a statement. The caller closes the results, read or unread."""

    def begin(self) -> None:
        """Begin a transaction: until `commit` or `rollback`, nothing autocommits."""

    def commit(self) -> None:
        """Commit the transaction."""

    def rollback(self) -> None:
        """Roll the transaction back."""

    def autocommit(self) -> None:
        """Turn autocommit on again after a transaction, however it was ended."""

    def limit(self, seconds: int) -> None:
        """Have the driver itself stop every statement after `seconds`."""

    def bind(self, value: Any) -> Any:
        """Convert a value to a form that this driver transmits unchanged."""

    def cancel(self) -> bool:
        """Ask the server to cancel the running statement; called from another thread. False if the driver cannot."""

    def lenient(self, on: bool) -> None:
        """Return text that is not UTF-8 with surrogates instead of failing, if the database can hold such text."""

    def error(self, failure: Exception, lost: str | None) -> DatabaseError:
        """Convert an exception, with the database's own message. `lost` is the dialect's pattern for a lost connection."""

    def close(self) -> None:
        """End the session."""
