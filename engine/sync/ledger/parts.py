"""How the processes that share a run's work tell each other how far they are, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass

from engine.sync.ledger.durable import Durable


@dataclass(slots=True)
class Parts(Durable):
    """The parts of a run, as they stand in the ledger."""

    def stop(self) -> None:
        """Tell the workers of this run to end."""
        self.durably(lambda _again: self.statement("run_stop", run=self.run))

    def stopping(self) -> bool:
        """True when the run was told to end."""
        with self.guard("cannot be read"):
            rows = self.statement("run_status", run=self.run).rows
        return not rows or rows[0][0] != "running"

    def part(self, entity: str, part: int, worker: str, counts: str) -> None:
        """How far a worker is with a part; `counts` is JSON."""
        values = {"run": self.run, "entity": entity, "part": part, "worker": worker[:255], "counts": counts}
        with self.guard("cannot be written"):
            if self.statement("part_again", **values).rowcount < 1:
                self.statement("part", **values)

    def part_counts(self, entity: str) -> list[str]:
        """How far the parts of an entity are, as JSON."""
        with self.guard("cannot be read"):
            return [row[0] for row in self.statement("parts", run=self.run, entity=entity).rows]
