"""What happened to the records of one entity in one run, counted while rows flow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Records, but for `batches` and `calls`.

    `read = excluded + dropped + waiting + due` and `due = accepted + rejected + failed + in_doubt`.
    """

    excluded: int = 0
    dropped: int = 0
    waiting: int = 0
    due: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    in_doubt: int = 0
    settled: int = 0
    batches: int = 0
    calls: int = 0

    @property
    def read(self) -> int:
        """Records that something was decided on; those of a page that a stopped run did not come to are not among them."""
        return self.excluded + self.dropped + self.waiting + self.due
