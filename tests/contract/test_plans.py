"""What each of the ledger's statements reads: with large tables it seeks, and never scans one, on every database."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from engine.db.connection import Connection
from engine.db.statement import Statement
from tests.builders import open_ledger
from tests.contract.test_case import FOLDING, old_table
from tests.large import JOIN, MAY_SCAN, SERIES, SET, SPEC, fill, rows_read, statements
from tests.ledgers import ledger_on
from tests.project import ROOT
from tests.unit.db.test_tsql import FACTS, PageRequest

ROWS = 60_000


@pytest.fixture(params=["sqlite", "postgresql", "mysql"], scope="module")
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A ledger whose tables have many rows of one entity."""
    dialect = str(request.param)
    if dialect == "sqlite":
        text = f"sqlite:///{tmp_path_factory.mktemp('plans') / 'log.db'}"
    else:
        server = request.getfixturevalue({"postgresql": "postgresql_server", "mysql": "mariadb_server"}[dialect])
        text = server.database("plans")
    db = open_ledger("log", text, ROOT, create=True)
    ledger_on(db, SPEC, "sync", "run").prepare()
    fill(db, ROWS, ROWS, ROWS, ROWS, ROWS)
    yield db
    db.close()


def test_no_statement_of_the_ledger_reads_more_than_some_rows_for_each_id(large: Connection) -> None:
    """Of 60,000 rows per table none is scanned, and no set of IDs is gone through once per row."""
    read = {name: rows_read(large, statement) for name, statement in statements(large)}
    scanning = {name: rows for name, rows in read.items() if rows > 8 * SET and name not in MAY_SCAN}
    assert scanning == {}, read
    assert len(read) > 40


@pytest.mark.parametrize("kind", ["sqlite", "mysql", "mysql, another collation", "postgresql, nondeterministic"])
def test_a_tracking_table_that_ignores_case_is_sought_too(database: Callable[[str], str], kind: str) -> None:
    """By the index of its own collation first; the binary comparison only looks at what that found."""
    dialect = FOLDING[kind][0]
    text = database(dialect)
    old_table(text, kind)
    db = open_ledger("log", text, ROOT, create=True)
    ledger_on(db, SPEC, "sync", "run").prepare()
    values = f"'Users', {JOIN[dialect].format(chr(39) + 'id-' + chr(39))}, CURRENT_TIMESTAMP"
    insert = f"INSERT INTO TB_R_SYNC_TRACKING (EntityType, EntityId, SyncTimestamp) SELECT {values}"
    db.execute(Statement(SERIES[dialect].format(insert=insert, rows=ROWS), ()))
    db.execute(
        Statement("ANALYZE TABLE TB_R_SYNC_TRACKING" if dialect == "mysql" else "ANALYZE TB_R_SYNC_TRACKING", ())
    )
    wanted = ("tracked", "tracked_row", "touch", "forget", "clashes", "track")
    read = {name: rows_read(db, made) for name, made in statements(db) if name in wanted}
    if dialect == "postgresql":
        read.pop("clashes")  # see MAY_SCAN
    db.close()
    assert {name: rows for name, rows in read.items() if rows > 8 * SET} == {}


@pytest.mark.parametrize("charset", ["latin1", "ascii", "utf8mb4"])
@pytest.mark.parametrize("length", [36, 120], ids=["a GUID", "longer than the driver carries"])
def test_a_text_key_of_any_character_set_is_sought_on_mariadb(
    database: Callable[[str], str], charset: str, length: int
) -> None:
    """The next page and the rows of some keys are found by the index, also where the key column is not utf8mb4."""
    text = database("mysql")
    db = open_ledger("default", text, ROOT, create=True)
    db.execute(Statement(f"CREATE TABLE Users (Id VARCHAR(150) CHARACTER SET {charset} PRIMARY KEY, Name INT)", ()))
    db.execute(Statement(f"INSERT INTO Users SELECT LPAD(seq, {length}, '0'), seq FROM seq_1_to_20000", ()))
    db.execute(Statement("ANALYZE TABLE Users", ()))
    query, keys = "SELECT Id, Name FROM Users", [str(number).zfill(length) for number in range(1, 20000, 1000)]
    for request in (
        PageRequest("Users", FACTS, 10, ("Id",), (keys[10],)),
        PageRequest("Users", FACTS, 10, ("Id",), (keys[10],), upto=(keys[11],)),
        PageRequest("Users", FACTS, 20, ("Id",), find=tuple((key,) for key in keys)),
    ):
        made = db.templates.page(None, query, request)
        assert 10 <= rows_read(db, made) <= 30, made.text
        assert len(db.execute(made).rows) == (20 if request.find else 10)
    db.close()
