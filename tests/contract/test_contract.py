"""One contract for every database: what the ledger keeps and how a source is paged, the same on all of them."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.context import RunContext
from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.errors import LeaseHeld, LedgerError, SourceError
from engine.identity import InvalidID, canonical
from engine.sync.counts import Flow
from engine.sync.ledger.due import Due
from engine.sync.ledger.ledger import Ledger
from engine.sync.ledger.lookup import Known
from engine.sync.ledger.operator import Acts
from engine.sync.ledger.states import RunStatus
from engine.sync.model import Attempt, Batch, Entity, LedgerSpec, Outcome, Rejection
from engine.sync.payload import joined
from engine.sync.read import exclude, source
from engine.sync.spec.load import load
from tests import tsql
from tests.builders import ledger_spec
from tests.ledgers import acts_on, due_on, ledger_on
from tests.project import ROOT, Project
from tests.tsql import open_ledger, open_source

TRACKING, LOG = "TB_R_SYNC_TRACKING", "SchedulerLog"
SPEC = ledger_spec(TRACKING, LOG)
LOG_COLUMNS = (  # noqa: SIM905 - one line reads better
    "ID ApplicationName LogID LogCategory Activity ApplicationModule IPHostName Status AdditionalInformation CreatedBy "
    "CreatedOn ModifiedBy ModifiedOn RowStatus ExceptionMessage"
).split()
# The tables as the replaced .NET job has them, in each database's words.
NET_TRACKING = {
    "sqlite": "Id INTEGER PRIMARY KEY, EntityType NVARCHAR(100) NOT NULL, EntityId NVARCHAR(255) NOT NULL, "
    "SyncTimestamp DATETIME2 NOT NULL DEFAULT CURRENT_TIMESTAMP",
    "postgresql": "Id BIGSERIAL PRIMARY KEY, EntityType VARCHAR(100) NOT NULL, EntityId VARCHAR(255) NOT NULL, "
    "SyncTimestamp TIMESTAMP NOT NULL DEFAULT now()",
    "mysql": "Id BIGINT AUTO_INCREMENT PRIMARY KEY, EntityType VARCHAR(100) NOT NULL, EntityId VARCHAR(255) NOT NULL, "
    "SyncTimestamp DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP",
    "tsql": "Id BIGINT IDENTITY(1,1) NOT NULL PRIMARY KEY, EntityType NVARCHAR(100) NOT NULL, "
    "EntityId NVARCHAR(255) NOT NULL, SyncTimestamp DATETIME2 NOT NULL DEFAULT (SYSUTCDATETIME())",
}


# SQL Server's statements run on SQLite, see tests/tsql.py.
@pytest.fixture(params=["sqlite", "postgresql", "mysql", "tsql"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def text(dialect: str, database: Callable[[str], str], tmp_path: Path) -> str:
    """The connection string of an empty database."""
    return f"{tsql.SCHEME}{tmp_path}/tsql.db" if dialect == "tsql" else database(dialect)


@pytest.fixture
def db(text: str) -> Iterator[Connection]:
    connection = open_ledger("log", text, ROOT, create=True)
    yield connection
    connection.close()


def make_ledger(db: Connection, spec: LedgerSpec = SPEC, pipeline: str = "sync", *, prepare: bool = True) -> Ledger:
    ledger = ledger_on(db, spec, pipeline, str(uuid.uuid4()))
    if prepare:
        ledger.prepare()
    return ledger


@pytest.fixture
def ledger(db: Connection) -> Ledger:
    return make_ledger(db)


def acts(ledger: Ledger) -> Acts:
    """The same tables, for what a person does."""
    return acts_on(ledger.store.db, ledger.store.spec, ledger.store.pipeline, ledger.store.run)


def due(ledger: Ledger) -> Due:
    """The same tables, for the schedule."""
    return due_on(ledger.store.db, ledger.store.spec, ledger.store.pipeline, ledger.store.run)


def known(ledger: Ledger, entity: str, ids: Sequence[str]) -> set[str]:
    """Those that the ledger knows as delivered."""
    return set(ledger.lookup(entity, changed=False)(ids).tracked)


def ask(db: Connection, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in db.execute(Statement(sql, parameters)).rows]


def columns_of(db: Connection, table: str) -> list[str]:
    return [name.casefold() for name in db.execute(Statement(f"SELECT * FROM {table} WHERE 1 = 0", ())).columns]


def settle(ledger: Ledger, outcome: Outcome) -> None:
    """As a run does it: written into the journal first."""
    ledger.batches.intend(outcome.batch)
    ledger.batches.settle(replace(outcome, answered=True))


def batch(*ids: str, entity: str = "Users") -> Batch:
    return Batch(
        str(uuid.uuid4()), entity, str(uuid.uuid4()), ids, joined([orjson.dumps({"Id": id_}) for id_ in ids], None)
    )


def attempt(made: Batch, number: int = 1, **changes: Any) -> Attempt:
    values = {"status": 200, "seconds": 0.25, "error": None, "started": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)}
    return Attempt(batch=made, number=number, url="http://h/api/users", **{**values, **changes})


# The ledger's tables


def test_absent_tables_are_created_with_the_columns_of_the_replaced_job(db: Connection, ledger: Ledger) -> None:
    assert columns_of(db, TRACKING) == ["id", "entitytype", "entityid", "synctimestamp"]
    assert columns_of(db, LOG) == [name.casefold() for name in LOG_COLUMNS]
    wanted = "EntityType EntityId State Reason HttpResponseCode Attempts FirstSeen LastSeen NextTry BatchId"
    assert columns_of(db, "TB_R_SYNC_REJECT") == wanted.casefold().split()


def test_the_created_tracking_table_has_the_unique_index_by_its_name(
    db: Connection, ledger: Ledger, dialect: str
) -> None:
    catalog = {
        "sqlite": f"SELECT name FROM pragma_index_list('{TRACKING}') WHERE \"unique\" = 1",
        "postgresql": "SELECT indexname FROM pg_indexes WHERE indexdef LIKE 'CREATE UNIQUE INDEX%'",
        "mysql": "SELECT DISTINCT index_name FROM information_schema.statistics "
        "WHERE table_schema = DATABASE() AND non_unique = 0",
        "tsql": f"SELECT name FROM pragma_index_list('{TRACKING}') WHERE [unique] = 1",
    }[dialect]
    names = {row[0].casefold() for row in ask(db, catalog)}
    assert f"UQ_{TRACKING}_EntityType_EntityId".casefold() in names


def test_the_tracking_table_refuses_a_pair_twice_and_nulls_and_dates_rows_by_itself(
    db: Connection, ledger: Ledger
) -> None:
    ask(db, f"INSERT INTO {TRACKING} (EntityType, EntityId) VALUES ('Users', 'a')")
    ask(db, f"INSERT INTO {TRACKING} (EntityType, EntityId) VALUES ('Orgs', 'a')")
    for values in ("('Users', 'a')", "(NULL, 'b')", "('Users', NULL)"):
        with pytest.raises(Exception, match=r"(?i)unique|duplicate|null"):
            ask(db, f"INSERT INTO {TRACKING} (EntityType, EntityId) VALUES {values}")
    rows = ask(db, f"SELECT Id, SyncTimestamp FROM {TRACKING} ORDER BY Id")
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    for _, moment in rows:
        parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        assert abs(parsed - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=5), "not UTC now"


def test_preparing_twice_changes_nothing(db: Connection, ledger: Ledger) -> None:
    settle(ledger, Outcome(batch("1"), accepted=("1",)))
    ledger.prepare()
    assert known(make_ledger(db), "Users", ["1", "2"]) == {"1"}


def test_existing_tables_are_used_as_they_are_with_extra_nullable_columns(db: Connection, dialect: str) -> None:
    ask(db, f"CREATE TABLE {TRACKING} ({NET_TRACKING[dialect]}, Remark VARCHAR(50))")
    ask(db, f"CREATE UNIQUE INDEX UQ_net ON {TRACKING} (EntityType, EntityId)")
    ask(db, f"INSERT INTO {TRACKING} (EntityType, EntityId, Remark) VALUES ('Users', '7', 'by hand')")
    ledger = make_ledger(db)
    assert known(ledger, "Users", ["7", "8"]) == {"7"}
    settle(ledger, Outcome(batch("7", "8"), accepted=("7", "8")))
    assert ask(db, f"SELECT EntityId, Remark FROM {TRACKING} ORDER BY EntityId") == [("7", "by hand"), ("8", None)]


def test_an_existing_table_of_another_collation_of_its_database_works(db: Connection, dialect: str) -> None:
    options = {
        "sqlite": "",
        "postgresql": "",
        "mysql": " CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
        "tsql": "",
    }[dialect]
    ask(db, f"CREATE TABLE {TRACKING} ({NET_TRACKING[dialect]}){options}")
    ask(db, f"CREATE UNIQUE INDEX UQ_net ON {TRACKING} (EntityType, EntityId)")
    ledger = make_ledger(db)
    settle(ledger, Outcome(batch("7", "8"), accepted=("7", "8")))
    assert known(ledger, "Users", ["7", "9"]) == {"7"}
    assert acts(ledger).forget("Users", ["7"]) == ["7"]
    assert known(ledger, "Users", ["7", "8"]) == {"8"}


def test_upper_case_guids_that_a_net_program_wrote_still_match_and_can_be_forgotten(
    db: Connection, dialect: str
) -> None:
    ask(db, f"CREATE TABLE {TRACKING} ({NET_TRACKING[dialect]})")
    ask(db, f"CREATE UNIQUE INDEX UQ_net ON {TRACKING} (EntityType, EntityId)")
    ids = [str(uuid.UUID(int=number << 64 | 0xABCDEF)) for number in range(50)]
    for id_ in ids:
        ask(db, f"INSERT INTO {TRACKING} (EntityType, EntityId) VALUES ('Users', ?)", id_.upper())
    ledger = make_ledger(db)
    other = str(uuid.uuid4())
    assert known(ledger, "Users", [*ids, other]) == set(ids)
    assert acts(ledger).forget("Users", [ids[3], other]) == [ids[3]]
    assert known(ledger, "Users", ids) == set(ids) - {ids[3]}


@pytest.mark.parametrize(
    ("table", "columns", "lacking"),
    [
        (TRACKING, "EntityType VARCHAR(100)", ["entityid", "synctimestamp"]),
        (LOG, "ID VARCHAR(36), Status VARCHAR(50)", ["activity", "exceptionmessage"]),
    ],
)
def test_an_existing_table_that_lacks_columns_is_an_error_that_names_them(
    db: Connection, table: str, columns: str, lacking: list[str]
) -> None:
    ask(db, f"CREATE TABLE {table} ({columns})")
    with pytest.raises(LedgerError) as caught:
        make_ledger(db)
    for word in [table, *lacking]:
        assert word.casefold() in str(caught.value).casefold()
    assert columns_of(db, table) == [part.split()[0].casefold() for part in columns.split(", ")], "it was changed"


def test_tables_may_stand_in_a_schema_of_their_own(db: Connection, dialect: str) -> None:
    schema = f"s{uuid.uuid4().hex[:8]}"
    if dialect == "sqlite":
        ask(db, f"ATTACH ':memory:' AS {schema}")
    else:
        ask(db, f"CREATE SCHEMA {schema}")
    spec = ledger_spec(f"{schema}.Delivered", f"{schema}.Calls", "X")
    ledger = make_ledger(db, spec)
    made = batch("1")
    ledger.batches.attempt(attempt(made))
    settle(ledger, Outcome(made, accepted=("1",)))
    assert ask(db, f"SELECT EntityId FROM {schema}.Delivered") == [("1",)]
    assert ask(db, f"SELECT COUNT(*) FROM {schema}.Calls") == [(1,)]


def test_an_account_that_may_not_create_tables_is_told_which_one_is_absent(database: Callable[[str], str]) -> None:
    text = database("postgresql")
    role = f"r{uuid.uuid4().hex[:8]}"
    connection = open_ledger("log", text, ROOT, create=True)
    ask(connection, f"CREATE ROLE {role}")
    ask(connection, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    ask(connection, f"SET ROLE {role}")
    try:
        with pytest.raises(LedgerError, match=rf"{TRACKING} is absent from .*cannot be created: .*permission denied"):
            make_ledger(connection)
    finally:
        connection.close()


# Tracking


@pytest.mark.parametrize("count", [3000, 30_000])
def test_thousands_of_ids_are_tracked_found_and_forgotten(ledger: Ledger, count: int) -> None:
    ids = [str(uuid.UUID(int=number)) for number in range(count)]
    others = [str(uuid.UUID(int=number)) for number in range(count, count + 100)]
    settle(ledger, Outcome(batch(*ids), accepted=tuple(ids)))
    assert known(ledger, "Users", [*others, *ids]) == set(ids)
    assert known(ledger, "Orgs", ids) == set()
    began = time.monotonic()
    assert acts(ledger).forget("Users", ids[:2000]) == ids[:2000]
    assert time.monotonic() - began < 8, "each tracked row was compared with each forgotten ID"
    assert known(ledger, "Users", ids) == set(ids[2000:])
    assert ledger.history.standings()["Users"].tracked == count - 2000


AWKWARD = [
    "1", "01", "1.0", "abc", "ABC", "Abc", "Ünïcode", "ünïcode", "straße", "strasse",
    "x'y", 'x"y', "back\\slash", "a;b--",
    "{brace}", "?", "%", "_", "\N{GRINNING FACE}", "\N{GRINNING FACE}\N{THUMBS UP SIGN}", "tab\tbed",
    "line\nfeed", " leading",
    '["10001","d005"]', '["10001","D005"]', '["a\\"b","c"]', "null", "true", "0x00ff",
    "e\N{COMBINING ACUTE ACCENT}", "é",
    "x" * 99, "x" * 100, "x" * 101, "x" * 127, "x" * 128, "x" * 255, "é" * 128, "\N{GRINNING FACE}" * 255,
    "2026-01-02T03:04:05",
]  # fmt: skip


def test_awkward_ids_are_kept_apart_and_come_back_as_they_went_in(ledger: Ledger) -> None:
    half = AWKWARD[::2]
    settle(ledger, Outcome(batch(*half), accepted=tuple(half)))
    assert known(ledger, "Users", AWKWARD) == set(half)
    settle(ledger, Outcome(batch(*AWKWARD), accepted=tuple(AWKWARD)))
    assert known(ledger, "Users", AWKWARD) == set(AWKWARD)


def test_an_awkward_id_alone_is_tracked_found_and_forgotten(db: Connection, ledger: Ledger) -> None:
    for id_ in AWKWARD:
        settle(ledger, Outcome(batch(id_), accepted=(id_,)))
        assert known(ledger, "Users", [id_]) == {id_}
        assert ask(db, f"SELECT EntityId FROM {TRACKING}") == [(id_,)]
        assert acts(ledger).forget("Users", [id_]) == [id_]
        assert known(ledger, "Users", [id_]) == set()


def test_an_id_with_a_nul_is_refused_as_an_id_or_kept_by_the_ledger(ledger: Ledger) -> None:
    try:
        id_ = canonical("a\0b")
    except InvalidID:
        return  # a record refused alone: nothing else is held up
    assert known(ledger, "Users", [id_, "2"]) == set()
    settle(ledger, Outcome(batch(id_), accepted=(id_,)))
    assert known(ledger, "Users", [id_]) == {id_}


def test_tracking_twice_is_harmless_and_keeps_the_first_time(db: Connection, ledger: Ledger) -> None:
    settle(ledger, Outcome(batch("1", "2"), accepted=("1", "2")))
    before = ask(db, f"SELECT EntityId, SyncTimestamp FROM {TRACKING} WHERE EntityId = '1'")
    time.sleep(0.01)
    settle(ledger, Outcome(batch("1", "2", "3"), accepted=("1", "2", "3")))
    settle(ledger, Outcome(batch("4", "4"), accepted=("4", "4")))
    assert ask(db, f"SELECT EntityId, SyncTimestamp FROM {TRACKING} WHERE EntityId = '1'") == before
    assert ask(db, f"SELECT EntityId FROM {TRACKING} ORDER BY EntityId") == [("1",), ("2",), ("3",), ("4",)]


def test_the_baseline_tracks_without_a_call(db: Connection, ledger: Ledger) -> None:
    acts(ledger).baseline("Users", ["1", "2"])
    acts(ledger).baseline("Users", ["2", "3"])
    assert known(ledger, "Users", ["1", "2", "3", "4"]) == {"1", "2", "3"}
    assert ask(db, f"SELECT COUNT(*) FROM {LOG} WHERE Activity LIKE 'Sync Batch:%'") == [(0,)]


def test_asking_for_no_ids_gives_none(ledger: Ledger) -> None:
    assert known(ledger, "Users", []) == set()
    assert acts(ledger).forget("Users", []) == []


def test_settling_is_all_or_nothing(db: Connection, ledger: Ledger) -> None:
    settle(ledger, Outcome(batch("0"), accepted=("0",)))
    ask(db, "DROP TABLE TB_R_SYNC_REJECT")
    made = batch("1", "2", "3")
    with pytest.raises(LedgerError):
        settle(ledger, Outcome(made, accepted=("1", "2"), rejected=(Rejection("3", "bad", 400),)))
    assert ask(db, f"SELECT COUNT(*) FROM {TRACKING}") == [(1,)]
    # And the connection is fit for the next batch.
    settle(ledger, Outcome(batch("4"), accepted=("4",)))
    assert known(ledger, "Users", ["1", "2", "3", "4"]) == {"4"}


def test_what_one_connection_settled_another_sees_at_once(ledger: Ledger, text: str) -> None:
    other = open_ledger("log", text, ROOT, create=True)
    try:
        second = make_ledger(other)
        assert known(second, "Users", ["1"]) == set()
        settle(ledger, Outcome(batch("1"), accepted=("1",)))
        assert known(second, "Users", ["1"]) == {"1"}
    finally:
        other.close()


# The log


def test_every_attempt_is_one_log_row_with_what_was_called(db: Connection, ledger: Ledger) -> None:
    made = batch("1", "2", "3")
    ledger.batches.attempt(attempt(made, 1, status=503, error="503 Service Unavailable: try later"))
    ledger.batches.attempt(attempt(made, 2, status=None, error="connection reset"))
    ledger.batches.attempt(attempt(made, 3))
    rows = ask(
        db,
        f"SELECT Status, AdditionalInformation, ExceptionMessage, LogID, LogCategory, Activity, ApplicationModule, "
        f"ApplicationName, RowStatus, ModifiedBy, CreatedBy, ID FROM {LOG}",
    )
    rows.sort(key=lambda row: json.loads(row[1])["Attempt"])
    assert [row[0] for row in rows] == ["Failure", "Failure", "Success"]
    assert [json.loads(row[1])["HttpResponseCode"] for row in rows] == [503, None, 200]
    assert [row[2] for row in rows] == ["503 Service Unavailable: try later", "connection reset", None]
    assert {row[3:10] for row in rows} == {
        (ledger.store.run, "Sync", "Sync Batch: Users", "Users", "TAMHR", 1, None),
    }
    assert all(row[10] for row in rows)
    assert len({str(row[11]).lower() for row in rows}) == 3
    information = json.loads(rows[0][1])
    assert information["EndpointUrl"] == "http://h/api/users"
    assert information["BatchSize"] == 3
    assert information["DurationMs"] == 250
    assert (information["RunId"], information["BatchId"]) == (ledger.store.run, made.id)


@pytest.mark.parametrize(
    "message",
    [
        "x" * 10_000,
        "\N{COLLISION SYMBOL} répondu: " * 700,
        "\N{GRINNING FACE}" * 10_000,
        "'; DROP TABLE SchedulerLog; --\r\n\t\\",
    ],
    ids=["long", "mixed", "emoji", "quotes"],
)
def test_a_long_exception_text_is_kept_whole(db: Connection, ledger: Ledger, message: str) -> None:
    ledger.batches.attempt(attempt(batch("1"), status=500, error=message))
    assert ask(db, f"SELECT ExceptionMessage FROM {LOG}") == [(message,)]


@pytest.mark.parametrize("message", ["before \0 after", "before \udca0 after"], ids=["nul", "surrogate"])
def test_an_exception_text_that_a_database_cannot_hold_is_still_logged(
    db: Connection, ledger: Ledger, message: str
) -> None:
    ledger.batches.attempt(attempt(batch("1"), status=500, error=message))
    ledger.records.reject("Users", [Rejection("1", message, 500)])
    for table, column in ((LOG, "ExceptionMessage"), ("TB_R_SYNC_REJECT", "Reason")):
        ((found,),) = ask(db, f"SELECT {column} FROM {table}")
        assert found.startswith("before ")
        assert found.endswith(" after")


def test_a_log_row_stays_when_the_settlement_after_it_fails(db: Connection, ledger: Ledger) -> None:
    made = batch("1")
    ledger.batches.attempt(attempt(made))
    ask(db, f"DROP TABLE {TRACKING}")
    with pytest.raises(LedgerError):
        settle(ledger, Outcome(made, accepted=("1",)))
    assert ask(db, f"SELECT COUNT(*) FROM {LOG}") == [(1,)]


# Rejects


def test_a_record_rejected_again_counts_its_attempts_and_keeps_its_first_time(db: Connection, ledger: Ledger) -> None:
    settle(ledger, Outcome(batch("7"), rejected=(Rejection("7", "first", 400),)))
    ledger.records.reject("Users", [Rejection("8", "once")])
    first = ask(db, "SELECT FirstSeen FROM TB_R_SYNC_REJECT WHERE EntityId = '7'")
    time.sleep(0.01)
    made = batch("7")
    settle(ledger, Outcome(made, rejected=(Rejection("7", "second \N{GRINNING FACE}", 422),)))
    rows = ask(
        db,
        "SELECT EntityType, EntityId, State, Reason, HttpResponseCode, Attempts, BatchId FROM TB_R_SYNC_REJECT "
        "ORDER BY EntityId",
    )
    assert rows == [
        ("Users", "7", "rejected", "second \N{GRINNING FACE}", 422, 2, made.id),
        ("Users", "8", "rejected", "once", None, 1, None),
    ]
    assert ask(db, "SELECT FirstSeen FROM TB_R_SYNC_REJECT WHERE EntityId = '7'") == first
    assert known(ledger, "Users", ["7"]) == set()


def test_an_awkward_id_is_rejected_once_however_often_it_comes(db: Connection, ledger: Ledger) -> None:
    for number in range(2):
        ledger.records.reject("Users", [Rejection(id_, f"{'r' * 300}{number}") for id_ in AWKWARD])
    found = ask(db, "SELECT EntityId, Reason, Attempts FROM TB_R_SYNC_REJECT")
    assert sorted(found) == sorted((id_, f"{'r' * 300}1", 2) for id_ in AWKWARD)


@pytest.mark.parametrize("count", [60, 75, 100, 120, 130])
def test_a_reject_of_an_id_of_emoji_only_is_written(db: Connection, ledger: Ledger, count: int) -> None:
    id_ = "\N{GRINNING FACE}" * count
    ledger.records.reject("Users", [Rejection(id_, id_)])
    assert ask(db, "SELECT EntityId, Reason FROM TB_R_SYNC_REJECT") == [(id_, id_)]


def test_a_record_accepted_in_a_later_run_is_no_longer_rejected(db: Connection, ledger: Ledger) -> None:
    ledger.records.reject("Users", [Rejection("7", "bad"), Rejection("8", "bad")])
    time.sleep(0.01)
    later = make_ledger(db)
    settle(later, Outcome(batch("7"), accepted=("7",)))
    assert ask(db, "SELECT EntityId FROM TB_R_SYNC_REJECT") == [("8",)]


def test_a_record_that_one_run_saw_refused_and_then_accepted_is_no_longer_rejected(
    db: Connection, ledger: Ledger
) -> None:
    settle(ledger, Outcome(batch("7", "8"), rejected=(Rejection("7", "no", 422), Rejection("8", "no", 422))))
    settle(ledger, Outcome(batch("7"), accepted=("7",)))
    assert ask(db, "SELECT EntityId FROM TB_R_SYNC_REJECT") == [("8",)]


def test_a_second_record_of_an_id_refused_in_this_run_stays_though_the_first_is_accepted(
    db: Connection, ledger: Ledger
) -> None:
    """Accepting the one record says nothing of the other that this run refused before it was sent."""
    ledger.records.reject("Users", [Rejection("7", "the ID comes twice")])
    settle(ledger, Outcome(batch("7"), accepted=("7",)))
    assert ask(db, "SELECT EntityId, Reason FROM TB_R_SYNC_REJECT") == [("7", "the ID comes twice")]


def test_a_refused_record_rests_until_its_time_and_no_longer(db: Connection, ledger: Ledger) -> None:
    settle(ledger, Outcome(batch("7"), rejected=(Rejection("7", "no", 422),)))
    resting = ledger.lookup("Users", changed=False)
    assert set(resting(["7", "8"]).refused) == {"7"}
    ((last, following),) = ask(db, "SELECT LastSeen, NextTry FROM TB_R_SYNC_REJECT")
    assert datetime.fromisoformat(str(following)) - datetime.fromisoformat(str(last)) == timedelta(hours=1)
    ask(db, "UPDATE TB_R_SYNC_REJECT SET NextTry = '2020-01-01 00:00:00'")
    assert set(resting(["7", "8"]).refused) == set()


# The lease


def test_one_run_holds_the_lease_and_only_it_can_settle(db: Connection, ledger: Ledger) -> None:
    lease = ledger.lease.acquire(600)
    settle(ledger, Outcome(batch("1"), accepted=("1",)))
    assert lease.renew(db, ledger.store.names)
    with pytest.raises(LeaseHeld):
        make_ledger(db).lease.acquire(600)
    for change in ("Token = Token + 1", "RunId = 'another'", "Pipeline = 'other'"):
        before = ask(db, "SELECT Token, RunId, Pipeline FROM TB_R_SYNC_LEASE")[0]
        ask(db, f"UPDATE TB_R_SYNC_LEASE SET {change}")
        with pytest.raises(LedgerError, match="lease of this run is lost"):
            settle(ledger, Outcome(batch("2"), accepted=("2",)))
        assert not lease.renew(db, ledger.store.names)
        ask(db, "UPDATE TB_R_SYNC_LEASE SET Token = ?, RunId = ?, Pipeline = ?", *before)
    assert known(ledger, "Users", ["1", "2"]) == {"1"}


def test_an_expired_or_freed_lease_goes_to_the_next_run_under_a_newer_token(db: Connection) -> None:
    first, second, third = make_ledger(db), make_ledger(db), make_ledger(db)
    tokens = [first.lease.acquire(0.0).token]
    ((beaten, expires),) = ask(db, "SELECT HeartbeatOn, ExpiresOn FROM TB_R_SYNC_LEASE")
    assert beaten == expires
    time.sleep(0.01)
    tokens.append(second.lease.acquire(600).token)
    ((beaten, expires),) = ask(db, "SELECT HeartbeatOn, ExpiresOn FROM TB_R_SYNC_LEASE")
    assert datetime.fromisoformat(str(expires)) - datetime.fromisoformat(str(beaten)) == timedelta(minutes=10)
    second.lease.release()
    tokens.append(third.lease.acquire(600).token)
    assert tokens == [1, 2, 3]


# Open batches


def test_open_batches_of_the_pipeline_come_oldest_first_with_their_age(db: Connection, ledger: Ledger) -> None:
    old, new, done = batch("1"), batch("2"), batch("3")
    for made in (new, old, done):
        ledger.batches.intend(made)
    ledger.batches.settle(Outcome(done, accepted=("3",), answered=True))
    make_ledger(db, pipeline="other").batches.intend(batch("4"))
    ask(db, "UPDATE TB_R_SYNC_BATCH SET CreatedOn = '2020-01-01 00:00:00' WHERE BatchId = ?", old.id)
    found = ledger.history.open_batches(entity="Users")
    assert [left.id for left in found] == [old.id, new.id]
    assert found[0].age > 5 * 365 * 86400
    assert 0 <= found[1].age < 300
    assert ledger.history.waiting("Users") == {"1", "2"}


# Runs, due times, standings


def test_runs_come_newest_first_with_their_summaries(db: Connection) -> None:
    made = []
    for status in ("delivered", "incomplete", "delivered", "error"):
        ledger = make_ledger(db)
        ledger.row.started()
        ledger.row.ended(RunStatus(status), {"entities": [{"name": "Üsers \N{GRINNING FACE}", "read": 1}] * 300})
        made.append(ledger.store.run)
        time.sleep(0.01)
    other = make_ledger(db, pipeline="other")
    other.row.started()
    found = ledger.history.runs(10)
    assert [run.id for run in found] == made[::-1]
    assert [run.status for run in found] == ["error", "delivered", "incomplete", "delivered"]
    assert found[0].summary == {"entities": [{"name": "Üsers \N{GRINNING FACE}", "read": 1}] * 300}
    assert all(run.started and run.ended for run in found)
    assert [run.id for run in ledger.history.runs(2)] == made[:1:-1]
    assert [run.id for run in ledger.history.runs(5, RunStatus.DELIVERED)] == [made[2], made[0]]
    (running,) = other.history.runs(5)
    assert (running.id, running.status, running.ended, running.summary) == (other.store.run, "killed", None, None), (
        "it holds no lease"
    )


def test_the_last_success_is_when_the_last_delivered_run_began_in_utc(db: Connection) -> None:
    ledger = make_ledger(db)
    assert ledger.history.last_success() is None
    ledger.row.started()
    assert ledger.history.last_success() is None
    ledger.row.ended(RunStatus.DELIVERED, {})
    failed = make_ledger(db)
    failed.row.started()
    failed.row.ended(RunStatus.ERROR, {})
    moment = failed.history.last_success()
    assert moment is not None
    assert moment.tzinfo is not None
    assert abs(moment - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_ledger_without_tables_answers_readers_with_nothing(db: Connection) -> None:
    ledger = make_ledger(db, prepare=False)
    assert ledger.history.runs(5) == []
    assert ledger.history.last_success() is None
    assert due(ledger).last_due() is None
    assert ledger.history.standings() == {}
    assert ledger.history.in_use() is False


def test_a_due_time_comes_back_as_it_was_set(db: Connection) -> None:
    ledger, other = make_ledger(db), make_ledger(db, pipeline="other")
    due(ledger).prepare()
    assert due(ledger).last_due() is None
    night = datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Asia/Jakarta"))
    for moment in (night, night, night + timedelta(days=1), datetime(2026, 1, 1, tzinfo=UTC)):
        due(ledger).set_last_due(moment)
        assert due(ledger).last_due() == moment
    assert due(other).last_due() is None


def test_standings_count_tracked_and_rejected_by_entity(ledger: Ledger) -> None:
    settle(ledger, Outcome(batch("1", "2"), accepted=("1", "2")))
    settle(ledger, Outcome(batch("1", entity="Orgs"), accepted=("1",)))
    ledger.records.reject("Users", [Rejection("3", "bad")])
    ledger.records.reject("Events", [Rejection("4", "bad"), Rejection("5", "bad")])
    found = ledger.history.standings()
    assert {name: (standing.tracked, standing.rejected) for name, standing in found.items()} == {
        "Users": (2, 1), "Orgs": (1, 0), "Events": (0, 2),
    }  # fmt: skip
    assert found["Users"].last_tracked is not None
    assert found["Events"].last_rejected is not None


def test_forgetting_is_an_audit_row(db: Connection, ledger: Ledger) -> None:
    settle(ledger, Outcome(batch("1", "2"), accepted=("1", "2")))
    assert acts(ledger).forget("Users", ["2", "9"]) == ["2"]
    ((activity, information),) = ask(db, f"SELECT Activity, AdditionalInformation FROM {LOG}")
    assert activity == "Forget: Users"
    assert json.loads(information)["EntityIds"] == ["2"]


# Paging


class Source:
    """A database to page through, and a project for the templates."""

    def __init__(self, dialect: str, text: str, project: Project) -> None:
        # SQLite holds the rows of the pseudo-server too.
        self.dialect, self.text, self.project = "sqlite" if dialect == "tsql" else dialect, text, project
        self.db = open_ledger("default", text, ROOT, create=True)
        self._entities: dict[str, Entity] = {}

    def fill(self, create: dict[str, str] | str, rows: Sequence[tuple[Any, ...]], table: str = "Things") -> None:
        columns = create if isinstance(create, str) else create[self.dialect]
        ask(self.db, f"CREATE TABLE {table} ({columns})")
        with self.db.transaction():
            for row in rows:
                ask(self.db, f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)

    def entity(self, page_size: int = 10_000, **keys: Any) -> Entity:
        if repr(keys) not in self._entities:
            self.project.spec["entities"].clear()
            self.project.entity("Things", **keys)
            pipeline = load(self.project.write()).pipeline
            self._entities[repr(keys)] = pipeline.entities[0]
        return replace(self._entities[repr(keys)], page_size=page_size)

    def pages(self, **keys: Any) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """The header and the rows that come."""
        connection = open_source("default", self.text, self.project.folder)
        try:
            rows = iter(source.pages(connection, self.entity(**keys), RunContext.start()))
            header = tuple(next(rows))
            return header, [tuple(row) for row in itertools.islice(rows, 100)]
        finally:
            connection.close()

    def due(self, **keys: Any) -> tuple[list[tuple[Any, ...]], list[Rejection]]:
        """The rows that are due when nothing is tracked, and what is refused."""
        connection = open_source("default", self.text, self.project.folder)
        entity, refused = self.entity(**keys), list[Rejection]()
        try:
            rows = source.pages(connection, entity, RunContext.start())
            table = exclude.tracked(rows, entity.id, lambda _: Known(), Flow(refused.append))
            return [tuple(row) for row in itertools.islice(iter(table), 1, None)], refused
        finally:
            connection.close()


@pytest.fixture
def things(dialect: str, text: str, tmp_path: Path) -> Iterator[Source]:
    made = Source(dialect, text, Project(tmp_path / "project"))
    yield made
    made.db.close()


GUIDS = [str(uuid.UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128)) for number in range(14)]
MOMENTS = [datetime(2026, 1, 1, 0, 0, 0, 1000 * number) for number in range(7)] + [
    datetime(2026, 1, 1, 0, 0, 1) + timedelta(microseconds=number) for number in range(7)
]
TEXTS = ["a", "aa", "b", "Z", "zz", "é", "x'y", 'x"y', "\\", "1", "01", "{d}", "\N{GRINNING FACE}", "-"]
KINDS: dict[str, tuple[dict[str, str] | str, list[tuple[Any, ...]], list[str]]] = {
    "int": ("Id INTEGER NOT NULL", [(number * 37 % 1009 - 300,) for number in range(14)], ["Id"]),
    "bigint": ("Id BIGINT NOT NULL", [(2**63 - 1 - number,) for number in range(14)], ["Id"]),
    "guid": (
        {"sqlite": "Id NVARCHAR(36)", "postgresql": "Id UUID", "mysql": "Id CHAR(36) COLLATE utf8mb4_general_ci"},
        [(guid,) for guid in GUIDS],
        ["Id"],
    ),
    "padded": (
        {"sqlite": "Id CHAR(10)", "postgresql": "Id CHAR(10)", "mysql": "Id CHAR(10)"},
        [(f"k{number % 3}{'x' * (number // 3)}".ljust(10),) for number in range(14)],
        ["Id"],
    ),
    "text": (
        {"sqlite": "Id VARCHAR(50)", "postgresql": "Id VARCHAR(50)", "mysql": "Id VARCHAR(50) COLLATE utf8mb4_bin"},
        [(word,) for word in TEXTS],
        ["Id"],
    ),
    "text-without-case": (
        {"sqlite": "Id TEXT COLLATE NOCASE", "postgresql": "Id TEXT", "mysql": "Id VARCHAR(50)"},
        [(f"{letter}{number}",) for number, letter in enumerate("aBcDeFgHiJkLmN")],
        ["Id"],
    ),
    "long-text": (
        {"sqlite": "Id VARCHAR(250)", "postgresql": "Id VARCHAR(250)", "mysql": "Id VARCHAR(250) COLLATE utf8mb4_bin"},
        [("k" * (90 + 10 * number),) for number in range(14)],
        ["Id"],
    ),
    "long-text-without-case": (
        {"sqlite": "Id VARCHAR(250) COLLATE NOCASE", "postgresql": "Id VARCHAR(250)", "mysql": "Id VARCHAR(250)"},
        [(letter * 150,) for letter in "aBcDeFgHiJkLmN"],
        ["Id"],
    ),
    "long-emoji": (
        {"sqlite": "Id VARCHAR(250)", "postgresql": "Id VARCHAR(250)", "mysql": "Id VARCHAR(250) COLLATE utf8mb4_bin"},
        [("\N{GRINNING FACE}" * (30 + 15 * number),) for number in range(14)],
        ["Id"],
    ),
    "datetime": (
        {"sqlite": "Id DATETIME", "postgresql": "Id TIMESTAMP", "mysql": "Id DATETIME(6)"},
        [(moment,) for moment in MOMENTS],
        ["Id"],
    ),
    "date": (
        {"sqlite": "Id DATE", "postgresql": "Id DATE", "mysql": "Id DATE"},
        [(datetime(2026, 1, 1 + number).date(),) for number in range(14)],
        ["Id"],
    ),
    "decimal": (
        {"sqlite": "Id INTEGER", "postgresql": "Id NUMERIC(30,4)", "mysql": "Id DECIMAL(30,4)"},
        [(Decimal(10**14 + number) if number % 2 else Decimal(number),) for number in range(14)],
        ["Id"],
    ),
    "binary": (
        {"sqlite": "Id BLOB", "postgresql": "Id BYTEA", "mysql": "Id BINARY(16)"},
        [(uuid.UUID(guid).bytes,) for guid in GUIDS],
        ["Id"],
    ),
    "two-ints": (
        "A INTEGER NOT NULL, B INTEGER NOT NULL",
        [(number % 4, 100 - number) for number in range(14)],
        ["A", "B"],
    ),
    "text-and-int": (
        {"sqlite": "A VARCHAR(200), B INT", "postgresql": "A VARCHAR(200), B INT", "mysql": "A VARCHAR(200), B INT"},
        [("ab"[number % 2] * (1 + 149 * (number % 3 == 0)), number) for number in range(14)],
        ["A", "B"],
    ),
    "guid-and-datetime": (
        {
            "sqlite": "A NVARCHAR(36), B DATETIME",
            "postgresql": "A UUID, B TIMESTAMP",
            "mysql": "A CHAR(36), B DATETIME(6)",
        },
        [(GUIDS[number % 3], MOMENTS[number]) for number in range(14)],
        ["A", "B"],
    ),
    "three": (
        {
            "sqlite": "A INT, B CHAR(4), C DATE",
            "postgresql": "A INT, B CHAR(4), C DATE",
            "mysql": "A INT, B CHAR(4), C DATE",
        },
        [(number % 2, f"d{number % 3}".ljust(4), datetime(2026, 1, 1 + number // 6).date()) for number in range(12)]
        + [(5, "zz  ", datetime(2026, 1, 1).date()), (6, "zz  ", datetime(2026, 1, 1).date())],
        ["A", "B", "C"],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pages_bring_every_row_once_and_in_key_order(things: Source, kind: str) -> None:
    create, rows, key = KINDS[kind]
    things.fill(create, sorted(rows, key=lambda row: hash(str(row)) % 7))
    keys = ", ".join(key)
    whole = ask(things.db, f"SELECT {keys} FROM Things ORDER BY {keys}")
    assert len(set(whole)) == len(rows) == 14
    for page_size in (1, 2, 7, 14, 15):
        header, found = things.pages(query=f"SELECT {keys} FROM Things", id=key, page_size=page_size)
        assert header == tuple(key)
        assert found == whole, f"page_size {page_size}"


def test_an_empty_table_brings_its_header_and_no_row(things: Source) -> None:
    things.fill("Id INTEGER, NoReg VARCHAR(10)", [])
    header, rows = things.pages(fields={"Id": "int", "NoReg": "string"}, query="SELECT Id, NoReg FROM Things")
    assert (header, rows) == (("Id", "NoReg"), [])


TEMPLATES = {
    "file": "{% extends 'page.sql.j2' %}{% block query %}SELECT Id, N FROM Things WHERE N < 100{% endblock %}",
    "with": "{% extends 'page.sql.j2' %}{% block with %}WITH small AS (SELECT Id, N FROM Things WHERE N < 100)"
    "{% endblock %}{% block query %}SELECT Id, N FROM small{% endblock %}",
    "itself": "SELECT Id, N FROM Things WHERE N < 100{% if after is not none %} AND Id > {{ after }}{% endif %} "
    "ORDER BY Id LIMIT {{ limit }}",
}


@pytest.mark.parametrize("how", ["inline", *TEMPLATES])
def test_every_way_to_write_the_sql_is_paged_alike(things: Source, how: str) -> None:
    things.fill("Id INTEGER, N INTEGER", [(number, number * 10) for number in range(1, 13)])
    if how == "inline":
        keys = {"query": "SELECT Id, N FROM Things WHERE N < 100;"}
    else:
        things.project.template("things.sql.j2", TEMPLATES[how])
        keys = {"sql": "things.sql.j2"}
    for page_size in (1, 3, 4, 9, 100):
        header, rows = things.pages(**keys, page_size=page_size, fields={"Id": "int", "N": "int"})
        assert header == ("Id", "N")
        assert rows == [(number, number * 10) for number in range(1, 10)], f"page_size {page_size}"


def test_a_template_that_pages_itself_by_a_composite_key_reads_the_parts_by_name(things: Source) -> None:
    things.fill("emp_no INTEGER, dept_no CHAR(4)", [(number // 3, f"d{number % 3}") for number in range(9)])
    things.project.template(
        "things.sql.j2",
        "SELECT emp_no, dept_no FROM Things {% if after is not none %}WHERE (emp_no, dept_no) > "
        "({{ after.emp_no }}, {{ after.dept_no }}){% endif %} ORDER BY emp_no, dept_no LIMIT {{ limit }}",
    )
    for page_size in (1, 2, 3, 9):
        _, rows = things.pages(sql="things.sql.j2", id=["emp_no", "dept_no"], page_size=page_size)
        assert [(a, b.strip()) for a, b in rows] == [(number // 3, f"d{number % 3}") for number in range(9)]


def test_a_long_text_bound_by_a_template_arrives_whole(things: Source) -> None:
    word = "ä\N{GRINNING FACE}x" * 200
    things.fill("Id INTEGER, W VARCHAR(2000)", [(1, word), (2, word + "!")])
    query = f"SELECT Id, W FROM Things WHERE W = {{{{ '{word}' }}}}"
    assert things.pages(query=query)[1] == [(1, word)]


def test_a_row_without_an_id_goes_to_reject_and_the_others_are_due(things: Source) -> None:
    things.fill("Id INTEGER, N INTEGER", [(1, 1), (None, 2), (3, 3), (4, 4)])
    for page_size in (2, 3, 100):
        due, refused = things.due(query="SELECT Id, N FROM Things", page_size=page_size)
        assert [row[1] for row in due] == [1, 3, 4]
        if page_size == 100:
            assert [(rejection.id, "NULL" in rejection.reason) for rejection in refused] == [("", True)]


def test_a_null_in_one_column_of_a_composite_key_neither_hides_nor_repeats_rows(things: Source) -> None:
    rows = [(1, 8), (1, 9), (2, None), (2, 1), (2, 2), (3, 1)]
    things.fill("A INTEGER, B INTEGER", rows)
    for page_size in (3, 4, 100):
        due, refused = things.due(query="SELECT A, B FROM Things", id=["A", "B"], page_size=page_size)
        assert [row[1:] for row in due] == [(1, 8), (1, 9), (2, 1), (2, 2), (3, 1)], f"page_size {page_size}"
        assert len(refused) <= 1, f"page_size {page_size}: one row was refused {len(refused)} times"


def test_a_whole_page_without_ids_is_an_error_that_says_what_to_do(things: Source) -> None:
    if things.dialect == "postgresql":
        rows = [(None, number) for number in range(5)]  # NULLs come last there
    else:
        rows = [(None, number) for number in range(5)] + [(1, 1)]
    things.fill("Id INTEGER, N INTEGER", rows)
    with pytest.raises(SourceError, match="IS NOT NULL"):
        things.pages(query="SELECT Id, N FROM Things", page_size=2)


def test_columns_come_in_the_spelling_of_the_spec_whatever_the_database_folds(things: Source) -> None:
    things.fill("Id INTEGER, NoReg VARCHAR(10), FullName VARCHAR(10)", [(1, "a", "b"), (2, "c", "d")])
    header, rows = things.pages(
        query="SELECT Id, NoReg, FullName FROM Things",
        transform=[{"rename": {"FullName": "Name"}}],
        fields={"Id": "int", "NoReg": "string", "Name": "string"},
        page_size=1,
    )
    assert header == ("Id", "NoReg", "FullName")
    assert rows == [(1, "a", "b"), (2, "c", "d")]


def test_a_word_in_an_expression_never_respells_a_column_of_another_case(things: Source) -> None:
    things.fill(
        "Id INTEGER, Name VARCHAR(10), Kind VARCHAR(10), Town VARCHAR(10), Unit VARCHAR(10)", [(1, "a", "b", "c", "d")]
    )
    header, _ = things.pages(
        query="SELECT Id, Name, Kind, Town, Unit FROM Things",
        transform=[{"select": "Name not in ['id', 'ID', 'name', 'NAME', 'kind', 'KIND', 'town', 'TOWN', 'unit']"}],
        fields={"Id": "int", "Name": "string", "Kind": "string", "Town": "string", "Unit": "string"},
    )
    assert header == ("Id", "Name", "Kind", "Town", "Unit")


def test_a_cancelled_run_asks_for_no_further_page(tmp_path: Path) -> None:
    """Also where every row was delivered, so that no batch would notice the signal."""
    project = Project(tmp_path / "project")
    things = Source("sqlite", f"sqlite:///{project.folder}/things.db", project)
    things.fill("Id INTEGER PRIMARY KEY", [(number,) for number in range(20)])
    connection = open_source("default", things.text, project.folder)
    run = RunContext.start()
    try:
        rows = iter(source.pages(connection, things.entity(query="SELECT Id FROM Things", page_size=4), run))
        read = [next(rows) for _ in range(3)]
        run.cancelled.set()
        read += list(rows)
    finally:
        connection.close()
        things.db.close()
    assert len(read) <= 1 + 4, read


def test_quoted_mixed_case_columns_of_postgresql_work(database: Callable[[str], str], tmp_path: Path) -> None:
    things = Source("postgresql", database("postgresql"), Project(tmp_path / "project"))
    things.fill('"Id" INTEGER, "NoReg" TEXT', [(number, f"n{number}") for number in range(5)], '"Things"')
    header, rows = things.pages(query='SELECT "Id", "NoReg" FROM "Things"', page_size=2)
    things.db.close()
    assert header == ("Id", "NoReg")
    assert rows == [(number, f"n{number}") for number in range(5)]


def test_the_keys_of_a_source_are_counted(things: Source) -> None:
    things.fill("Id INTEGER, N INTEGER", [(1, 1), (1, 2), (1, 3), (None, 4), (None, 5), (2, 6)])
    connection = open_source("default", things.text, things.project.folder)
    try:
        check = source.check_keys(connection, things.entity(query="SELECT Id, N FROM Things"), RunContext.start())
    finally:
        connection.close()
    assert check is not None
    assert (check.rows, check.without_id, check.repeated) == (6, 2, 2)


OPERATIONS = st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=4)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Connection, Connection, Entity]]:
    """A SQLite table, a connection that changes it, one that reads it, and its entity."""
    folder = tmp_path_factory.mktemp("moving") / "project"
    things = Source("sqlite", f"sqlite:///{folder}/moving.db", Project(folder))
    ask(things.db, "PRAGMA synchronous = OFF")
    things.fill("Id INTEGER PRIMARY KEY", [])
    reader = open_source("default", things.text, ROOT)
    yield things.db, reader, things.entity(query="SELECT Id FROM Things", page_size=3)
    reader.close()
    things.db.close()


@settings(max_examples=60)
@given(initial=st.sets(st.integers(0, 30)), changes=st.lists(OPERATIONS, max_size=20))
@example(initial=set(range(9)), changes=[[], [], [(False, 0), (False, 1), (False, 2)], [(True, 0)]])
def test_paging_under_inserts_and_deletes_brings_every_row_that_was_there_throughout_exactly_once(
    moving: tuple[Connection, Connection, Entity], initial: set[int], changes: list[list[tuple[bool, int]]]
) -> None:
    writer, reader, entity = moving
    ask(writer, "DELETE FROM Things")
    ask(writer, "INSERT INTO Things SELECT value FROM json_each(?)", json.dumps(sorted(initial)))
    throughout, seen = set(initial), list[int]()
    rows = iter(source.pages(reader, entity, RunContext.start()))
    assert tuple(next(rows)) == ("Id",)
    for number, (id_,) in enumerate(rows):
        seen.append(id_)
        for insert, changed in changes[number] if number < len(changes) else []:
            if insert:
                ask(writer, "INSERT OR IGNORE INTO Things VALUES (?)", changed)
            else:
                ask(writer, "DELETE FROM Things WHERE Id = ?", changed)
                throughout.discard(changed)
    assert seen == sorted(set(seen))
    assert throughout <= set(seen)
