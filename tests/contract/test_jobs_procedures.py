"""Stored procedures as steps: real ones on PostgreSQL and MariaDB, a template on SQLite, the call in T-SQL parsed."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlglot

from engine.db.connect import guess_dialect
from engine.db.templates import Sql, Templates
from engine.jobs.procedure import Argument
from tests.conftest import fill
from tests.contract.test_jobs_cancel import until
from tests.jobs import JobProject, rows
from tests.project import ROOT

MAKE = {
    "postgresql": """
CREATE PROCEDURE p_close(consoid integer, username varchar, amount numeric, INOUT errorinfo text) LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO EFFECT VALUES (consoid, username);
  IF consoid = 2 THEN errorinfo := '<errors><error code="MissingCompanies" message="3 companies are missing"/><error code="B"/></errors>'; END IF;
END $$""",
    "mysql": """
CREATE PROCEDURE p_close(consoid INT, username VARCHAR(50), amount DECIMAL(10, 2), OUT errorinfo TEXT)
BEGIN
  INSERT INTO EFFECT VALUES (consoid, username);
  IF consoid = 2 THEN SET errorinfo = '<errors><error code="MissingCompanies" message="3 companies are missing"/><error code="B"/></errors>'; END IF;
END""",
}
SERVERS = [pytest.param(name, marks=pytest.mark.odbc) for name in MAKE]
ERRORS = {"output": "errorinfo", "xml": ".//error", "code": "@code", "message": "@message"}


@pytest.fixture(params=SERVERS)
def job(request: pytest.FixtureRequest, tmp_path: Path, database: Callable[[str], str]) -> JobProject:
    made = JobProject(tmp_path / "project", database(request.param), database("sqlite"))
    fill(made.target, MAKE[request.param])
    made.spec["steps"] = [step()]
    return made


def step(**changed: Any) -> dict[str, Any]:
    arguments = {"ConsoID": "{{ item.Id }}", "UserName": "by {{ item.Code }}", "Amount": 1.5}
    return {"name": "close", "procedure": "p_close", "arguments": arguments, "errors": ERRORS, **changed}


def test_a_procedure_is_called_for_each_item_and_its_xml_errors_follow_the_rules(job: JobProject) -> None:
    job.spec["on_error"] = [{"match": "MissingCompanies", "then": "skip_item"}]
    told = job.run(code=1)
    assert told["items"] == {"total": 3, "succeeded": 2, "skipped": 1, "failed": 0, "cancelled": 0, "not_run": 0}
    assert told["steps"][1]["error"] == {"code": "MissingCompanies", "message": "3 companies are missing (and 1 more)"}
    assert job.effects() == Counter({(1, "by C1"): 1, (3, "by C3"): 1}), "what reported errors is rolled back"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"procedure": "p_clos"},
            "the procedure p_clos has no parameter 'ConsoID'; is it there, and may this user see it?",
        ),
        (
            {"arguments": {"ConsoId": 1, "UserNam": "x", "Amount": 1}},
            "has no parameter 'UserNam'; did you mean 'username'?",
        ),
        ({"arguments": {"ConsoId": 1, "UserName": "x"}}, "the procedure p_close needs the argument 'amount'"),
        ({"errors": {"output": "errors"}}, "the procedure p_close has no output 'errors'; did you mean 'errorinfo'?"),
        ({"arguments": {"ConsoId": "{{ item.Code }}", "UserName": "x", "Amount": 1}}, "C1"),
    ],
)
def test_a_call_that_does_not_fit_the_signature_is_an_error_and_changes_nothing(
    job: JobProject, changed: dict[str, Any], said: str
) -> None:
    job.spec["steps"] = [step(**changed)]
    told = job.run(code=1)
    assert said in told["error"]
    assert job.effects() == Counter()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("no XML at all <", "is no XML that can be read"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><errors><error message="&a;"/></errors>', "is no XML that can be read"),
    ],
)
def test_an_output_that_is_no_sound_xml_is_an_error_too(
    tmp_path: Path, database: Callable[[str], str], output: str, said: str
) -> None:
    job = sqlite_job(tmp_path, database, output)
    told = job.run(code=1)
    assert said in told["error"]
    assert job.effects() == Counter()


def sqlite_job(tmp_path: Path, database: Callable[[str], str], output: str) -> JobProject:
    job = JobProject(tmp_path / "project", database("sqlite"))
    (job.folder / "templates" / "sql" / "procedures").mkdir()
    file = job.folder / "templates" / "sql" / "procedures" / "p_close.sql.j2"
    file.write_text(
        "INSERT INTO EFFECT VALUES ({{ arguments.ConsoID }}, {{ arguments.UserName }});\n"
        f"SELECT {{{{ {output!r} if item.Id == 1 else none }}}} AS errorinfo"
    )
    job.spec["steps"] = [step()]
    return job


def test_on_sqlite_a_template_stands_for_the_procedure(tmp_path: Path, database: Callable[[str], str]) -> None:
    job = sqlite_job(tmp_path, database, '<e><error code="X" message="bad"/></e>')
    job.spec["on_error"] = [{"match": "X", "then": "next_item"}]
    told = job.run(code=1)
    assert told["steps"][0]["error"] == {"code": "X", "message": "bad"}
    assert job.effects() == Counter({(2, "by C2"): 1, (3, "by C3"): 1})


@pytest.mark.odbc
def test_a_procedure_that_swallows_the_cancel_is_not_taken_for_done(
    tmp_path: Path, database: Callable[[str], str]
) -> None:
    """MariaDB's CONTINUE HANDLER goes on after a cancel, and returns as if nothing had happened: the request decides."""
    job = JobProject(tmp_path / "project", database("mysql"), database("sqlite"))
    swallow = (
        "CREATE PROCEDURE p_slow() BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; "
        "INSERT INTO EFFECT VALUES (1, 'undone'); SELECT SLEEP(300); INSERT INTO EFFECT VALUES (2, 'undone'); END"
    )
    fill(job.target, swallow)
    job.spec["cancel_grace"] = "2s"
    job.spec["steps"] = [{"name": "slow", "procedure": "p_slow"}]
    process = job.popen("run", job.write(), "--format", "json")
    at_work = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(300)%' AND ID <> CONNECTION_ID()"
    try:
        until(lambda: rows(job.target, at_work))
        began = time.monotonic()
        told = json.loads(job.cli("cancel", "1", "--wait", "--format", "json").stdout)
        assert told["status"] == "cancelled"
        assert time.monotonic() - began < 20
        assert rows(job.target, at_work) == []
        process.communicate(timeout=30)
        assert process.returncode == 130
    finally:
        process.kill()
        process.communicate()
    assert job.effects() == Counter(), "its transaction is rolled back"


def test_the_call_in_tsql_declares_its_inputs_and_binds_every_value() -> None:
    templates = Templates(ROOT, guess_dialect("Driver={ODBC Driver 18 for SQL Server};Server=x", ROOT))
    given = [
        Argument("ConsoID", False, Sql("int"), Sql("@a0"), Sql("@ConsoID"), 0, 7),
        Argument("User", False, Sql("nvarchar(50)"), Sql("@a1"), Sql("@User"), 1, "x'; DROP TABLE y; --"),
        Argument("errorinfo", True, Sql("xml"), Sql("@a2"), Sql("@errorinfo"), 2),
    ]
    made = templates.statement("jobs/call.sql.j2", procedure="dbo.P_CLOSE", given=given)
    assert made.parameters == (7, "x'; DROP TABLE y; --")
    assert "DECLARE @a0 int = ?;" in made.text
    assert "EXEC @syncledger_code = [dbo].[P_CLOSE] @ConsoID = @a0, @User = @a1, @errorinfo = @a2 OUTPUT;" in made.text
    for part in made.text.split(";"):
        if part.strip() and not part.strip().startswith("EXEC"):
            sqlglot.parse_one(part.replace("?", "@p"), dialect="tsql")
