"""Statements as each database gets them: T-SQL that SQL Server's grammar takes, and one `?` for each parameter."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from jinja2 import meta
from sqlglot.errors import ErrorLevel

from engine.db.dialect import dialects
from engine.db.statement import Statement
from engine.db.templates import Cut, Newest, PageRequest, RunFacts, Since, Templates, TrackedIn
from engine.identity import MAX_LENGTH, InvalidID, canonical_key
from engine.spec.reader import read
from engine.store.places import Name
from engine.sync.ledger.tables import Tables
from tests.builders import ledger_spec
from tests.project import ROOT

SQL = ROOT / "templates" / "sql"
NAMES = Tables.of(ledger_spec()).names()
DIALECTS = sorted(dialects(ROOT))
STATEMENTS = sorted(
    {file.name for folder in (SQL, *(SQL / name for name in DIALECTS)) for file in (folder / "ledger").glob("*.sql.j2")}
    - {"ids.sql.j2", "old.sql.j2"}
)
ENTITIES = sorted(file.name for file in SQL.glob("*.sql.j2") if file.name != "page.sql.j2")
FACTS = RunFacts("run", datetime(2026, 1, 1), None)


def templates(dialect: str) -> Templates:
    return Templates(ROOT, dialects(ROOT)[dialect])


def variables(made: Templates, name: str) -> set[str]:
    """Every free name of a template and of what it includes."""
    assert made.environment.loader is not None
    found: set[str] = set()
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop()
        seen.add(current)
        tree = made.environment.parse(made.environment.loader.get_source(made.environment, current)[0])
        found |= meta.find_undeclared_variables(tree)
        waiting += [other for other in meta.find_referenced_templates(tree) if other and other not in seen]
    return found


def ledger_statement(dialect: str, name: str, **given: Any) -> Statement:
    made = templates(dialect)
    own = {"now", "types", *NAMES}
    values = {word: f"value of {word}" for word in variables(made, f"ledger/{name}") if word not in own}
    if "limit" in values:
        values["limit"] = 5
    if "tables" in values:
        values["tables"] = [Name("[T]", None, "T"), Name("[dbo].[T]", "dbo", "T"), Name("[a].[dbo].[T]", "dbo", "T")]
    if "name" in values:
        values["name"] = "TB_R_SYNC_TRACKING"
    return made.statement(f"ledger/{name}", **NAMES, **{**values, **given})


def page(dialect: str, key: tuple[str, ...], what: str, *, template: str | None = None, cte: bool = False) -> Statement:
    after = tuple(f"k{number}" for number in range(len(key))) if what == "next" else None
    request = PageRequest("Users", FACTS, 0 if what == "columns" else 10, key, after, what == "count")
    query = "SELECT Id, A, B, Name FROM TB_M_USER"
    if cte:
        query = (
            "{% extends 'page.sql.j2' %}{% block with %}WITH t AS (SELECT Id, A, B FROM TB_M_USER)\n{% endblock %}"
            "{% block query %}SELECT Id, A, B FROM t{% endblock %}"
        )
    return templates(dialect).page(template, None if template else query, request)


KEYS = [("Id",), ("A", "B"), ("A", "B", "Id")]
WHAT = ["first", "next", "count", "columns"]


def check_marks(statement: Statement) -> None:
    without_texts = re.sub(r"'(?:[^']|'')*'", "''", statement.text)
    assert without_texts.count("?") == len(statement.parameters), statement
    assert "{{" not in statement.text
    assert "{%" not in statement.text


def check_tsql(statement: Statement) -> None:
    """One statement that SQL Server's grammar takes, without the words of other databases."""
    parsed = sqlglot.parse(statement.text, read="tsql", error_level=ErrorLevel.RAISE)
    assert len(parsed) == 1, statement.text
    assert parsed[0] is not None
    assert parsed[0].key != "command", f"not understood: {statement.text}"
    assert not re.search(r'\bLIMIT\b|ON CONFLICT|ON DUPLICATE|"|`|\bCURRENT_DATE\b|\bNOW\(\)', statement.text)
    check_marks(statement)


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_ledger_statement_is_one_tsql_statement(name: str) -> None:
    check_tsql(ledger_statement("mssql", name))


