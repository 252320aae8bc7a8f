"""Which tables the ledger has, and their columns in version 1; later ones are added by migrations."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from engine.store.tables import Table
from engine.sync.ledger import states
from engine.sync.model import LedgerSpec

_LOG_COLUMNS = (
    "ID ApplicationName LogID LogCategory Activity ApplicationModule IPHostName Status AdditionalInformation CreatedBy "
    "CreatedOn RowStatus ExceptionMessage"
)
_BATCH_COLUMNS = (
    "BatchId RunId Pipeline EntityType IdempotencyKey State RecordCount RecordIds Payload PayloadSha256 Attempts "
    "HttpResponseCode Reason CreatedOn SentOn SettledOn"
)
_RUN_COLUMNS = "RunId Pipeline StartedOn EndedOn Status Summary"
_LEASE_COLUMNS = "Pipeline RunId Holder Host Pid Token AcquiredOn HeartbeatOn ExpiresOn"
_CONTENT_COLUMNS = "EntityType Kind EntityId ContentHash RecordedOn"
_WATERMARK_COLUMNS = "Pipeline EntityType Watermark Source FullCheckOn UpdatedOn"
_VERDICT_COLUMNS = "Pipeline EntityType EntityId Verdict Reason HttpResponseCode RunId BatchId RecordedOn"
_REJECT_COLUMNS = "EntityType EntityId State Reason HttpResponseCode Attempts FirstSeen LastSeen NextTry BatchId"


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables of one ledger. The two of the replaced job may have names of their own."""

    tracking: Table
    log: Table
    reject: Table
    run: Table
    schedule: Table
    batch: Table
    lease: Table
    park: Table
    content: Table
    part: Table
    watermark: Table
    verdict: Table
    version: Table

    @classmethod
    def of(cls, spec: LedgerSpec) -> Tables:
        """The tables as the spec names them; the engine's own stand in the schema of the tracking table."""
        schema = spec.tracking_table.rpartition(".")[0]
        prefix = f"{schema}." if schema else ""
        return cls(
            _table(
                spec.tracking_table, "EntityType EntityId SyncTimestamp", "create_tracking", "create_tracking_index"
            ),
            _table(spec.log_table, _LOG_COLUMNS, "create_log", "create_log_index"),
            _table(f"{prefix}TB_R_SYNC_REJECT", _REJECT_COLUMNS, "create_reject"),
            _table(f"{prefix}TB_R_SYNC_RUN", _RUN_COLUMNS, "create_run", "create_run_index"),
            _table(f"{prefix}TB_R_SYNC_SCHEDULE", "Pipeline LastDue", "create_schedule"),
            _table(
                f"{prefix}TB_R_SYNC_BATCH",
                _BATCH_COLUMNS,
                "create_batch",
                "create_batch_index",
                "create_batch_time_index",
            ),
            _table(f"{prefix}TB_R_SYNC_LEASE", _LEASE_COLUMNS, "create_lease"),
            _table(f"{prefix}TB_R_SYNC_PARK", "Endpoint Until Reason", "create_park"),
            _table(f"{prefix}TB_R_SYNC_CONTENT", _CONTENT_COLUMNS, "create_content"),
            _table(f"{prefix}TB_R_SYNC_PART", "RunId EntityType Part Worker Counts UpdatedOn", "create_part"),
            _table(f"{prefix}TB_R_SYNC_WATERMARK", _WATERMARK_COLUMNS, "create_watermark"),
            _table(
                f"{prefix}TB_R_SYNC_VERDICT",
                _VERDICT_COLUMNS,
                "create_verdict",
                "create_verdict_index",
                "verdict_began",
            ),
            _table(f"{prefix}TB_R_SYNC_VERSION", "Version Name AppliedOn", "create_version"),
        )

    def names(self) -> dict[str, Any]:
        """The template variables that every ledger statement may use."""
        return {
            **states.words(),
            "tracking_table": self.tracking.name,
            "log_table": self.log.name,
            "reject_table": self.reject.name,
            "run_table": self.run.name,
            "schedule_table": self.schedule.name,
            "batch_table": self.batch.name,
            "lease_table": self.lease.name,
            "park_table": self.park.name,
            "content_table": self.content.name,
            "part_table": self.part.name,
            "watermark_table": self.watermark.name,
            "verdict_table": self.verdict.name,
            "version_table": self.version.name,
        }

    def all(self) -> tuple[Table, ...]:
        """Every table."""
        return tuple(getattr(self, table.name) for table in fields(self))


def _table(name: str, columns: str, *statements: str) -> Table:
    is_log = statements[0] == "create_log"
    key = "ledger.log_table" if is_log else "ledger.tracking_table"
    only_added_to = is_log or statements[0] == "create_version"
    files = tuple(f"ledger/{statement}" for statement in statements)
    return Table(name, frozenset(columns.casefold().split()), files, key, added_to=only_added_to)
