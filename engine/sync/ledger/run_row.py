"""The row of a run, and how the processes that share its work tell each other how far they are and when to stop."""

from __future__ import annotations

from typing import Any

from engine.sync.ledger import log
from engine.sync.ledger.states import RunStatus
from engine.sync.ledger.store import Store


class RunRow:
    """The row of this run in TB_R_SYNC_RUN, and those of its parts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def started(self) -> None:
        """The run begins. Earlier ones without an end were killed, since this run holds the lease."""
        store = self._store
        with store.guard("cannot be written"):
            store.statement("runs_killed", pipeline=store.pipeline, run=store.run)
            store.statement("run_started", run=store.run, pipeline=store.pipeline)

    def ended(self, status: RunStatus, summary: dict[str, Any]) -> None:
        """The run is over, with its summary."""
        store = self._store
        text = log.as_json(summary, store.mask, store.codec())
        store.write(lambda _again: store.statement("run_ended", run=store.run, status=status.value, summary=text))

    def stop(self) -> None:
        """Tell the workers of this run to end."""
        self._store.write(lambda _again: self._store.statement("run_stop", run=self._store.run))

    def stopping(self) -> bool:
        """True when the run was told to end."""
        with self._store.guard("cannot be read"):
            statuses = self._store.statement("run_status", run=self._store.run).column()
        return statuses != [RunStatus.RUNNING]

    def part(self, entity: str, part: int, worker: str, counts: str) -> None:
        """How far a worker is with a part; `counts` is JSON."""
        store = self._store
        values = {"run": store.run, "entity": entity, "part": part, "worker": worker[:255], "counts": counts}
        with store.guard("cannot be written"):
            if store.statement("part_again", **values).rowcount < 1:
                store.statement("part", **values)

    def part_counts(self, entity: str) -> list[str]:
        """How far the parts of an entity are, as JSON."""
        with self._store.guard("cannot be read"):
            return self._store.statement("parts", run=self._store.run, entity=entity).column()
