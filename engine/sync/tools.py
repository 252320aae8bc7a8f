"""What a run works with: made by the builder, handed down, closed there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from engine.context import RunContext
from engine.db.connection import Connection
from engine.http.session import Caller
from engine.http.settings import Api
from engine.sync.ledger.ledger import Ledger
from engine.sync.ledger.parks import Park
from engine.sync.model import Entity
from engine.sync.send.pace import Pace


@dataclass(slots=True)
class Endpoint:
    """One URL during a run: left for the rest of it, or even parked beyond; `failures` counts failed batches in a row."""

    url: str
    closed: threading.Event = field(default_factory=threading.Event)
    failures: int = 0
    park: Park | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run works with; built in `engine.runtime.runner`, closed there."""

    run: RunContext
    ledger: Ledger
    caller: Caller
    api: Api
    connect: Callable[[str], Connection]
    pool: ThreadPoolExecutor
    counts_rows: bool
    """True where the rows of each source are counted, for whoever shows how much there is to come."""
    mask: Callable[[str], str]
    may_send: Callable[[], bool]
    pace: Pace
    visible: Callable[[Entity], str | None] = field(default=lambda _entity: None)
    """The tracking table as an entity's source names it; None where it does not see it."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def endpoint(self, entity: Entity) -> Endpoint:
        """The endpoint of an entity, as this run knows it."""
        url = self.caller.url(entity.endpoint)
        return self.endpoints.setdefault(url, Endpoint(url))
