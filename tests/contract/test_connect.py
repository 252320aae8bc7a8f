"""Connection strings and what opening one says when it cannot be done."""

from __future__ import annotations

import json
import logging
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.db import dsn
from engine.db.connect import guess_dialect
from engine.db.dialect import dialects
from engine.db.drivers import mssql, odbc
from engine.db.statement import Statement
from engine.errors import ConnectionFailed, DatabaseError
from tests.builders import open_ledger, open_source, timeouts
from tests.conftest import absent, fill
from tests.faultapi import FaultAPI
from tests.project import ROOT, Project, check_sums

ADONET = "data source=db.example;initial catalog=MDM;user id=sa;password=sesam;"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("sqlite:///var/mdm.db", "sqlite"),
        ("Driver={ODBC Driver 18 for SQL Server};Server=x;", "odbc"),
        ("driver=FreeTDS;server=x", "odbc"),
        ("DSN=mdm;UID=x;PWD=y", "odbc"),
        ("FILEDSN=mdm.dsn", "odbc"),
        (ADONET, "adonet"),
        ("Data Source=x;Initial Catalog=y", "adonet"),
        ("Server=tcp:x,1433;Database=y", "adonet"),
        (" Address = x ; Database = y ", "adonet"),
    ],
)
def test_a_string_is_known_by_its_form(text: str, kind: str) -> None:
    assert dsn.kind(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "var/mdm.db",
        "postgresql://u:sesam@h/db",
        "password=sesam",
        "Driver={FreeTDS;PWD=sesam",
        "sesam;=x",
        "PWD='sesam",
    ],
)
def test_a_string_of_no_known_form_is_an_error_that_does_not_show_it(text: str) -> None:
    with pytest.raises(ConnectionFailed, match="connection string") as caught:
        dsn.kind(text)
    assert "sesam" not in str(caught.value)
    if text:
        assert dsn.secrets(text) == [text]


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("data source=s", [("Server", "s")]),
        ("Data Source=tcp:s,1433", [("Server", "tcp:s,1433")]),
        ("server=.", [("Server", "localhost")]),
        (r"data source=.\SQLEXPRESS", [("Server", r"localhost\SQLEXPRESS")]),
        ("data source=(local)", [("Server", "localhost")]),
        ("initial catalog=MDM", [("Database", "MDM")]),
        ("Database=MDM", [("Database", "MDM")]),
        ("user id=sa", [("UID", "sa")]),
        ("User=sa", [("UID", "sa")]),
        ("password=p", [("PWD", "p")]),
        ('password="a;b"', [("PWD", "a;b")]),
        ("password='a;b\"c'", [("PWD", 'a;b"c')]),
        ('password="a""b"', [("PWD", 'a"b')]),
        ("password=a}b", [("PWD", "a}b")]),
        ("password=a=b", [("PWD", "a=b")]),
        ("password=", [("PWD", "")]),
        ("TrustServerCertificate=True", [("TrustServerCertificate", "yes")]),
        ("Trust Server Certificate=false", [("TrustServerCertificate", "no")]),
        ("MultipleActiveResultSets=True", []),
        ("multiple active result sets=False", []),
        ("Integrated Security=SSPI", [("Trusted_Connection", "yes")]),
        ("Integrated Security=true", [("Trusted_Connection", "yes")]),
        ("Integrated Security=no", [("Trusted_Connection", "no")]),
        ("Encrypt=True", [("Encrypt", "yes")]),
        ("Encrypt=false", [("Encrypt", "no")]),
        ("Encrypt=Mandatory", [("Encrypt", "yes")]),
        ("Encrypt=Optional", [("Encrypt", "no")]),
        ("Encrypt=Strict", [("Encrypt", "strict")]),
        ("Application Name=TAMHR", [("APP", "TAMHR")]),
        ("ApplicationIntent=ReadOnly", [("ApplicationIntent", "ReadOnly")]),
        ("Pooling=true;Max Pool Size=100;Persist Security Info=False;Enlist=false;Packet Size=4096", []),
    ],
)
def test_an_ado_net_key_becomes_the_odbc_key(given_: str, wanted: list[tuple[str, str]]) -> None:
    assert dsn.adonet_to_odbc(given_) == (wanted, None)


@pytest.mark.parametrize("key", ["Connect Timeout", "Connection Timeout", "timeout"])
def test_the_connect_timeout_is_no_part_of_the_string(key: str) -> None:
    assert dsn.adonet_to_odbc(f"server=s;{key}=7") == ([("Server", "s")], 7)