@pytest.mark.parametrize("kind", ["calls", "batches", "runs", "verdicts", "rejected contents", "sent contents"])
@pytest.mark.parametrize("name", ["prune.sql.j2", "prune_count.sql.j2", "prune_upto.sql.j2"])
def test_what_is_pruned_is_one_statement_of_every_dialect(name: str, kind: str) -> None:
    for dialect in DIALECTS:
        statement = ledger_statement(dialect, name, kind=kind)
        check_marks(statement)
        if dialect == "mssql":
            check_tsql(statement)
        read = {"mssql": "tsql", "postgresql": "postgres"}.get(dialect, dialect)
        assert len(sqlglot.parse(statement.text, read=read, error_level=ErrorLevel.RAISE)) == 1
        assert "TRACKING" not in statement.text


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("key", KEYS, ids=len)
@pytest.mark.parametrize("cte", [False, True])
def test_every_page_is_one_tsql_statement(key: tuple[str, ...], what: str, cte: bool) -> None:
    statement = page("mssql", key, what, cte=cte)
    check_tsql(statement)
    assert all(f"[{name}]" in statement.text for name in key) or what == "columns"
    assert ("TOP (?)" in statement.text) == (what in ("first", "next"))
    assert ("ORDER BY" in statement.text) == (what in ("first", "next"))


SINCE = Since("Name", "2026-01-01")
NARROW: dict[str, dict[str, Any]] = {
    "keys": {"keys": True},
    "find": {"find": (("a",) * 3, ("b",) * 3)},
    "total": {"total": True},
    "total of a range": {"total": True, "after": ("a",) * 3, "upto": ("b",) * 3, "since": SINCE},
    "cut": {"cut": Cut(10, 100)},
    "cut of what changed": {"cut": Cut(10, 100), "since": SINCE},
    "range": {"after": ("a",) * 3, "upto": ("b",) * 3},
    "untracked": {"tracking": TrackedIn("LOG.dbo.TB_R_SYNC_TRACKING", "Users", True)},
    "changed": {"since": SINCE},
    "all at once": {
        "after": ("a",) * 3, "upto": ("b",) * 3, "since": SINCE, "tracking": TrackedIn("TB_R_SYNC_TRACKING", "Users", False),
    },
    "newest": {"newest": Newest("Name"), "limit": 1},
    "newest of what changed": {"newest": Newest("Name", "2026-02-01"), "since": SINCE, "limit": 1},
}  # fmt: skip


@pytest.mark.parametrize("mode", NARROW)
@pytest.mark.parametrize("key", KEYS, ids=len)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_narrow_page_is_one_statement_of_its_dialect(dialect: str, key: tuple[str, ...], mode: str) -> None:
    given = {"limit": 10, **NARROW[mode]}
    for name in ("after", "upto"):
        if name in given:
            given[name] = given[name][: len(key)]
    if "find" in given:
        given["find"] = tuple(wanted[: len(key)] for wanted in given["find"])
    request = PageRequest("Users", FACTS, names=key, **given)
    statement = templates(dialect).page(None, "SELECT Id, A, B, Name FROM TB_M_USER", request)
    check_marks(statement)
    if dialect == "mssql":
        check_tsql(statement)
    read = {"mssql": "tsql", "postgresql": "postgres"}.get(dialect, dialect)
    assert len(sqlglot.parse(statement.text, read=read, error_level=ErrorLevel.RAISE)) == 1


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("template", ENTITIES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_shipped_template_renders_for_every_dialect(template: str, what: str, dialect: str) -> None:
    statement = page(dialect, ("Id",), what, template=template)
    check_marks(statement)
    if dialect == "mssql":
        check_tsql(statement)
    read = {"mssql": "tsql", "postgresql": "postgres"}.get(dialect, dialect)
    assert len(sqlglot.parse(statement.text, read=read, error_level=ErrorLevel.RAISE)) == 1


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_ledger_statement_has_a_mark_for_each_parameter(dialect: str, name: str) -> None:
    statement = ledger_statement(dialect, name)
    check_marks(statement)
    assert all(isinstance(value, (str, int)) for value in statement.parameters)


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("key", KEYS, ids=len)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_page_has_a_mark_for_each_parameter(dialect: str, key: tuple[str, ...], what: str) -> None:
    statement = page(dialect, key, what)
    check_marks(statement)
    if what in ("count", "columns"):
        assert statement.parameters == ()
    if what == "next":
        assert {f"k{number}" for number in range(len(key))} <= set(statement.parameters)
        assert 10 in statement.parameters


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "create_tracking.sql.j2",
            ["IDENTITY(1,1)", "NVARCHAR(100) NOT NULL", "NVARCHAR(255) COLLATE Latin1_General_BIN2 NOT NULL"],
        ),
        ("create_tracking.sql.j2", ["SYSUTCDATETIME()", "PRIMARY KEY"]),
        ("create_tracking_index.sql.j2", ["CREATE UNIQUE INDEX", "UQ_TB_R_SYNC_TRACKING_EntityType_EntityId"]),
        ("create_log.sql.j2", ["UNIQUEIDENTIFIER", "NVARCHAR(MAX)", "DATETIME2", "ExceptionMessage"]),
        ("create_reject.sql.j2", ["NVARCHAR(MAX)", "PRIMARY KEY (EntityType, EntityId)"]),
        ("track.sql.j2", ["OPENJSON(CAST(? AS NVARCHAR(MAX)))", "NOT EXISTS", "SYSUTCDATETIME()"]),
        ("tracked.sql.j2", ["OPENJSON(CAST(? AS NVARCHAR(MAX)))"]),
        ("forget.sql.j2", ["OPENJSON(CAST(? AS NVARCHAR(MAX)))"]),
        ("accept_rejected.sql.j2", ["OPENJSON(CAST(? AS NVARCHAR(MAX)))"]),
        ("runs.sql.j2", ["TOP (?)", "ORDER BY StartedOn DESC"]),
    ],
)
def test_tsql_uses_the_words_of_sql_server(name: str, words: list[str]) -> None:
    statement = ledger_statement("mssql", name)
    for word in words:
        assert word in statement.text


