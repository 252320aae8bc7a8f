"""Endpoints that are left alone until a time, across runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.sync.ledger.store import Store

LONGEST = 366 * 86400.0
"""Seconds; what an API asks beyond this is a mistake of its."""
_ENDPOINT_LENGTH = 400


@dataclass(frozen=True, slots=True)
class Park:
    """An endpoint (its URL), until when (naive UTC on the database's clock), and why."""

    endpoint: str
    until: Any
    reason: str

    def as_json(self) -> dict[str, Any]:
        """One item of `status --format json`."""
        return {"endpoint": self.endpoint, "until": str(self.until), "reason": self.reason}

    def __str__(self) -> str:
        return f"the endpoint is parked until {str(self.until)[:19]} UTC: {self.reason}"


def named(store: Store, url: str) -> str:
    """An endpoint as the table holds it: without secrets, and no longer than the column."""
    return store.storable(url)[:_ENDPOINT_LENGTH]


def all_of(store: Store) -> list[Park]:
    """What is parked now."""
    return [Park(endpoint, until, reason or "") for endpoint, until, reason in store.statement("parks").rows]


def park(store: Store, url: str, seconds: float, reason: str) -> None:
    """Leave an endpoint alone. Inside a transaction."""
    lift(store, url)
    reason = store.storable(reason)
    store.statement("park", endpoint=named(store, url), seconds=min(seconds, LONGEST), reason=reason)


def lift(store: Store, url: str) -> bool:
    """Call an endpoint again; True when it was parked."""
    return bool(store.statement("unpark", endpoint=named(store, url)).rowcount > 0)
