"""What became of one entity in one run, as it grows while the run goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.sync.counts import Counts
from engine.sync.model import Rejection

SAMPLES = 3
"""Rejections, and remarks on batches, that are shown to people."""


@dataclass(slots=True)
class EntityReport:
    """What became of one entity in one run.

    `gravity` sorts its error: None, `parked` (its endpoint is left alone) or `entity` (exit 1), or `database` (exit 4).
    """

    name: str
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    error: str | None = None
    gravity: str | None = None
    rows: int | None = None
    """Rows of its source, where they were counted."""
    since: str | None = None
    """From where on it was read, where only what changed was."""
    pending: set[str] = field(default_factory=set, repr=False)
    """IDs in flight; a duplicate is rejected."""
    met: set[str] = field(default_factory=set, repr=False)
    """Records of open batches that were read from the source and counted as waiting."""
    samples: list[Rejection] = field(default_factory=list, repr=False)
    """The first rejections, for people."""

    def note(self, remark: str | None) -> None:
        """Add what a batch ended with; the first few that differ are kept."""
        if remark and remark not in (self.error or "") and self._notes < SAMPLES:
            self._notes += 1
            self.error = f"{self.error}; {remark}" if self.error else remark

    @property
    def complete(self) -> bool:
        """True when nothing that was read is left for a later run."""
        counts = self.counts
        return self.error is None and not (counts.rejected or counts.failed or counts.in_doubt or counts.waiting)

    _notes: int = field(default=0, repr=False)
