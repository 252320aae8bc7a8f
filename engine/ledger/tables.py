"""The ledger's tables: found as they are, or created."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any

from engine.db.connection import Connection
from engine.errors import DatabaseError, LedgerError
from engine.model import LedgerSpec


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its name, the columns that must be there, the statements that create it."""

    name: str
    columns: frozenset[str]
    statements: tuple[str, ...]


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
        )

    def names(self) -> dict[str, str]:
        """The template variables that every ledger statement may use."""
        return {
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
        }

    def all(self) -> tuple[Table, ...]:
        """Every table."""
        return tuple(getattr(self, table.name) for table in fields(self))


def _table(name: str, columns: str, *statements: str) -> Table:
    return Table(name, frozenset(columns.casefold().split()), statements)


def ensure(db: Connection, tables: Tables, wanted: tuple[Table, ...] | None = None) -> None:
    """Create what is absent and check the shape of what is there. Raises `LedgerError`."""
    absent = [table for table in wanted or tables.all() if not present(db, table)]
    # SQLite takes all of them in one commit. Others would have to begin anew where another run was quicker.
    with db.transaction() if absent and db.dialect.name == "sqlite" else nullcontext():
        for table in absent:
            _create(db, table, tables.names())


def present(db: Connection, table: Table) -> bool:
    """True when the table is there. Raises `LedgerError` when it lacks columns that the ledger writes."""
    try:
        columns = {name.casefold() for name in db.run("ledger/probe.sql.j2", name=table.name).columns}
    except DatabaseError as failure:
        if _is_absent(failure):
            return False
        raise LedgerError(f"the table {table.name} in {db.description} cannot be read: {failure}") from failure
    missing = sorted(table.columns - columns)
    if missing:
        raise LedgerError(
            f"the table {table.name} in {db.description} has another shape: it lacks {', '.join(missing)}; "
            "name another table under `ledger:`, or add the columns (docs/ledger.md has them)"
        )
    return True


def _is_absent(failure: DatabaseError) -> bool:
    """SQLSTATE 42S02 (ODBC: base table not found), 42P01 (PostgreSQL); sqlite3 and mssql-python only have words."""
    words = ("no such table", "invalid object name")
    return failure.sqlstate in ("42S02", "42P01") or any(text in str(failure).casefold() for text in words)


def _create(db: Connection, table: Table, names: dict[str, Any]) -> None:
    for statement in table.statements:
        try:
            db.run(f"ledger/{statement}.sql.j2", **names)
        except DatabaseError as failure:
            # Another run may have made it between our look and our CREATE.
            if not present(db, table):
                raise LedgerError(
                    f"the table {table.name} is absent from {db.description} and cannot be created: {failure}"
                ) from failure
