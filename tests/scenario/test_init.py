"""`init` for a table that is there: the spec, its fields and its ID come from the columns."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from engine.sync.spec.load import load
from tests.conftest import fill
from tests.faultapi import FaultAPI
from tests.inprocess import Engine

TABLES = {
    "sqlite": 'Id GUID PRIMARY KEY, Name NVARCHAR(50) NOT NULL, Salary DECIMAL(10,2), Active BOOLEAN NOT NULL, Born DATE, Seen DATETIME2, Photo BLOB, "no" INTEGER',
    "postgresql": 'Id UUID PRIMARY KEY, Name VARCHAR(50) NOT NULL, Salary NUMERIC(10,2), Active BOOLEAN NOT NULL, Born DATE, Seen TIMESTAMP, Photo BYTEA, "no" BIGINT',
    "mysql": "Id CHAR(36) PRIMARY KEY, Name VARCHAR(50) NOT NULL, Salary DECIMAL(10,2), Active BIT(1) NOT NULL, Born DATE, Seen DATETIME(6), Photo LONGBLOB, `no` BIGINT",
}
DATABASES = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.odbc),
    pytest.param("mysql", marks=pytest.mark.odbc),
]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.mark.parametrize("dialect", DATABASES)
def test_fields_and_id_come_from_the_tables_columns(
    tmp_path: Path, engine: Engine, database: Callable[[str], str], api: FaultAPI, dialect: str
) -> None:
    """Types are mapped, NULL is allowed where the column allows it, the primary key is the ID; and the project delivers."""
    text = database(dialect)
    guid = "4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11"
    true = {"sqlite": "1", "postgresql": "true", "mysql": "b'1'"}[dialect]
    fill(
        text,
        f"CREATE TABLE Staff ({TABLES[dialect]})",
        f"INSERT INTO Staff (Id, Name, Active) VALUES ('{guid}', 'Ayu', {true})",
    )
    folder = tmp_path / "new"
    engine("init", folder, "--connection", text, "--table", "Staff")
    spec = yaml.safe_load((folder / "pipelines" / "staff.yaml").read_text())
    (entity,) = spec["entities"]
    assert entity["id"].casefold() == "id"
    assert {name.casefold(): kind for name, kind in entity["fields"].items()} == {
        "id": "string" if dialect == "mysql" else "guid",
        "name": "string", "salary": "decimal?", "active": "bool", "born": "date?", "seen": "datetime?", "photo": "binary?", "no": "int?",
    }  # fmt: skip
    # The connection string is where secrets belong, and readable for its owner alone.
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    environment = (folder / ".env").read_text().replace("http://127.0.0.1:8900", api.url)
    (folder / ".env").write_text(environment)
    engine("validate", folder / "pipelines" / "staff.yaml", "--connect")
    assert engine.json("run", folder / "pipelines" / "staff.yaml", "-q")["entities"][0]["accepted"] == 1
    assert api.requests[0].records[0]["Name" if dialect != "postgresql" else "name"] == "Ayu"


def test_a_composite_key_and_a_table_without_a_key(
    tmp_path: Path, engine: Engine, database: Callable[[str], str]
) -> None:
    text = database("sqlite")
    fill(
        text,
        'CREATE TABLE Jobs (Name TEXT, Dept TEXT, "Emp no" INTEGER, PRIMARY KEY ("Emp no", Dept))',
        "CREATE TABLE Loose (A INTEGER)",
    )
    engine("init", tmp_path / "a", "--connection", text, "--table", "Jobs")
    pipeline = load(tmp_path / "a" / "pipelines" / "jobs.yaml").pipeline
    assert pipeline.entities[0].id == ("Emp no", "Dept")
    assert 'SELECT Name, Dept, "Emp no" FROM Jobs' in (tmp_path / "a" / "templates" / "sql" / "jobs.sql.j2").read_text()
    engine("init", tmp_path / "b", "--connection", text, "--table", "Loose")
    assert "no primary key" in engine.err
    assert "id: A #" in (tmp_path / "b" / "pipelines" / "loose.yaml").read_text()


def test_a_connection_string_comes_back_as_it_was_given(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quotes, backslashes and # of a file's name survive the .env file."""
    file = tmp_path / "it's # a \\ $file.db"
    fill(f"sqlite:///{file}", "CREATE TABLE T (Id INTEGER PRIMARY KEY)")
    monkeypatch.chdir(tmp_path)
    engine("init", tmp_path / "new", "--connection", f"sqlite:///{file.name}", "--table", "T")
    pipeline = load(tmp_path / "new" / "pipelines" / "t.yaml").pipeline
    assert pipeline.connections["default"] == f"sqlite:///{file}"


def test_what_init_cannot_read_is_said_and_nothing_is_written(
    tmp_path: Path, engine: Engine, database: Callable[[str], str]
) -> None:
    text = database("sqlite")
    engine("init", tmp_path / "new", "--connection", text, "--table", "Nope", code=4)
    assert "there is no table or view Nope" in engine.err
    engine("init", tmp_path / "new", "--connection", "sqlite:///absent.db", "--table", "T", code=4)
    engine("init", tmp_path / "new", "--connection", text, "--table", "a b; c", code=4)
    engine("init", tmp_path / "new", "--table", "T", code=2)
    engine("init", tmp_path / "new", "--connection", text, code=2)
    assert not (tmp_path / "new").exists()


def test_a_terminal_is_asked_for_connection_and_table(
    tmp_path: Path, engine: Engine, database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = database("sqlite")
    fill(text, "CREATE TABLE T (Id INTEGER PRIMARY KEY)")
    answers = iter([text, "T"])
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("engine.cli.init.sys", SimpleNamespace(stdin=terminal, stdout=terminal))
    monkeypatch.setattr("click.prompt", lambda *_args, **_keys: next(answers))
    engine("init", tmp_path / "new")
    assert (tmp_path / "new" / "pipelines" / "t.yaml").is_file()
