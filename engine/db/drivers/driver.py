"""What the engine asks of a driver: one class per driver, the only place that knows its habits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from engine.db.drivers.results import Results
from engine.errors import DatabaseError


class Driver(Protocol):
    """One open session. Its methods belong to one thread at a time, but for `cancel`."""

    raw: Any
    """The driver's own connection."""
    errors: tuple[type[Exception], ...]
    """What its methods raise."""

    def execute(self, text: str, parameters: Sequence[Any]) -> Results:
        """Run a statement; its results are read, or left, by the caller, who closes them."""

    def begin(self) -> None:
        """Begin a transaction: until `commit` or `rollback` nothing commits by itself."""

    def commit(self) -> None:
        """Make what was done durable, and go back to committing every statement."""

    def rollback(self) -> None:
        """Undo what was done, and go back to committing every statement."""

    def autocommit(self) -> None:
        """Go back to committing every statement, after a transaction that was ended by a statement."""

    def limit(self, seconds: int) -> None:
        """Have the driver itself stop every statement after so many seconds."""

    def bind(self, value: Any) -> Any:
        """The value as this driver carries it unharmed."""

    def cancel(self) -> bool:
        """Ask for the end of the statement that runs now; from another thread. False where the driver cannot."""

    def lenient(self, on: bool) -> None:
        """Give text that is not UTF-8 with surrogates instead of failing, where the database can hold such text."""

    def error(self, failure: Exception, lost: str | None) -> DatabaseError:
        """What was raised, in the database's own words. `lost` is the dialect's pattern for a connection that is gone."""

    def close(self) -> None:
        """End the session."""
