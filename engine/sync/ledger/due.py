"""The due times that `schedule` has served, so that a restart knows what it missed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from engine.store.tables import ensure, present
from engine.sync.ledger.store import Store


@dataclass(frozen=True, slots=True)
class Due:
    """The schedule's table of a ledger."""

    store: Store

    def prepare(self) -> str:
        """Create the schedule's table if it is absent."""
        with self.store.guard("cannot be prepared"):
            return ensure(self.store.db, [self.store.tables.schedule], self.store.names).told

    def last_due(self) -> datetime | None:
        """The last due time that was served or skipped."""
        with self.store.guard("cannot be read"):
            if not present(self.store.db, self.store.tables.schedule):
                return None
            found = self.store.statement("last_due", pipeline=self.store.pipeline).column()
        return datetime.fromisoformat(found[0]) if found else None

    def set_last_due(self, due: datetime) -> None:
        """Remember a due time as served."""
        with self.store.guard("cannot be written"), self.store.db.transaction():
            known = self.store.statement("last_due", pipeline=self.store.pipeline).rows
            self.store.statement(
                "set_last_due" if known else "first_due", pipeline=self.store.pipeline, due=due.isoformat()
            )
