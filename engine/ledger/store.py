"""What every part of the ledger stands on: its connection, its tables, and one kind of error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from engine.db.connection import Connection
from engine.errors import DatabaseError, LedgerError
from engine.ledger import encoding, indexes, log, rights, tracking
from engine.ledger.tables import Tables, ensure
from engine.model import LedgerSpec

Result = TypeVar("Result")


class Kept:
    """One connection that is kept open between uses and begun anew after one that failed. Used by one thread."""

    def __init__(self, connect: Callable[[], Connection], time_limit: float | None = None) -> None:
        self._connect, self._time_limit = connect, time_limit
        self._opened: Connection | None = None
        self._sound = True

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The connection. Raises `ConnectionFailed`; after a `DatabaseError` of its user the next one gets another session."""
        opened = self._opened
        if opened is None:
            opened = self._opened = self._connect()
            opened.time_limit = self._time_limit or opened.time_limit
        elif not self._sound:
            opened.reconnect()
        self._sound = False
        yield opened
        self._sound = True

    def close(self) -> None:
        """Close it, in the thread that used it."""
        if self._opened:
            self._opened.close()


@dataclass(slots=True)
class Store:
    """One pipeline's tables. Every method of the classes below raises `LedgerError` when they cannot be read or written."""

    db: Connection
    spec: LedgerSpec
    pipeline: str
    run: str
    mask: Callable[[str], str] = field(default=lambda text: text)
    tables: Tables = field(init=False)
    _folds: bool | None = field(default=None, init=False)
    _encoding: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.tables = Tables.of(self.spec)

    def prepare(self) -> str:
        """Create absent tables and check the others; says which was found and which made, and where."""
        with self.guard("cannot be prepared"):
            found = ensure(self.db, self.tables)
            indexes.ensure(self.db, self.tables)
            self.encoding()
            return found

    def check_rights(self) -> None:
        """Prove that the tables can be written, as far as they are there."""
        with self.guard("cannot be read"):
            rights.prove(self.db, self.tables)

    @property
    def names(self) -> dict[str, str]:
        """The template variables of every ledger statement."""
        return self.tables.names()

    @property
    def log(self) -> log.Log:
        """The log table, as this run writes it."""
        return log.Log(self.db, self.names, self.spec.application, self.run, self.mask, self.codec())

    def statement(self, name: str, **values: Any) -> Any:
        """Run one of the ledger's statements."""
        return self.db.run(f"ledger/{name}.sql.j2", **self.names, **values)

    def folds(self) -> bool:
        """True when the tracking table takes IDs that differ only in case for one; asked once."""
        if self._folds is None:
            self._folds = tracking.folds(self.db, self.names)
        return self._folds

    def encoding(self) -> str:
        """The encoding of the ledger's text, as the database calls it; asked once."""
        if self._encoding is None:
            names = [str(row[0]) for row in self.statement("encoding").rows if row[0]]
            self._encoding = next((name for name in names if encoding.codec(name)), "UTF8")
        return self._encoding

    def codec(self) -> str | None:
        """The codec of a ledger that cannot hold every text; None of one that can."""
        return encoding.codec(self.encoding())

    def storable(self, text: str) -> str:
        """The text without secrets, as the ledger can hold it."""
        return encoding.storable(self.mask(text), self.codec())

    def read(self, look: Callable[[], Result]) -> Result:
        """Ask the ledger something."""
        with self.guard("cannot be read"):
            return look()

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Names the ledger in the errors of its database."""
        try:
            yield
        except DatabaseError as failure:
            raise LedgerError(f"the ledger {self.db.description} {what}: {failure}") from failure


def moment(value: Any) -> datetime:
    """A time of the database, naive UTC; SQLite returns them as text."""
    found: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
