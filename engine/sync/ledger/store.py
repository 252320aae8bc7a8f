"""What every part of the ledger stands on: its connection, its tables, and one kind of error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engine.db.connection import Connection, Rows
from engine.errors import DatabaseError, LedgerError
from engine.store import encoding, migrations, rights
from engine.store.migrations import Migration
from engine.store.retries import Patience, Result, Retries
from engine.store.tables import Table, ensure, present
from engine.sync.ledger import indexes, log
from engine.sync.ledger.tables import Tables
from engine.sync.model import LedgerSpec


@dataclass(slots=True)
class Store:
    """One pipeline's tables. Every method, and every part of the ledger, raises `LedgerError` when they cannot be read or written.

    With `patience` what fails is tried again on a new connection; a command that a person waits for has none.
    """

    db: Connection
    spec: LedgerSpec
    pipeline: str
    run: str
    mask: Callable[[str], str] = field(default=lambda text: text)
    patience: Patience | None = None
    began: Any = None
    """The database's time when this run began."""
    tables: Tables = field(init=False)
    retries: Retries | None = field(default=None, init=False)
    _folds: bool | None = field(default=None, init=False)
    _encoding: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.tables = Tables.of(self.spec)
        self.retries = Retries(self.patience) if self.patience else None

    def prepare(self) -> str:
        """Create absent tables and check the others; says which was found and which made, and where."""
        with self.guard("cannot be prepared"):
            found = ensure(self.db, self.tables.all(), self.names)
            # A table that was dropped and is made anew has the columns of version 1.
            lacking = bool(found.made) and self.tables.version not in found.made
            done = self.migrate(again=lacking)
            told = found.told + (f"; migrated to version {done[-1]}" if done else "")
            indexes.ensure(self.db, self.tables)
            self.encoding()
            return told

    def migrate(self, *, again: bool = False) -> list[Migration]:
        """Bring the tables that are there to this SyncLedger's version; gives what was done."""
        return migrations.migrate(self.db, self.names, self.tables.all(), again=again)

    def pending(self) -> list[Migration]:
        """The migrations that have still to be run; none of a ledger that no run has used. Raises `LedgerError` for a newer one."""
        with self.guard("cannot be read"):
            if present(self.db, self.tables.version):
                return migrations.pending(self.db, self.names)
            return migrations.known()[1:] if present(self.db, self.tables.batch) else []

    def check_rights(self) -> None:
        """Prove that the tables can be written, as far as they are there."""
        with self.guard("cannot be read"):
            rights.prove(self.db, self.tables.all())

    @property
    def names(self) -> dict[str, Any]:
        """The template variables of every ledger statement."""
        return self.tables.names()

    @property
    def log(self) -> log.Log:
        """The log table, as this run writes it."""
        return log.Log(self.db, self.names, self.spec.application, self.run, self.mask, self.codec())

    def statement(self, name: str, **values: Any) -> Rows:
        """Run one of the ledger's statements."""
        return self.db.run(f"ledger/{name}.sql.j2", **self.names, **values)

    def folds(self) -> bool:
        """True when the tracking table takes IDs that differ only in case for one, so that it cannot hold both; asked once."""
        if self._folds is None:
            self._folds = bool(self.statement("folds").scalar())
        return self._folds

    def encoding(self) -> str:
        """The encoding of the ledger's text, as the database calls it; asked once."""
        if self._encoding is None:
            names = [str(name) for name in self.statement("encoding").column() if name]
            self._encoding = next((name for name in names if encoding.codec(name)), "UTF8")
        return self._encoding

    def codec(self) -> str | None:
        """The codec of a ledger that cannot hold every text; None of one that can."""
        return encoding.codec(self.encoding())

    def storable(self, text: str) -> str:
        """The text without secrets, as the ledger can hold it."""
        return encoding.storable(self.mask(text), self.codec())

    def read(self, look: Callable[[], Result]) -> Result:
        """Read something; where that fails, read again on a new connection."""
        return self.write(lambda _again: look(), "cannot be read")

    def write(self, work: Callable[[bool], Result], what: str = "cannot be written") -> Result:
        """Write something; where that fails, write it again on a new connection. `work` is told whether this is another try.

        Inside a transaction there is one try: a new session would lose what the transaction has written, so that the whole of it is repeated.
        """
        with self.guard(what):
            if self.retries is None or self.db.in_transaction:
                return work(False)
            return self.retries.run(self.db, work)

    def there(self, table: Table) -> bool:
        """True when a table exists."""
        return present(self.db, table)

    def now(self) -> Any:
        """The database's time, as its driver returns it."""
        return self.statement("now").scalar()

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Names the ledger in the errors of its database."""
        try:
            yield
        except DatabaseError as failure:
            raise LedgerError(f"the ledger {self.db.description} {what}: {failure}") from failure