def test_an_unknown_ado_net_key_is_an_error_that_names_it_and_no_value() -> None:
    with pytest.raises(ConnectionFailed, match="'Passwort'") as caught:
        dsn.adonet_to_odbc(ADONET + "Passwort=sesam")
    assert "sesam" not in str(caught.value)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_any_password_survives_the_way_from_ado_net_to_odbc(password: str) -> None:
    quoted = '"' + password.replace('"', '""') + '"'
    pairs, _ = dsn.adonet_to_odbc(f"data source=s;password={quoted};user id=sa")
    assert pairs == [("Server", "s"), ("PWD", password), ("UID", "sa")]
    joined = dsn.join(pairs)
    assert dsn.split(joined).get("uid") == "sa"
    assert dsn.split(joined).get("pwd") == (password if joined.count("{") else password.strip())
    if password:
        assert password in dsn.secrets(f"data source=s;password={quoted}")


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("sqlite:///x.db", "sqlite"),
        (ADONET, "mssql"),
        ("Driver={ODBC Driver 18 for SQL Server};Server=x", "mssql"),
        ("Driver=FreeTDS;Server=x", "mssql"),
        ("Driver={PostgreSQL Unicode};Server=x", "postgresql"),
        ("Driver={MariaDB Unicode};Server=x", "mysql"),
        ("Driver={MySQL ODBC 8.0 Unicode Driver};Server=x", "mysql"),
    ],
)
def test_the_dialect_is_guessed_without_a_connection(text: str, dialect: str) -> None:
    assert guess_dialect(text, ROOT).name == dialect


# SQLite files


