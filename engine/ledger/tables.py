"""The ledger's tables: found as they are, or created."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any

from engine.db.connection import Connection
from engine.errors import DatabaseError, LedgerError
from engine.ledger.places import Place, find
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


def ensure(db: Connection, tables: Tables, wanted: tuple[Table, ...] | None = None) -> str:
    """Create what is absent and check the shape of what is there; says which was found and which made, and where.

    Raises `LedgerError`, also where an absent table stands in another schema: a new one would forget what was delivered.
    """
    asked = wanted or tables.all()
    standing = dict(zip(asked, find(db, [table.name for table in asked]), strict=True))
    absent = [table for table, place in standing.items() if not place.here]
    for table in absent:
        _refuse_astray(db, table, standing[table])
    for table in asked:
        if table not in absent:
            _check_shape(db, table)
    # SQLite takes all of them in one commit. Others would have to begin anew where another run was quicker.
    with db.transaction() if absent and db.dialect.name == "sqlite" else nullcontext():
        for table in absent:
            _create(db, table, tables.names())
    made = dict(zip(absent, find(db, [table.name for table in absent]), strict=True)) if absent else {}
    return _told({table: place for table, place in standing.items() if place.here}, made)


def _told(found: dict[Table, Place], made: dict[Table, Place]) -> str:
    """`found public.tb_r_sync_tracking, public.schedulerlog and 9 more; made public.tb_r_sync_part`."""
    there = [place.qualified(table.name) for table, place in found.items()]
    more = f" and {len(there) - 2} more" if len(there) > 2 else ""
    new = [place.qualified(table.name) for table, place in made.items()]
    said = [f"found {', '.join(there[:2])}{more}"] if there else []
    return "; ".join([*said, *([f"made {', '.join(new)}"] if new else [])])


def present(db: Connection, table: Table) -> bool:
    """True when the table is there. Raises `LedgerError` when it lacks columns that the ledger writes."""
    try:
        columns = _columns(db, table)
    except DatabaseError as failure:
        try:
            (place,) = find(db, [table.name])
        except DatabaseError:
            raise _unreadable(db, table, failure) from failure
        if place.here:
            raise _unreadable(db, table, failure) from failure
        _refuse_astray(db, table, place)
        return False
    _check_columns(db, table, columns)
    return True


def _refuse_astray(db: Connection, table: Table, place: Place) -> None:
    if place.elsewhere:
        key = "log_table" if table.statements[0] == "create_log" else "tracking_table"
        raise LedgerError(
            f"the table {table.name} is not in the schema that {db.description} now leads to, but in {', '.join(place.elsewhere)}: "
            "has the user's default schema, or search_path, changed? A new table would forget what was delivered. Say which "
            f"one is meant: `ledger.{key}: SCHEMA.NAME`"
        )


def _check_shape(db: Connection, table: Table) -> None:
    try:
        columns = _columns(db, table)
    except DatabaseError as failure:
        raise _unreadable(db, table, failure) from failure
    _check_columns(db, table, columns)


def _columns(db: Connection, table: Table) -> set[str]:
    return {name.casefold() for name in db.run("ledger/probe.sql.j2", name=table.name).columns}


def _unreadable(db: Connection, table: Table, failure: DatabaseError) -> LedgerError:
    return LedgerError(f"the table {table.name} in {db.description} cannot be read: {failure}")


def _check_columns(db: Connection, table: Table, columns: set[str]) -> None:
    missing = sorted(table.columns - columns)
    if missing:
        raise LedgerError(
            f"the table {table.name} in {db.description} has another shape: it lacks {', '.join(missing)}; "
            "name another table under `ledger:`, or add the columns (docs/ledger.md has them)"
        )


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