@pytest.mark.parametrize("name", ["track.sql.j2", "tracked.sql.j2", "forget.sql.j2", "accept_rejected.sql.j2"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_set_of_ids_is_one_parameter(dialect: str, name: str) -> None:
    ids = '["1","2","3"]'
    statement = ledger_statement(dialect, name, ids=ids)
    assert statement.parameters.count(ids) == 1


def test_a_value_is_never_pasted_into_a_statement() -> None:
    evil = "x'; DROP TABLE TB_M_USER; --"
    for dialect in DIALECTS:
        for name in STATEMENTS:
            made = templates(dialect)
            asked = variables(made, f"ledger/{name}") - {"now", "types", "limit", "name", "tables", *NAMES}
            statement = ledger_statement(dialect, name, **dict.fromkeys(asked, evil))
            assert "DROP TABLE" not in statement.text


def test_a_closing_bracket_in_a_column_name_is_doubled() -> None:
    assert "[a]]b]" in page("mssql", ("a]b",), "next").text
    assert '"a""b"' in page("postgresql", ('a"b',), "next").text
    assert "`a``b`" in page("mysql", ("a`b",), "next").text


def test_an_id_that_nvarchar_255_cannot_hold_is_refused() -> None:
    # SQL Server counts UTF-16 units: this one would be cut to NULL by OPENJSON after its batch had been sent.
    with pytest.raises(InvalidID):
        canonical_key(["\N{GRINNING FACE}" * (MAX_LENGTH // 2 + 1)])


def test_the_statements_of_this_suite_are_those_of_the_folder() -> None:
    assert {"track.sql.j2", "tracked.sql.j2", "log.sql.j2", "runs.sql.j2"} <= set(STATEMENTS)
    assert (
        sorted(
            ["users.sql.j2", "actual_org.sql.j2", "actual_entity.sql.j2", "org_object.sql.j2", "events_calendar.sql.j2"]
        )
        == ENTITIES
    )
    data = read(Path(ROOT / "pipelines" / "sync.yaml"), "sync.yaml").data
    assert {entity["sql"] for entity in data["entities"]} == set(ENTITIES)


def test_sql_server_is_asked_for_an_index_that_begins_with_the_key_in_its_order() -> None:
    """Its plans are not asked for: the catalogue tells whether an index has the order of the ID."""
    made = templates("mssql")
    assert made.dialect.explain is None
    statement = made.statement("catalogue/index.sql.j2", table="dbo.Jobs", key=("Emp", "Dept"))
    check_marks(statement)
    assert statement.parameters == ("dbo.Jobs", 1, "Emp", 2, "Dept")
    assert statement.text.count("key_ordinal = ?") == 2
    sqlglot.parse_one(statement.text.replace("?", "1"), dialect="tsql", error_level=ErrorLevel.RAISE)


def test_sql_server_is_asked_for_the_columns_of_a_table_in_its_own_schema() -> None:
    for schema, parameters in ((None, ("Users",)), ("dbo", ("Users", "dbo"))):
        statement = templates("mssql").statement("catalogue/columns.sql.j2", table="Users", schema=schema)
        check_marks(statement)
        assert statement.parameters == parameters
        assert ("SCHEMA_NAME()" in statement.text) == (schema is None)
        sqlglot.parse_one(statement.text.replace("?", "'x'"), dialect="tsql", error_level=ErrorLevel.RAISE)
