"""`why SPEC ENTITY ID`: one command says what happened to any record, on every database."""

from __future__ import annotations

import getpass
import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.db.statement import Statement
from tests.builders import open_ledger
from tests.faultapi import FaultAPI, answer, when
from tests.project import Project

DIALECTS = ["sqlite", "postgresql", "mysql"]
GUID = "4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11"
OTHER = "5f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a22"
TYPES = {
    "sqlite": {"guid": "TEXT", "text": "TEXT", "char": "TEXT", "int": "INTEGER", "time": "TEXT"},
    "postgresql": {
        "guid": "UUID",
        "text": "VARCHAR(200)",
        "char": "CHAR(10)",
        "int": "BIGINT",
        "time": "TIMESTAMP",
    },
    "mysql": {
        "guid": "CHAR(36)",
        "text": "VARCHAR(200)",
        "char": "CHAR(10)",
        "int": "BIGINT",
        "time": "DATETIME",
    },
}


@pytest.fixture
def project(tmp_path: Path, api: FaultAPI) -> Project:
    return Project(tmp_path / "project", api.url)


def execute(project: Project, alias: str, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """SQL on a connection of the spec, whatever its database."""
    connection = open_ledger(alias, project.spec["connections"][alias], project.folder, create=True)
    try:
        return [tuple(row) for row in connection.execute(Statement(sql, parameters)).rows]
    finally:
        connection.close()


def fill(project: Project, columns: str, rows: Iterable[tuple[Any, ...]], table: str = "Users") -> None:
    """A table in the source, its column types as in `TYPES`."""
    text = project.spec["connections"]["default"]
    dialect = "postgresql" if "PostgreSQL" in text else "mysql" if "MariaDB" in text else "sqlite"
    made = ", ".join(f"{name} {TYPES[dialect][kind]}" for name, kind in (c.split() for c in columns.split(",")))
    execute(project, "default", f"CREATE TABLE {table} ({made})")
    for row in rows:
        execute(project, "default", f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)


@pytest.fixture(params=DIALECTS)
def everywhere(request: pytest.FixtureRequest, project: Project, database: Callable[[str], str]) -> Project:
    """A project whose source and ledger are both of one dialect."""
    project.spec["connections"] = {"default": database(request.param), "log": database(request.param)}
    return project


def why(project: Project, id_: str, code: int = 0, entity: str = "Users") -> dict[str, Any]:
    """The JSON document of a record."""
    asked = project.cli("why", "--format", "json", "--", project.file, entity, id_)
    assert asked.returncode == code, f"exit {asked.returncode}\n{asked.stdout}\n{asked.stderr}"
    found: dict[str, Any] = json.loads(asked.stdout)
    return found


def said(project: Project, id_: str, code: int = 0, entity: str = "Users") -> str:
    """The text about a record."""
    asked = project.cli("why", project.file, entity, id_)
    assert asked.returncode == code, f"exit {asked.returncode}\n{asked.stdout}\n{asked.stderr}"
    return asked.stdout


def planned(project: Project) -> dict[str, Any]:
    shown = project.cli("plan", project.file, "--format", "json")
    assert shown.returncode == 0, shown.stderr
    made: dict[str, Any] = json.loads(shown.stdout)["entities"][0]
    return made


# A delivered record, in every form of its ID


def test_a_delivered_record_is_told_from_source_to_call(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    fill(project, "Id guid, Name text", [(GUID.upper(), "Ann"), (OTHER, "Bob")])
    project.entity()
    run = project.run()
    (request,) = api.of("/users")
    ((since,),) = execute(project, "log", "SELECT SyncTimestamp FROM TB_R_SYNC_TRACKING WHERE EntityId = ?", GUID)
    for form in (GUID, GUID.upper(), "{" + GUID.upper() + "}", f"{GUID}  "):
        found = why(project, form)
        assert found["id"] == GUID
        assert found["source"] == {"state": "sendable", "reason": None}
        assert found["tracked"] == str(since)
        assert (found["open_batch"], found["rejected"], found["endpoint_parked"], found["acts"]) == (
            None,
            None,
            None,
            [],
        )
        (batch,) = found["batches"]
        assert batch["idempotency_key"] == request.headers["idempotency-key"]
        assert (batch["run_id"], batch["state"], batch["records"]) == (run["run_id"], "settled", 2)
        (call,) = batch["calls"]
        assert (call["http_status"], call["attempt"], call["error"], call["resent"]) == (200, 1, None, False)
        assert call["run_id"] == run["run_id"]
        assert call["time"]
        assert batch["created"]
        assert batch["settled"]
    text = said(project, GUID.upper())
    for word in (GUID, "delivered", str(since)[:19], request.headers["idempotency-key"], run["run_id"], "HTTP 200"):
        assert word in text


@pytest.mark.parametrize(
    ("columns", "row", "id_", "forms", "canonical"),
    [
        ("Id int, Name text", (7, "x"), "Id", ["7", "7 "], "7"),
        ("Id int, Name text", (-12, "x"), "Id", ["-12"], "-12"),
        ("Id int, Name text", (9223372036854775807, "x"), "Id", ["9223372036854775807"], "9223372036854775807"),
        ("Id char, Name text", ("d005", "x"), "Id", ["d005", "d005      "], "d005"),
        ("Id text, Name text", ("d005      ", "x"), "Id", ["d005", "d005      "], "d005"),
        ("Id text, Name text", ("0012", "x"), "Id", ["0012"], "0012"),
        ("Id text, Name text", ("{" + GUID.upper() + "}", "x"), "Id", [GUID, "{" + GUID + "}"], GUID),
        ("Id text, Name text", ("Ünï ' \" \\ 😀" * 8, "x"), "Id", ["Ünï ' \" \\ 😀" * 8], "Ünï ' \" \\ 😀" * 8),
        ("Id time, Name text", ("2026-01-02 03:04:05", "x"), "Id", None, None),
        ("A int, B text", (1, "a"), ["A", "B"], ['["1","a"]', '[1, "a"]', '[ "1" , "a " ]'], '["1","a"]'),
        ("A int, B int", (1, 2), ["A", "B"], ['["1","2"]', "[1,2]"], '["1","2"]'),
        ("A guid, B char", (GUID.upper(), "x"), ["A", "B"], [f'["{GUID.upper()}","x   "]'], f'["{GUID}","x"]'),
        ("A text, B text", ('a","b', "c"), ["A", "B"], ['["a\\",\\"b","c"]'], '["a\\",\\"b","c"]'),
    ],
    ids=["int", "negative", "bigint", "char", "padded", "zeros", "braces", "unicode", "time", "mixed key", "int key", "guid key", "quotes"],
)  # fmt: skip
def test_a_record_is_found_by_its_id_in_another_form(
    everywhere: Project, columns: str, row: tuple[Any, ...], id_: Any, forms: list[str] | None, canonical: str | None
) -> None:
    project = everywhere
    fill(project, columns, [row])
    project.entity(id=id_)
    project.run()
    ((tracked,),) = execute(project, "log", "SELECT EntityId FROM TB_R_SYNC_TRACKING")
    assert canonical in (None, tracked)
    for form in forms or [tracked]:
        found = why(project, form)
        assert found["id"] == tracked
        assert found["source"]["state"] == "sendable", form
        assert found["tracked"], form
        assert len(found["batches"]) == 1, form
        assert len(found["batches"][0]["calls"]) == 1, form


def test_ids_that_differ_in_case_only_are_two_records(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    fill(project, "Id text, Name text", [("abc", "small")])
    project.entity()
    project.run()
    assert why(project, "abc")["tracked"]
    other = why(project, "ABC", code=1)
    assert (other["source"]["state"], other["tracked"], other["batches"]) == ("missing", None, [])


def test_a_row_behind_the_first_page_of_a_template_that_pages_itself_is_found(everywhere: Project) -> None:
    project = everywhere
    fill(project, "Id int, Name text", [(number, f"name {number}") for number in range(1, 8)])
    project.template(
        "own.sql.j2",
        "SELECT Id, Name FROM Users\n{% if after is not none %}WHERE Id > {{ after }}\n{% endif %}ORDER BY Id\nLIMIT {{ limit }}\n",
    )
    project.entity(sql="own.sql.j2", page_size=2)
    project.run()
    assert why(project, "7")["source"]["state"] == "sendable"
    assert why(project, "8", code=1)["source"]["state"] == "missing"


def test_a_tracking_row_of_the_replaced_job_in_upper_case_counts(everywhere: Project) -> None:
    project = everywhere
    fill(project, "Id guid, Name text", [(GUID, "Ann")])
    project.entity()
    project.write()
    project.run("--limit", "1")
    execute(project, "log", "UPDATE TB_R_SYNC_TRACKING SET EntityId = ?", GUID.upper())
    assert why(project, GUID)["tracked"]
    assert why(project, GUID.upper())["tracked"]


# Where it stands


def test_a_refused_record_is_told_with_its_reason_and_when_it_is_offered_again(
    everywhere: Project, api: FaultAPI
) -> None:
    project = everywhere
    fill(project, "Id int, Name text", [(1, "good"), (2, "bad"), (3, "good")])
    project.entity(reject_delay="2h")
    bad = when(lambda request: any(r["Id"] == 2 for r in request.records), answer(422, {"error": "no such name"}))
    api.script("/users", bad)
    project.run(code=1)
    found = why(project, "2")
    ((next_try,),) = execute(project, "log", "SELECT NextTry FROM TB_R_SYNC_REJECT WHERE EntityId = '2'")
    assert found["tracked"] is None
    assert found["rejected"]["state"] == "rejected"
    assert found["rejected"]["next_try"] == str(next_try)
    assert (found["rejected"]["http_status"], found["rejected"]["attempts"]) == (422, 1)
    assert "no such name" in found["rejected"]["reason"]
    assert len(found["batches"]) >= 2, "the whole batch, and the piece that held it alone"
    assert found["batches"][0]["records"] == 3
    assert found["batches"][-1]["records"] == 1
    assert {call["http_status"] for batch in found["batches"] for call in batch["calls"]} == {422}
    text = said(project, "2")
    assert "no such name" in text
    assert str(next_try)[:19] in text
    good = why(project, "1")
    assert good["rejected"] is None
    assert good["tracked"]


def test_a_parked_record_says_that_it_is_and_what_frees_it(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity(reject_after=1)
    api.script("/users", answer(422))
    project.run(code=1)
    found = why(project, "1")
    assert (found["rejected"]["state"], found["rejected"]["next_try"]) == ("parked", None)
    assert "parked" in found["verdict"]
    assert "retry" in found["verdict"]


@pytest.mark.parametrize(("rule", "state", "word"), [("resend", "in_doubt", "next run"), ("hold", "held", "resolve")])
def test_a_record_whose_fate_is_open_names_its_batch(
    everywhere: Project, api: FaultAPI, rule: str, state: str, word: str
) -> None:
    project = everywhere
    project.spec["api"].update(in_doubt=rule)
    project.spec["api"]["retry"]["attempts"] = 1
    fill(project, "Id int, Name text", [(1, "x")])
    project.entity()
    api.script("/users", answer(500, "boom"), answer())
    project.run(code=1)
    found = why(project, "1")
    ((batch, found_state),) = execute(project, "log", "SELECT BatchId, State FROM TB_R_SYNC_BATCH")
    assert found_state == state
    assert found["open_batch"] == batch
    assert found["batches"][0]["state"] == state
    assert found["tracked"] is None
    assert "boom" in found["batches"][0]["calls"][0]["error"]
    assert word in found["verdict"]
    assert batch in found["verdict"]
    assert batch in said(project, "1")


def test_a_batch_that_was_sent_again_tells_both_calls_and_both_runs(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity()
    project.spec["api"]["retry"]["attempts"] = 1
    api.script("/users", answer(500), answer())
    first = project.run(code=1)["run_id"]
    second = project.run()["run_id"]
    found = why(project, "1")
    (batch,) = found["batches"]
    assert [(call["run_id"], call["http_status"], call["resent"]) for call in batch["calls"]] == [
        (first, 500, False),
        (second, 200, True),
    ]
    assert found["open_batch"] is None
    assert found["tracked"]


def test_a_record_that_a_batch_failed_to_deliver_is_due_and_says_why_it_failed(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity()
    api.script("/users", answer(501, "not here"))
    project.run(code=1)
    found = why(project, "1")
    assert found["batches"][0]["state"] == "failed"
    assert "not here" in found["batches"][0]["reason"]
    assert "due" in found["verdict"]
    text = said(project, "1")
    assert "surely not processed" in text
    assert "not here" in text


@pytest.mark.parametrize("ledger", DIALECTS)
def test_a_record_of_a_parked_endpoint_says_until_when(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str
) -> None:
    project.spec["connections"]["log"] = database(ledger)
    project.users(2)
    project.entity(batch_size=1)
    api.script("/users", answer(), answer(429, b"", Retry_After="3600"))
    project.run(code=1)
    found = why(project, "2")
    ((until,),) = execute(project, "log", "SELECT Until FROM TB_R_SYNC_PARK")
    assert found["endpoint_parked"]["until"] == str(until)
    assert found["endpoint_parked"]["endpoint"] == f"{api.url}/users"
    assert str(until)[:19] in found["verdict"]
    assert str(until)[:19] in said(project, "2")
    delivered = why(project, "1")
    assert delivered["tracked"]
    assert "delivered" in delivered["verdict"]


@pytest.mark.parametrize("ledger", DIALECTS)
def test_acts_of_people_are_told_with_who_and_when(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str
) -> None:
    project.spec["connections"]["log"] = database(ledger)
    project.users(3)
    project.entity()
    project.write()
    assert project.cli("baseline", project.file, "Users", "--yes").returncode == 0
    assert project.cli("forget", project.file, "Users", "1", "2").returncode == 0
    api.script("/users", when(lambda request: any(record["Id"] == 2 for record in request.records), answer(422)))
    project.run(code=1)
    assert project.cli("retry", project.file, "Users", "2").returncode == 0
    assert [(act["what"], act["who"]) for act in why(project, "2")["acts"]] == [
        ("baseline", getpass.getuser()),
        ("forget", getpass.getuser()),
        ("retry", getpass.getuser()),
    ]
    assert [act["what"] for act in why(project, "1")["acts"]] == ["baseline", "forget"]
    assert [act["what"] for act in why(project, "3")["acts"]] == ["baseline"]
    text = said(project, "2")
    for verb in ("baseline", "forget", "retry"):
        assert f"{verb}, by {getpass.getuser()} on 20" in text


def test_a_record_that_came_after_a_baseline_was_not_touched_by_it(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    project.write()
    assert project.cli("baseline", project.file, "Users", "--yes").returncode == 0
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(3, "new")])
    project.run()
    assert [act["what"] for act in why(project, "2")["acts"]] == ["baseline"]
    assert why(project, "3")["acts"] == []


# Unknown, unreadable, unusable


def test_an_unknown_record_is_exit_1_and_nothing_is_created(project: Project) -> None:
    project.users(2)
    project.entity()
    project.write()
    found = why(project, "999", code=1)
    assert (found["source"]["state"], found["tracked"], found["batches"]) == ("missing", None, [])
    assert "does not have it" in said(project, "999", code=1)
    assert not (project.folder / "log.db").exists()
    assert why(project, "1")["verdict"] == "It is due: the next run sends it."


@pytest.mark.parametrize("act", ["baseline", "retry"])
def test_an_unknown_record_is_exit_1_after_an_act_on_the_whole_entity_too(project: Project, act: str) -> None:
    project.users(2)
    project.entity()
    project.write()
    arguments = ["--yes"] if act == "baseline" else []
    assert project.cli(act, project.file, "Users", *arguments).returncode == 0
    asked = project.cli("why", project.file, "Users", "999")
    assert "Not tracked" in asked.stdout
    assert asked.returncode == 1


def test_a_record_that_left_the_source_is_still_told_from_the_ledger(project: Project) -> None:
    project.users(2)
    project.entity()
    project.run()
    with closing(sqlite3.connect(project.folder / "source.db", isolation_level=None)) as source:
        source.execute("DELETE FROM Users WHERE Id = 2")
    found = why(project, "2")
    assert found["source"]["state"] == "missing"
    assert found["tracked"]
    assert len(found["batches"]) == 1
    assert "does not have it" in found["verdict"]
    assert "delivered" in found["verdict"]


@pytest.mark.parametrize("ledger", DIALECTS)
@pytest.mark.parametrize("how", ["gone", "no table", "no driver"])
def test_a_source_that_is_away_does_not_keep_the_ledger_from_answering(
    project: Project, database: Callable[[str], str], ledger: str, how: str
) -> None:
    project.spec["connections"]["log"] = database(ledger)
    project.users(2)
    project.entity()
    project.run()
    if how == "gone":
        (project.folder / "source.db").unlink()
    elif how == "no table":
        with closing(sqlite3.connect(project.folder / "source.db", isolation_level=None)) as source:
            source.execute("DROP TABLE Users")
    else:
        project.spec["connections"]["default"] = "Driver={Nobody Has This};Server=db1;UID=u;PWD=sesam-quux;"
        project.write()
    found = why(project, "2")
    assert found["source"]["state"] == "unreadable"
    assert found["source"]["reason"]
    assert found["tracked"]
    assert len(found["batches"]) == 1
    text = said(project, "2")
    assert "Tracked as delivered on" in text
    assert "sesam-quux" not in text + json.dumps(found)
    assert not (project.folder / "source.db").exists() or how != "gone"


@pytest.mark.parametrize(
    ("id_", "key"),
    [
        ("", "Id"),
        ("   ", "Id"),
        ("x" * 256, "Id"),
        ("10001", ["Id", "Name"]),
        ('["1"]', ["Id", "Name"]),
        ('["1","2","3"]', ["Id", "Name"]),
        ('["1",null]', ["Id", "Name"]),
        ('{"Id": 1}', ["Id", "Name"]),
        ('["1",["a"]]', ["Id", "Name"]),
    ],
)
def test_what_cannot_be_an_id_is_wrong_usage(project: Project, id_: str, key: Any) -> None:
    project.users(1)
    project.entity(id=key)
    project.write()
    asked = project.cli("why", project.file, "Users", id_)
    assert asked.returncode == 2, asked.stdout
    assert "Traceback" not in asked.stderr
    assert asked.stderr


def test_an_unknown_entity_is_wrong_usage(project: Project) -> None:
    project.users(1)
    project.entity()
    project.write()
    asked = project.cli("why", project.file, "User", "1")
    assert asked.returncode == 2
    assert "Users" in asked.stdout + asked.stderr, "did you mean"


def test_a_ledger_that_cannot_be_read_is_exit_4(project: Project) -> None:
    project.users(1)
    project.entity()
    project.write()
    (project.folder / "log.db").write_text("no database at all, but some text\n" * 100)
    asked = project.cli("why", project.file, "Users", "1")
    assert asked.returncode == 4
    assert "log.db" in asked.stderr


# What the spec does with it


def test_a_record_that_select_drops_is_never_sent_and_says_so(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER, Active INTEGER", [(1, 1), (2, 0)])
    project.entity(transform=[{"select": "Active == 1"}])
    project.run()
    found = why(project, "2")
    assert found["source"]["state"] == "dropped"
    assert "select" in found["verdict"]
    assert found["batches"] == []
    assert "No batch has carried it" in said(project, "2")


def test_a_record_that_breaks_its_contract_says_which_field(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER, Age TEXT", [(1, "30"), (2, "old")])
    project.entity(fields={"Id": "int", "Age": "int"})
    project.run(code=1)
    found = why(project, "2")
    assert found["source"]["state"] == "broken"
    assert "Age" in found["source"]["reason"]
    assert "old" in found["source"]["reason"]
    assert "Age" in found["rejected"]["reason"]
    assert "as it is" in found["verdict"]
    assert "Age" in said(project, "2")
    with closing(sqlite3.connect(project.folder / "source.db", isolation_level=None)) as source:
        source.execute("UPDATE Users SET Age = '31' WHERE Id = 2")
    mended = why(project, "2")
    assert mended["source"]["state"] == "sendable"
    assert mended["verdict"] == "It is due: the next run sends it."
    assert mended["rejected"], "and what was wrong before is still told"


def test_a_changed_record_is_due_where_changes_are_sent_and_delivered_where_not(
    project: Project, api: FaultAPI
) -> None:
    project.users(2)
    project.entity(resend="changed")
    project.run()
    assert "delivered" in why(project, "1")["verdict"]
    with closing(sqlite3.connect(project.folder / "source.db", isolation_level=None)) as source:
        source.execute("UPDATE Users SET Name = 'other' WHERE Id = 1")
    assert why(project, "1")["verdict"] == "It is due: the next run sends it."
    assert "delivered" in why(project, "2")["verdict"]
    del project.spec["entities"][0]["resend"]
    project.write()
    assert "delivered" in why(project, "1")["verdict"]


@pytest.mark.parametrize("state", ["rejected", "parked"])
def test_a_refused_record_that_was_mended_is_due_for_why_as_it_is_for_plan(
    project: Project, api: FaultAPI, state: str
) -> None:
    project.users(1)
    project.entity(reject_after=1 if state == "parked" else 5)
    api.script("/users", answer(422), answer())
    project.run(code=1)
    with closing(sqlite3.connect(project.folder / "source.db", isolation_level=None)) as source:
        source.execute("UPDATE Users SET Name = 'mended'")
    assert planned(project)["due"] == 1
    found = why(project, "1")
    assert found["rejected"]["state"] == state
    assert found["verdict"] == "It is due: the next run sends it, since it has changed after it was rejected."


def test_a_batch_in_doubt_of_a_parked_endpoint_is_not_promised_to_the_next_run(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity()
    api.script("/users", answer(502, b"", Retry_After="3600"), answer())
    project.run(code=1)
    found = why(project, "1")
    assert found["open_batch"]
    assert found["endpoint_parked"]
    project.run(code=1)
    assert len(api.of("/users")) == 1, "the next run does not settle it"
    assert found["endpoint_parked"]["until"][:19] in found["verdict"]


@pytest.mark.parametrize("case", ["delivered", "refused", "unknown"])
def test_asking_writes_nothing(project: Project, api: FaultAPI, case: str) -> None:
    project.users(2)
    project.entity(batch_size=1)
    api.script("/users", answer(), answer(422))
    project.run(code=1)

    def dump() -> list[str]:
        with closing(sqlite3.connect(project.folder / "log.db")) as ledger:
            return list(ledger.iterdump())

    before = dump()
    why(project, {"delivered": "1", "refused": "2", "unknown": "3"}[case], code=1 if case == "unknown" else 0)
    assert dump() == before


def test_two_entities_and_two_pipelines_of_one_ledger_are_told_apart(project: Project, tmp_path: Path) -> None:
    project.users(1)
    project.users(1, table="Orgs")
    project.entity()
    project.entity("Orgs")
    project.run()
    users, orgs = why(project, "1"), why(project, "1", entity="Orgs")
    assert users["batches"][0]["batch_id"] != orgs["batches"][0]["batch_id"]
    assert (len(users["batches"]), len(orgs["batches"])) == (1, 1)
    project.cli("forget", project.file, "Orgs", "1")
    assert why(project, "1", entity="Orgs")["tracked"] is None
    assert why(project, "1")["acts"] == []


def test_a_secret_that_an_answer_echoes_is_masked(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["auth"] = {"bearer": "sesam-open-quux"}
    project.users(1)
    project.entity()
    api.script("/users", answer(422, "token sesam-open-quux is bad"))
    project.run(code=1)
    text = said(project, "1") + json.dumps(why(project, "1"))
    assert "is bad" in text
    assert "sesam-open-quux" not in text
