"""The due times that `schedule` has served, so that a restart knows what it missed."""

from __future__ import annotations

from datetime import datetime

from engine.store.tables import ensure, present
from engine.sync.ledger.store import Store


class Due(Store):
    """The schedule's table of a ledger."""

    __slots__ = ()

    def prepare(self) -> str:
        """Create the schedule's table if it is absent."""
        with self.guard("cannot be prepared"):
            return ensure(self.db, [self.tables.schedule], self.names)

    def last_due(self) -> datetime | None:
        """The last due time that was served or skipped."""
        with self.guard("cannot be read"):
            if not present(self.db, self.tables.schedule):
                return None
            rows = self.statement("last_due", pipeline=self.pipeline).rows
        return datetime.fromisoformat(rows[0][0]) if rows else None

    def set_last_due(self, due: datetime) -> None:
        """Remember a due time as served."""
        with self.guard("cannot be written"), self.db.transaction():
            known = self.statement("last_due", pipeline=self.pipeline).rows
            self.statement("set_last_due" if known else "first_due", pipeline=self.pipeline, due=due.isoformat())
