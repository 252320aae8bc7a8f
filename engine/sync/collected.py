"""What the stages tell of single records, collected and written to the ledger some hundreds at a time."""

from __future__ import annotations

from engine.sync.ledger.records import Records
from engine.sync.model import Entity, Rejection
from engine.sync.report import SAMPLES, EntityReport

_AT_ONCE = 500


class Refused:
    """Collects rejections of an entity, counts them as due, and writes them some hundreds at a time."""

    def __init__(self, report: EntityReport, records: Records) -> None:
        self._report, self._records = report, records
        self._waiting: list[Rejection] = []

    def __call__(self, rejection: Rejection) -> None:
        """One more."""
        self._report.counts.break_contract()
        self._waiting.append(rejection)
        if len(self._waiting) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected. The first ones that are new are shown to people."""
        if not self._waiting:
            return
        known = self._records.reject(self._report.name, self._waiting)
        self._report.counts.known_before(sum(rejection.id in known for rejection in self._waiting))
        new = [rejection for rejection in self._waiting if rejection.id not in known]
        self._report.samples += new[: SAMPLES - len(self._report.samples)]
        self._waiting.clear()

    def revive(self, rejection: Rejection) -> None:
        """A row that was refused as another's twin is due: the other is gone."""
        self._records.revive(self._report.name, rejection.id)


class Adopted:
    """Collects contents of delivered records that nobody knew, and writes them some hundreds at a time."""

    def __init__(self, entity: Entity, records: Records) -> None:
        self._entity, self._records = entity, records
        self._waiting: dict[str, str] = {}

    def __call__(self, id_: str, content: str) -> None:
        """One more."""
        self._waiting[id_] = content
        if len(self._waiting) >= 10 * _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected."""
        if self._waiting:
            self._records.adopt(self._entity.name, self._waiting)
            self._waiting.clear()
