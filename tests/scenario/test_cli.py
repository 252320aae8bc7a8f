"""The command line as people and CI use it: as a process."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from engine import __version__
from engine.demo import hr
from tests.faultapi import FaultAPI, Request, answer, slow
from tests.project import ROOT, Project, check_sums

GUID = "4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11"
RUN_KEYS = ["run_id", "pipeline", "status", "error", "holder", "seconds", "entities"]
ENTITY_KEYS = [
    "name",
    "read",
    "excluded",
    "dropped",
    "waiting",
    "due",
    "accepted",
    "rejected",
    "failed",
    "in_doubt",
    "settled",
    "rejected_before",
    "resting",
    "already_there",
    "refused_again",
    "batches",
    "calls",
    "seconds",
    "error",
]
SMILE = "Ünits 😀"
WIDE = {"COLUMNS": "120"}
"""pytest-xdist gives its workers a narrow terminal."""


def engine(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`syncledger` in any folder."""
    return subprocess.run(
        [sys.executable, "-m", "engine", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def sent(api: FaultAPI, path: str = "/users") -> list[Any]:
    """The IDs that arrived, in order."""
    return [record["Id"] for request in api.of(path) for record in request.records]


def rows_of(text: str, first: str) -> list[str]:
    """The words of a table's line that begins with a word."""
    return next((line.split() for line in text.splitlines() if line.startswith(first)), [])


def acts(project: Project) -> list[tuple[str, dict[str, Any]]]:
    """What people did, as SchedulerLog has it."""
    rows = project.ledger(
        "SELECT Activity, AdditionalInformation FROM SchedulerLog WHERE Activity NOT LIKE 'Sync Batch:%' ORDER BY CreatedOn, rowid"
    )
    return [(activity, json.loads(information)) for activity, information in rows]


# run


def test_run_shows_a_table_and_one_sentence(project: Project, api: FaultAPI) -> None:
    project.users(5)
    project.users(2, "Others")
    project.entity(batch_size=2)
    project.entity("Others")
    finished = project.cli("run", project.write(), env=WIDE)
    assert finished.returncode == 0
    assert rows_of(finished.stdout, "Users")[:6] == ["Users", "5", "0", "5", "5", "3"]
    assert rows_of(finished.stdout, "Others")[:6] == ["Others", "2", "0", "2", "2", "1"]
    assert "Delivered 7 records in 4 calls" in finished.stdout
    assert re.search(r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d INFO Users: started$", finished.stderr)
    quiet = project.cli("run", project.file, "--quiet", "--entity", "Others")
    assert "Nothing new to send: 2 records delivered before" in quiet.stdout
    assert "Users" not in quiet.stdout
    assert quiet.stderr == ""


def test_run_as_json_has_exactly_the_documented_keys_and_its_log_lines_are_json(
    project: Project, api: FaultAPI
) -> None:
    project.users(5)
    project.fill("Empty", "Id INTEGER PRIMARY KEY, Name TEXT", [])
    project.entity(batch_size=2)
    project.entity("Empty")
    finished = project.cli("run", project.write(), "--format", "json", "--log-format", "json", "--limit", "3")
    document = json.loads(finished.stdout)
    assert list(document) == RUN_KEYS
    assert [list(entity) for entity in document["entities"]] == [ENTITY_KEYS] * 2
    assert (document["pipeline"], document["status"], document["error"], document["holder"]) == (
        "sync",
        "delivered",
        None,
        None,
    )
    users, empty = document["entities"]
    assert (users["due"], users["accepted"], users["batches"], users["calls"]) == (3, 3, 2, 2)
    assert {empty[key] for key in ENTITY_KEYS[1:13]} == {0}
    check_sums(document)
    assert [len(request.records) for request in api.of("/users")] == [2, 1]
    assert api.of("/empty") == []
    lines = [json.loads(line) for line in finished.stderr.splitlines()]
    assert {"time", "level", "event"} <= set(lines[0])
    assert {line["run_id"] for line in lines} == {document["run_id"]}
    assert [line["accepted"] for line in lines if "done" in line["event"]] == [3, 0]
    calls = project.ledger(
        "SELECT COUNT(*) FROM SchedulerLog WHERE LogID = ? AND Activity LIKE 'Sync Batch:%'", document["run_id"]
    )
    assert calls == [(2,)]


def test_limit_counts_due_records_the_rejected_ones_too(project: Project, api: FaultAPI) -> None:
    project.fill(
        "Users",
        "Id INTEGER PRIMARY KEY, Level TEXT",
        [(number, "bad" if number <= 5 else "1") for number in range(1, 9)],
    )
    project.entity(fields={"Id": "int", "Level": "int"})
    report = project.run("--limit", "2", code=1)
    check_sums(report)
    assert report["entities"][0]["due"] == 2


def test_an_unknown_entity_is_wrong_usage_with_a_suggestion(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity()
    project.write()
    finished = project.cli("run", "pipelines/sync.yaml", "--entity", "Usres", "--format", "json")
    assert finished.returncode == 2
    (problem,) = json.loads(finished.stdout)["problems"]
    assert {"file", "line", "column", "message"} <= set(problem)
    assert "did you mean 'Users'" in problem["message"]
    # The path as it was typed, and the place of `entities` in it.
    line = project.file.read_text().splitlines().index("entities:") + 1
    assert (problem["file"], problem["line"], problem["column"]) == ("pipelines/sync.yaml", line, 1)
    assert api.requests == []
    assert not (project.folder / "log.db").exists()


def test_what_was_not_delivered_ends_with_1_and_says_so(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity()
    api.script("/users", answer(400, {"error": "no"}))
    finished = project.cli("run", project.write())
    assert finished.returncode == 1
    assert "Not everything arrived: 0 records delivered" in finished.stdout
    assert "3 failed, which a later run offers again" in finished.stdout


def test_a_source_that_cannot_be_read_ends_with_4_and_the_others_go_on(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity("Missing")
    project.entity()
    report = project.run(code=4)
    assert report["status"] == "error"
    missing, users = report["entities"]
    assert "Missing" in missing["error"]
    assert users["accepted"] == 2


def test_names_with_brackets_are_shown_as_they_are(project: Project, api: FaultAPI) -> None:
    project.users(1)
    names = ["Users [all]", "Users [/v2]", "[red]Users"]
    for name in names:
        project.entity(name, query="SELECT * FROM Users", endpoint="/users")
    for command in ("run", "status"):
        finished = project.cli(command, project.write(), env=WIDE)
        assert finished.returncode == 0, finished.stderr
        assert [name for name in names if name not in finished.stdout] == []


def test_a_terminal_of_80_columns_shows_every_name_and_run(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity("EventsCalendar", query="SELECT * FROM Users")
    finished = project.cli("run", project.write(), env={"COLUMNS": "80"})
    assert "EventsCalendar" in finished.stdout
    run = re.search(r"Run ([0-9a-f-]{36})", finished.stdout)
    assert run
    status = project.cli("status", project.file, env={"COLUMNS": "80"}).stdout
    assert "EventsCalendar" in status
    assert run[1] in status


# The shipped project


@pytest.fixture
def shipped(tmp_path: Path, api: FaultAPI) -> Project:
    """A copy of what ships, with 30 generated users, whose API is `api`."""
    project = Project(tmp_path / "shipped", api.url)
    for name in ("pipelines", "templates", "schema"):
        shutil.copytree(ROOT / name, project.folder / name, dirs_exist_ok=True)
    hr.fill_sqlite(project.folder / "var", 30)
    project.environment = {
        "DEFAULT_CONNECTION": "sqlite:///var/mdm.db",
        "ESS_CONNECTION": "sqlite:///var/ess.db",
        "LOG_CONNECTION": "sqlite:///log.db",
        "API_BASE_URL": api.url,
        "API_TOKEN": "tok-5ecret",
    }
    return project


def test_a_sixth_entity_is_a_few_lines_of_yaml_and_one_sql_file(shipped: Project, api: FaultAPI) -> None:
    first = json.loads(shipped.cli("run", shipped.file, "--format", "json").stdout)
    assert [entity["name"] for entity in first["entities"]] == [
        "Users",
        "ActualOrg",
        "ActualEntity",
        "OrgObject",
        "EventsCalendar",
    ]
    assert all(entity["accepted"] == entity["read"] > 0 for entity in first["entities"])
    before = len(api.requests)
    yaml = shipped.file.read_text(encoding="utf-8")
    shipped.file.write_text(
        yaml
        + "\n  - name: Emails\n    sql: emails.sql.j2\n    endpoint: /emails\n    fields: { Id: guid, Email: string }\n",
        encoding="utf-8",
    )
    shipped.template(
        "emails.sql.j2",
        '{% extends "page.sql.j2" %}\n{% block query %}\nSELECT Id, Email FROM TB_M_USER WHERE Email IS NOT NULL\n{% endblock %}\n',
    )
    finished = shipped.cli("run", shipped.file, "--format", "json")
    assert finished.returncode == 0, finished.stdout
    second = json.loads(finished.stdout)
    assert [entity["accepted"] for entity in second["entities"][:5]] == [0] * 5
    with sqlite3.connect(shipped.folder / "var" / "mdm.db") as connection:
        emails = dict(connection.execute("SELECT Id, Email FROM TB_M_USER WHERE Email IS NOT NULL"))
    connection.close()
    new = api.requests[before:]
    assert {request.path for request in new} == {"/emails"}
    assert {record["Id"]: record["Email"] for request in new for record in request.records} == emails
    assert len(shipped.tracked("Emails")) == len(emails)


# plan


def wire(request: Request) -> dict[str, str]:
    """The headers of a request without those that belong to the connection and the batch."""
    own = ("host", "connection", "accept-encoding", "idempotency-key")
    return {name: value for name, value in request.headers.items() if name not in own}


def test_plan_shows_the_exact_requests_of_the_run_and_writes_nothing(project: Project, api: FaultAPI) -> None:
    project.fill(
        "Users",
        "Id INTEGER PRIMARY KEY, Name TEXT, Amount DECIMAL",
        [(number, f'{SMILE} "{number}"', 0.1) for number in range(1, 6)],
    )
    project.entity(
        batch_size=2, body={"wrap": "items"}, fields={"Name": "string", "Id": "int", "Amount": "decimal"}, method="PUT"
    )
    project.spec["api"]["headers"] = {"X-Tenant": "hr"}
    finished = project.cli("plan", project.write(), "--preview", "2", "--full", "--format", "json")
    assert finished.returncode == 0, finished.stderr
    (planned,) = json.loads(finished.stdout)["entities"]
    assert api.requests == []
    assert sorted(file.name for file in project.folder.iterdir()) == ["pipelines", "source.db", "templates"]
    assert {key: planned[key] for key in ("in_source", "tracked", "in_doubt", "due", "batches")} == {
        "in_source": 5,
        "tracked": 0,
        "in_doubt": 0,
        "due": 5,
        "batches": 3,
    }
    project.run()
    assert len(planned["requests"]) == 2
    for preview, request in zip(planned["requests"], api.requests, strict=False):
        assert (preview["method"], preview["url"]) == (request.method, f"{api.url}{request.path}")
        assert preview["body"].encode() == request.body
        shown = {name.lower(): value for name, value in preview["headers"].items()}
        assert "idempotency-key" in shown
        assert {name: shown.get(name) for name in wire(request)} == wire(request)
    # A ledger that is there stays as it is, byte for byte.
    ledger = project.folder / "log.db"
    before = hashlib.sha256(ledger.read_bytes()).digest()
    project.fill("Users", "Id INTEGER PRIMARY KEY", [(6, "new", 1)])
    text = project.cli("plan", project.file, env=WIDE)
    assert rows_of(text.stdout, "Users")[1:5] == ["6", "5", "1", "1"]
    assert hashlib.sha256(ledger.read_bytes()).digest() == before
    assert len(api.requests) == 3
    assert not list(project.folder.glob("log.db-*"))


def test_plan_shows_authentication_as_a_masked_header(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity()
    project.spec["api"]["auth"] = {"bearer": "${API_TOKEN}"}
    project.environment = {"API_TOKEN": "tok-5ecret"}
    finished = project.cli("plan", project.write(), "--preview", "1")
    assert finished.returncode == 0, finished.stderr
    assert "tok-5ecret" not in finished.stdout + finished.stderr
    assert re.search(r"(?im)^authorization: ", finished.stdout)


def test_plan_counts_what_a_run_would_reject(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER, Level TEXT", [(1, "1"), (2, "two"), (None, "3"), (1, "4"), (5, "5")])
    project.entity(fields={"Id": "int", "Level": "int"})
    (planned,) = json.loads(project.cli("plan", project.write(), "--format", "json").stdout)["entities"]
    assert {key: planned[key] for key in ("in_source", "due", "rejected", "without_id", "repeated_ids")} == {
        "in_source": 5,
        "due": 2,
        "rejected": 3,
        "without_id": 1,
        "repeated_ids": 1,
    }


# status


def test_status_before_and_after_runs(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER PRIMARY KEY, Level TEXT", [(1, "1"), (2, "two")])
    project.entity(fields={"Id": "int", "Level": "int"})
    before = project.cli("status", project.write())
    assert before.returncode == 0
    assert "sync has not run yet" in before.stdout
    assert not (project.folder / "log.db").exists()
    report = project.run(code=1)
    document = json.loads(project.cli("status", project.file, "--format", "json").stdout)
    assert document["pipeline"] == "sync"
    (run,) = document["runs"]
    assert (run["run_id"], run["status"]) == (report["run_id"], "incomplete")
    assert run["started"]
    assert run["ended"]
    (entity,) = document["entities"]
    assert (entity["name"], entity["tracked"], entity["rejected"]) == ("Users", 1, 1)
    text = project.cli("status", project.file, env=WIDE).stdout
    assert "incomplete" in text
    assert report["run_id"] in text
    assert rows_of(text, "Users")[1] == "1"


# baseline and forget


def test_baseline_tracks_without_sending_and_leaves_an_audit_row(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity()
    project.write()
    asked = project.cli("baseline", project.file, "Users", input="n\n")
    assert asked.returncode != 0
    assert "never be sent" in asked.stderr
    assert not (project.folder / "log.db").exists() or project.tracked() == []
    done = project.cli("baseline", project.file, "Users", "--yes", "--format", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["tracked"] == 3
    assert project.tracked() == ["1", "2", "3"]
    assert [(activity, information["Records"]) for activity, information in acts(project)] == [("Baseline: Users", 3)]
    report = project.run()
    assert (report["entities"][0]["excluded"], api.requests) == (3, [])


def test_baseline_of_an_unknown_entity_is_wrong_usage(project: Project) -> None:
    project.entity()
    finished = project.cli("baseline", project.write(), "Usres", "--yes")
    assert finished.returncode == 2
    assert "did you mean 'Users'" in finished.stderr


def test_forgotten_records_are_sent_again(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity()
    project.run()
    done = project.cli("forget", project.file, "Users", "2", "99", "--format", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"entity": "Users", "forgotten": ["2"], "not_tracked": ["99"]}
    assert project.tracked() == ["1", "3"]
    assert [(activity, information["EntityIds"]) for activity, information in acts(project)] == [
        ("Forget: Users", ["2"])
    ]
    project.run()
    assert sent(api) == [1, 2, 3, 2]


def test_forget_takes_a_composite_id_as_json_and_a_guid_in_any_case(project: Project, api: FaultAPI) -> None:
    project.fill("Jobs", "Emp INTEGER, Dept TEXT", [(10001, "d005"), (10001, "d006")])
    project.fill("Users", "Id TEXT", [(GUID.upper(),)])
    project.entity("Jobs", id=["Emp", "Dept"])
    project.entity()
    project.run()
    assert project.tracked("Jobs") == ['["10001","d005"]', '["10001","d006"]']
    assert project.tracked() == [GUID]
    assert project.cli("forget", project.file, "Jobs", '[10001, "d005"]').returncode == 0
    assert project.tracked("Jobs") == ['["10001","d006"]']
    assert project.cli("forget", project.file, "Users", GUID.upper()).returncode == 0
    assert project.tracked() == []
    wrong = project.cli("forget", project.file, "Jobs", "10001")
    assert wrong.returncode == 2
    assert "JSON array" in wrong.stderr


# init, demo, receive


def start_receiver(folder: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "receive", "--port", "0"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, process.stdout.readline().split()[-1]


def test_a_new_project_validates_plans_and_delivers_to_the_receiver(tmp_path: Path) -> None:
    made = engine("init", "my project", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "my project"
    process, url = start_receiver(tmp_path)
    try:
        shutil.copy(folder / ".env.example", folder / ".env")
        checked = engine("validate", "pipelines/customers.yaml", "--connect", cwd=folder)
        assert checked.returncode == 0, checked.stdout
        planned = json.loads(engine("plan", "pipelines/customers.yaml", "--format", "json", cwd=folder).stdout)
        assert planned["entities"][0]["due"] == 5
        # From another folder: everything is taken from the project's root.
        finished = engine("run", folder / "pipelines" / "customers.yaml", cwd=tmp_path, env={"API_BASE_URL": url})
        assert finished.returncode == 0, finished.stderr
        with urllib.request.urlopen(url) as shown:
            assert json.load(shown) == {
                "/customers": {"calls": 1, "records": 5, "distinct": 5, "doubled": 0, "replayed_keys": 0}
            }
        # The receiver honours keys: the same batch under the same key is counted once.
        for key in ("k1", "k1", "k2"):
            post = urllib.request.Request(f"{url}/x", b'{"items": [{"Id": 1}, {"Id": 2}]}', {"Idempotency-Key": key})
            urllib.request.urlopen(post).close()
    finally:
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors
    assert json.loads(output)["/x"] == {"calls": 3, "records": 4, "distinct": 2, "doubled": 2, "replayed_keys": 1}
    files = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    again = engine("init", folder, cwd=tmp_path)
    assert again.returncode != 0
    assert "exists already" in again.stderr
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == files


def test_the_demo_sends_everything_once_and_then_nothing(tmp_path: Path) -> None:
    first = engine("demo", "--rows", "50", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "What the API received" in first.stdout
    users = rows_of(first.stdout, "/users")
    assert users[1:] == ["1", "50", "50", "0"]
    assert "nothing will be sent twice" in first.stdout
    second = engine("demo", "--rows", "50", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "Nothing new was sent" in second.stdout
    assert "What the API received" not in second.stdout
    assert sorted(file.name for file in tmp_path.iterdir()) == ["var"]


# Consoles, pipes, usage, bugs


def test_a_console_that_is_not_utf_8_never_crashes(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(1, SMILE)])
    project.entity(SMILE, query="SELECT * FROM Users", endpoint="/users")
    project.spec["description"] = SMILE
    project.write()
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for command in (["run"], ["status"], ["validate"], ["plan", "--preview", "1"]):
        finished = project.cli(command[0], project.file, *command[1:], env=ascii_only)
        assert finished.returncode == 0, f"{command}: {finished.stderr}"
        assert "Traceback" not in finished.stderr
        assert finished.stdout.isascii()
    assert api.of("/users")[0].records == [{"Id": 1, "Name": SMILE}]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_json_keeps_every_name_on_a_console_that_is_not_utf_8(project: Project, encoding: str) -> None:
    project.entity(SMILE, query="SELECT * FROM Users", endpoint="/users")
    project.write()
    finished = subprocess.run(
        project.command("status", project.file, "--format", "json"),
        cwd=project.folder,
        env=project.env({"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0
    # JSON is UTF-8 (RFC 8259), whatever the console is.
    assert [entity["name"] for entity in json.loads(finished.stdout.decode())["entities"]] == [SMILE]


def test_a_reader_that_leaves_early_is_no_crash(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", ((number, "x" * 1000) for number in range(500)))
    project.entity()
    project.write()
    process = project.popen("plan", project.file, "--preview", "1")
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(20) != 70
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert "bug" not in errors


def test_an_unknown_command_is_wrong_usage_and_the_version_is_the_version(tmp_path: Path) -> None:
    unknown = engine("rnu", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "rnu" in unknown.stderr
    version = engine("--version", cwd=tmp_path)
    assert version.returncode == 0
    assert __version__ in version.stdout
    missing = engine("run", "no-such.yaml", cwd=tmp_path)
    assert missing.returncode == 2
    assert "no-such.yaml" in missing.stderr
    assert "Traceback" not in missing.stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_bug_ends_with_70_a_saved_report_and_without_secrets(project: Project, tmp_path: Path, form: str) -> None:
    site = tmp_path / "site"
    reports = tmp_path / "reports"
    site.mkdir()
    reports.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'run' in sys.orig_argv:\n"
        "    from engine.runtime import runner\n"
        "    def broken(*_, **__):\n"
        "        raise RuntimeError('it broke near tok-5ecret')\n"
        "    runner.sync = broken\n"
    )
    project.users(1)
    project.entity()
    project.spec["api"]["auth"] = {"bearer": "${API_TOKEN}"}
    env = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "TMPDIR": str(reports), "API_TOKEN": "tok-5ecret"}
    finished = project.cli("run", project.write(), "--format", form, env=env)
    assert finished.returncode == 70, finished.stderr
    (report,) = reports.iterdir()
    assert str(report) in finished.stderr
    assert "Traceback" not in finished.stderr
    text = report.read_text(encoding="utf-8")
    assert "RuntimeError" in text
    assert __version__ in text
    assert os.name == "nt" or report.stat().st_mode & 0o777 == 0o600, "nobody else reads it"
    assert "tok-5ecret" not in text + finished.stderr + finished.stdout
    if form == "json":
        document = json.loads(finished.stdout or "null")
        assert document, "the document is printed whatever the exit code"
        assert document["status"] == "error"


def test_help_is_quick_and_loads_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "sys.argv = ['engine', '--help']\n"
        "from engine.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit as leaving:\n    code = leaving.code\n"
        "heavy = {'petl', 'requests', 'jsonschema', 'pyodbc', 'jinja2', 'rich', 'schedule', 'yaml', 'sqlparse'}\n"
        "print('CODE', code, sorted(heavy & set(sys.modules)))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert finished.stdout.splitlines()[-1] == "CODE 0 []", finished.stderr
    for command in ("run", "plan", "validate", "schedule", "status", "baseline", "forget", "init", "demo", "receive"):
        assert re.search(rf"(?m)^  {command} ", finished.stdout), command


def test_sigterm_settles_what_is_on_the_wire_and_ends_with_130(project: Project, api: FaultAPI) -> None:
    project.users(10)
    project.entity(batch_size=1)
    api.script("/users", slow(0.7))
    process = project.popen("run", project.write(), "--format", "json")
    end = time.monotonic() + 20
    while not api.of("/users"):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert json.loads(output)["status"] == "cancelled"
    assert project.tracked() == [str(id_) for id_ in sent(api)]
    assert len(project.tracked()) < 10