def test_a_missing_source_file_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match=r"'default'.*absent\.db.*never created"):
        open_source("default", "sqlite:///var/absent.db", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_ledger_file_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds what was sent. Its journal has the same mode; a file that is there keeps its own."""
    connection = open_ledger("log", "sqlite:///log.db", tmp_path, create=True)
    connection.execute(Statement("CREATE TABLE T (Id INT)", ()))
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {
        "log.db": 0o600,
        "log.db-journal": 0o600,
    }
    connection.close()
    (tmp_path / "log.db").chmod(0o640)
    open_ledger("log", "sqlite:///log.db", tmp_path, create=True).close()
    assert stat.S_IMODE((tmp_path / "log.db").stat().st_mode) == 0o640


def test_a_missing_folder_of_a_ledger_file_is_never_created(tmp_path: Path) -> None:
    with pytest.raises(
        ConnectionFailed, match=r"no folder .*/deep/er for the SQLite file log\.db.*mkdir -p .*/deep/er"
    ):
        open_ledger("log", "sqlite:///deep/er/log.db", tmp_path, create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_ledger_file_is_not_created_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match=r"log\.db"):
        open_ledger("log", "sqlite:///var/log.db", tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_source_is_never_written(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "s.db").execute("CREATE TABLE T (Id INT)").connection.close()
    connection = open_source("default", "sqlite:///s.db", tmp_path)
    with pytest.raises(DatabaseError, match="readonly"):
        connection.execute(Statement("INSERT INTO T VALUES (1)", ()))
    connection.close()


@pytest.mark.parametrize(
    "name", ["with space.db", "per%20cent.db", "que?stion.db", "ha#sh.db", "ümlaut.db", "a;b=c.db"]
)
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    connection = open_ledger("log", f"sqlite:///{name}", tmp_path, create=True)
    connection.execute(Statement("CREATE TABLE T (Id INT)", ()))
    connection.close()
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_file_that_is_no_database_says_so_when_it_is_asked(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("no database at all\n" * 100)
    connection = open_source("default", "sqlite:///s.db", tmp_path)
    with pytest.raises(DatabaseError, match="not a database"):
        connection.execute(Statement("SELECT 1 FROM T", ()))
    connection.close()


@pytest.mark.parametrize("ledger", [False, True])
def test_a_directory_is_no_database(tmp_path: Path, ledger: bool) -> None:
    (tmp_path / "s.db").mkdir()
    opening = partial(open_ledger, create=True) if ledger else open_source
    with pytest.raises(ConnectionFailed, match=r"'x'.*s\.db"):
        opening("x", "sqlite:///s.db", tmp_path)


def test_a_ledger_below_a_file_is_an_error_of_the_connection(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectionFailed, match=r"log\.db"):
        open_ledger("log", "sqlite:///file/log.db", tmp_path, create=True)


def test_a_transaction_that_fails_leaves_nothing_and_the_connection_usable(tmp_path: Path) -> None:
    connection = open_ledger("log", "sqlite:///log.db", tmp_path, create=True)
    connection.execute(Statement("CREATE TABLE T (Id INT PRIMARY KEY)", ()))
    with pytest.raises(DatabaseError, match="UNIQUE"), connection.transaction():  # noqa: PT012
        connection.execute(Statement("INSERT INTO T SELECT 1 UNION ALL SELECT 3", ()))
        connection.execute(Statement("INSERT INTO T VALUES (?)", (1,)))
    with connection.transaction():
        connection.execute(Statement("INSERT INTO T VALUES (?)", (2,)))
    assert [row[0] for row in connection.execute(Statement("SELECT Id FROM T", ())).rows] == [2]
    connection.close()


def test_every_thread_has_a_connection_of_its_own_and_another_thread_may_not_use_it(tmp_path: Path) -> None:
    mine = open_ledger("log", "sqlite:///log.db", tmp_path, create=True)
    mine.execute(Statement("CREATE TABLE T (Id INTEGER PRIMARY KEY, Thread INT)", ()))
    failures: list[BaseException] = []

    def write(number: int) -> None:
        own = open_ledger("log", "sqlite:///log.db", tmp_path, create=True)
        try:
            for _ in range(25):
                with own.transaction():
                    own.execute(Statement("INSERT INTO T (Thread) VALUES (?)", (number,)))
        except DatabaseError as failure:
            failures.append(failure)
        finally:
            own.close()

    def borrow() -> None:
        try:
            mine.execute(Statement("SELECT 1", ()))
        except Exception as failure:  # noqa: BLE001 - the test is which one it is
            failures.append(failure)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert mine.execute(Statement("SELECT COUNT(*) FROM T", ())).rows[0][0] == 100
    borrower = threading.Thread(target=borrow)
    borrower.start()
    borrower.join()
    mine.close()
    (failure,) = failures
    assert isinstance(failure, DatabaseError), repr(failure)
    assert "thread" in str(failure)


# ODBC


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def drivers() -> list[str]:
    try:
        import pyodbc
    except ImportError as failure:
        absent(f"unixODBC ({failure})")
    return list(pyodbc.drivers())


def test_an_unknown_driver_is_an_error_with_the_drivers_found_and_what_to_install() -> None:
    found = drivers()
    with pytest.raises(ConnectionFailed) as caught:
        open_source("default", "Driver={No Such Driver};Server=x;UID=sa;PWD=sesam", ROOT)
    text = str(caught.value)
    for word in ["'default'", "'No Such Driver'", "Install", "msodbcsql18", "odbc-postgresql", *found]:
        assert word in text
    assert "sesam" not in text


def test_a_sql_server_that_is_away_is_an_error_without_the_password() -> None:
    if "FreeTDS" not in drivers():
        absent("the ODBC driver FreeTDS")
    port = _free_port()
    for text in (
        f"Driver=FreeTDS;Server=127.0.0.1;Port={port};TDS_Version=7.4;Database=MDM;UID=sa;PWD=sesam-open",
        f'data source=127.0.0.1,{port};initial catalog=MDM;user id=sa;password="sesam-open";Connect Timeout=5',
    ):
        with pytest.raises(ConnectionFailed, match=r"'default'.*cannot connect") as caught:
            open_source("default", text, ROOT)
        assert "sesam-open" not in str(caught.value)


def test_a_server_that_refuses_is_exit_4_without_the_password_and_the_others_run(
    project: Project, api: FaultAPI
) -> None:
    if "PostgreSQL Unicode" not in drivers():
        absent("the ODBC driver PostgreSQL Unicode")
    away = f"Driver={{PostgreSQL Unicode}};Server=127.0.0.1;Port={_free_port()};Database=x;UID=u;PWD={{ses;am}}}}9}};"
    project.spec["connections"]["away"] = "${AWAY}"
    project.entity("Far", connection="away")
    project.users(2)
    project.entity()
    project.write()
    finished = project.cli("run", project.file, "--format", "json", env={"AWAY": away})
    assert finished.returncode == 4
    assert "cannot connect" in finished.stdout
    for secret in ("ses;am}9", "ses;am", "am}}9"):
        assert secret not in finished.stdout + finished.stderr
    assert project.tracked() == ["1", "2"]


def test_without_pyodbc_only_the_entities_that_need_it_fail_and_say_what_to_install(
    project: Project, api: FaultAPI, tmp_path: Path
) -> None:
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    (fakes / "pyodbc.py").write_text("raise ImportError('libodbc.so.2: cannot open shared object file')\n")
    (fakes / "mssql_python.py").write_text("raise ImportError('no mssql-python here')\n")
    project.environment["PYTHONPATH"] = f"{fakes}:{ROOT}"
    project.spec["connections"] |= {"pg": "Driver={PostgreSQL Unicode};Server=x;PWD=sesam;", "net": ADONET}
    project.entity("Far", connection="pg")
    project.entity("Net", connection="net")
    project.users(2)
    project.entity()
    report = project.run(code=4)
    far, net, users = report["entities"]
    for entity in (far, net):
        assert "libodbc.so.2" in entity["error"]
        assert "apt-get install unixodbc" in entity["error"]
        assert "sesam" not in entity["error"]
    assert "syncledger[mssql]" in net["error"]
    assert users["error"] is None
    assert [record["Id"] for record in api.of("/users")[0].records] == [1, 2]
    assert project.tracked() == ["1", "2"]
    check_sums(report)


def test_a_ledger_that_cannot_be_opened_is_exit_4_and_nothing_is_sent(project: Project, api: FaultAPI) -> None:
    (project.folder / "log.db").mkdir()
    project.users(2)
    project.entity()
    report = project.run(code=4)
    assert "log.db" in report["error"]
    assert api.requests == []


def test_a_source_is_read_from_the_project_root_wherever_one_stands(
    project: Project, api: FaultAPI, tmp_path: Path
) -> None:
    project.users(1)
    project.entity()
    project.write()
    finished = subprocess.run(
        project.command("run", project.file), cwd=tmp_path, env=project.env(), capture_output=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert project.tracked() == ["1"]
    assert not (tmp_path / "log.db").exists()


# SQL Server: which driver, and what it is told


@pytest.fixture
def only_freetds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Microsoft's driver nor mssql-python is here."""
    pyodbc: Any = pytest.importorskip("pyodbc", exc_type=ImportError)
    if "FreeTDS" not in drivers():
        pytest.skip("not on this machine: the ODBC driver FreeTDS")
    monkeypatch.setattr(pyodbc, "drivers", lambda: ["FreeTDS"])
    monkeypatch.setitem(sys.modules, "mssql_python", None)


@pytest.mark.parametrize("prefix", ["", "tcp:", "TCP:"])
@pytest.mark.usefixtures("only_freetds")
def test_freetds_hears_host_and_port_of_an_ado_net_string_and_warns(
    prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        called = threading.Event()

        def refuse() -> None:
            listening.accept()[0].close()
            called.set()

        threading.Thread(target=refuse, daemon=True).start()
        text = (
            f"data source={prefix}127.0.0.1,{listening.getsockname()[1]};initial catalog=MDM;user id=sa;password=sesam;"
            "TrustServerCertificate=true;MultipleActiveResultSets=True;Connect Timeout=1"
        )
        with caplog.at_level(logging.WARNING), pytest.raises(ConnectionFailed, match="cannot connect"):
            open_source("default", text, ROOT)
        assert called.wait(10), "the driver has called the host and port of the string"
    assert "FreeTDS does not verify the server's certificate" in caplog.text
    assert "msodbcsql18" in caplog.text


@pytest.mark.parametrize(
    "security",
    [
        "",
        "Encrypt=true",
        "Encrypt=Mandatory;TrustServerCertificate=false",
        "Encrypt=Strict;TrustServerCertificate=true",
    ],
)
@pytest.mark.usefixtures("only_freetds")
def test_freetds_is_refused_where_the_certificate_is_to_be_verified(security: str) -> None:
    with pytest.raises(
        ConnectionFailed, match=r"'default'.*FreeTDS, which does not verify.*TrustServerCertificate=true"
    ) as caught:
        open_source("default", ADONET + security, ROOT)
    assert "sesam" not in str(caught.value)


@pytest.mark.parametrize("security", ["Encrypt=false", "Encrypt=Optional", "TrustServerCertificate=True"])
def test_nobody_verifies_where_the_string_says_so(security: str) -> None:
    assert not mssql.wants_verification(dsn.adonet_to_odbc(ADONET + security)[0])


@pytest.mark.parametrize("key", ["TrustServerCertificate=no", "Encrypt=strict"])
@pytest.mark.usefixtures("only_freetds")
def test_an_odbc_string_that_asks_freetds_to_verify_is_refused(key: str) -> None:
    with pytest.raises(ConnectionFailed, match="FreeTDS does not verify"):
        open_source("default", f"Driver=FreeTDS;Server=127.0.0.1;Port=9;UID=sa;PWD=sesam;{key}", ROOT)


@pytest.mark.parametrize(
    ("installed", "python", "wanted"),
    [
        (["FreeTDS", "ODBC Driver 9 for SQL Server", "ODBC Driver 18 for SQL Server"], True, "ODBC Driver 18 for SQL Server"),
        (["ODBC Driver 17 for SQL Server", "FreeTDS"], False, "ODBC Driver 17 for SQL Server"),
        (["FreeTDS"], True, "mssql-python"),
        (["FreeTDS"], False, "FreeTDS"),
    ],
)  # fmt: skip
def test_microsofts_drivers_go_before_freetds(
    monkeypatch: pytest.MonkeyPatch, installed: list[str], python: bool, wanted: str
) -> None:
    pyodbc: Any = pytest.importorskip("pyodbc", exc_type=ImportError)
    taken: list[str] = []

    def by_odbc(_module: Any, text: str, *_: Any) -> None:
        taken.append(dsn.split(text).get("driver") or "")

    monkeypatch.setattr(pyodbc, "drivers", lambda: installed)
    monkeypatch.setitem(sys.modules, "mssql_python", ModuleType("mssql_python") if python else None)
    monkeypatch.setattr(mssql.odbc, "connected", by_odbc)
    monkeypatch.setattr(mssql, "_by_mssql_python", lambda *_: taken.append("mssql-python"))
    mssql.opened(ADONET + "TrustServerCertificate=true", ROOT, timeouts())
    assert taken == [wanted]


# GUIDs


@given(st.uuids())
def test_a_guid_of_odbc_is_lower_case_text(value: UUID) -> None:
    assert odbc.guid(value.bytes_le) == str(value)


def test_a_guid_goes_out_in_lower_case_whatever_the_driver_and_is_known_again(
    project: Project, api: FaultAPI, database: Callable[[str], str]
) -> None:
    """As text, without `fields`, and as the key: tracked and found again by its canonical form, in every way of exclusion."""
    guid = "0e37df36-f698-11e6-8dd4-cb9ced3df976"
    text = project.spec["connections"]["far"] = database("postgresql")
    fill(text, "CREATE TABLE t (id UUID PRIMARY KEY, ref UUID)", f"INSERT INTO t VALUES ('{guid.upper()}', '{guid}')")
    fill(text, "INSERT INTO t SELECT gen_random_uuid(), NULL FROM generate_series(1, 20)")
    for how in ("lookup", "ids_first"):
        project.entity(how, connection="far", query="SELECT id, ref FROM t", id="id", exclude=how, page_size=3)
        project.entity(f"{how}_text", connection="far", query="SELECT id, ref FROM t", id="id", exclude=how,
                       fields={"id": "string", "ref": "string?"})  # fmt: skip
    report = project.run()
    sent = [record for request in api.requests for record in json.loads(request.body)]
    assert [record for record in sent if record["id"] == guid] == [{"id": guid, "ref": guid}] * 4
    assert not [record for record in sent if record["id"] != record["id"].lower()]
    assert [entity["accepted"] for entity in report["entities"]] == [21] * 4
    assert [entity["excluded"] for entity in project.run()["entities"]] == [21] * 4


# A transaction that the server has ended itself


class Ended:
    """A raw connection whose driver refuses ROLLBACK, as FreeTDS does after an error that has rolled back already."""

    def __init__(self, raw: Any, error: type[Exception]) -> None:
        self.__dict__.update(raw=raw, error=error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.raw, name, value)

    def rollback(self) -> None:
        raise self.error(
            "25000", "[25000] [FreeTDS][SQL Server]The ROLLBACK TRANSACTION request has no corresponding BEGIN (3903)"
        )


def test_a_dialect_rolls_back_in_its_own_words_and_the_connection_lives(database: Callable[[str], str]) -> None:
    pyodbc: Any = pytest.importorskip("pyodbc", exc_type=ImportError)
    connection = open_ledger("log", database("postgresql"), ROOT, create=True)
    connection.driver.raw = Ended(connection.driver.raw, pyodbc.ProgrammingError)
    connection.dialect = replace(connection.dialect, rollback="ROLLBACK")
    connection.execute(Statement("CREATE TABLE T (Id INT PRIMARY KEY)", ()))
    with pytest.raises(DatabaseError, match="duplicate key"), connection.transaction():  # noqa: PT012
        connection.execute(Statement("INSERT INTO T VALUES (1)", ()))
        connection.execute(Statement("INSERT INTO T VALUES (1)", ()))
    assert connection.execute(Statement("SELECT COUNT(*) FROM T", ())).rows[0][0] == 0
    with connection.transaction():
        connection.execute(Statement("INSERT INTO T VALUES (2)", ()))
    assert connection.execute(Statement("SELECT COUNT(*) FROM T", ())).rows[0][0] == 1
    connection.close()


def test_sql_server_is_asked_whether_there_is_a_transaction_before_it_is_rolled_back() -> None:
    assert dialects(ROOT)["mssql"].rollback == "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION"
