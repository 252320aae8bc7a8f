"""Secrets never reach the screen, a log line or a table, whatever fails and whatever the API says back."""

from __future__ import annotations

import base64
import html
import json
import sqlite3
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import trustme

from engine.sync.spec.load import examine
from tests.faultapi import Behaviour, FaultAPI, Handler, Request, answer
from tests.project import Project

SECRET = "hunter2-Geheim"
CREDENTIALS = ("authorization", "x-api-key", "x-secret")


@pytest.fixture
def ready(project: Project) -> Project:
    """A project with three users to send."""
    project.users(3)
    project.entity()
    project.spec["api"]["retry"] = {"attempts": 1}
    return project


def echo(status: int = 400) -> Behaviour:
    """An API that shows the credentials it got in its answer, as debugging middleware does."""

    def behave(handler: Handler, request: Request) -> None:
        # Few and first: an answer is cut after some hundred characters.
        headers = {name: request.headers[name] for name in CREDENTIALS if name in request.headers}
        answer(status, {"message": "refused", "headers": headers})(handler, request)

    return behave


def shown(project: Project, *arguments: str, code: int | None = None, env: dict[str, str] | None = None) -> str:
    """Everything that one command shows."""
    finished = project.cli(*arguments, env=env)
    assert finished.returncode != 70, finished.stderr
    assert code is None or finished.returncode == code, f"{finished.returncode} {finished.stdout} {finished.stderr}"
    return finished.stdout + finished.stderr


def stored(project: Project) -> str:
    """Everything that is in the project's ledger, every table and column."""
    if not (project.folder / "log.db").exists():
        return ""
    connection = sqlite3.connect(project.folder / "log.db")
    try:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [repr(row) for table in tables for row in connection.execute(f'SELECT * FROM "{table}"')]
    finally:
        connection.close()
    return "\n".join(rows)


def leaks(text: str, *secrets: str) -> list[str]:
    """Which secrets a text shows, as they are or in base64."""
    forms = [form for secret in secrets for form in (secret, base64.b64encode(secret.encode()).decode())]
    return [form for form in forms if form in text]


# Connections


CONNECTIONS = {
    "odbc": f"Driver={{PostgreSQL Unicode}};Server=127.0.0.1;Port=9;Database=d;UID=u;PWD={SECRET};Timeout=1",
    "odbc with an unknown driver": f"Driver={{No Such Driver}};Server=127.0.0.1;UID=u;PWD={{{SECRET}}}",
    "odbc through a dsn": f"DSN=NoSuchDsn;UID=u;Password={SECRET}",
    "ado.net": f"data source=127.0.0.1,9;initial catalog=d;user id=u;password={SECRET};Connect Timeout=1",
    "ado.net with an unknown key": f"data source=127.0.0.1,9;user id=u;password={SECRET};colour=blue",
    "no known kind": f"postgresql://user:{SECRET}@127.0.0.1:9/d",
    "no key and value": f"Server=127.0.0.1;PWD={SECRET};oops",
    "a brace that never closes": f"Driver={{x}};PWD={{{SECRET}",
    "a file that is not there": f"{SECRET}.db",
}


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_no_problem_of_a_spec_shows_a_password_of_a_connection(tmp_path: Path, kind: str) -> None:
    made = Project(tmp_path / "project")
    made.entity(connection="defalt", sql="none.sql.j2")
    for text in (CONNECTIONS[kind], "${SOURCE}"):
        made.spec["connections"]["default"] = text
        loaded = examine(made.write(), {"SOURCE": CONNECTIONS[kind]})
        assert loaded.problems
        assert leaks("\n".join(map(str, loaded.problems)), SECRET) == []
        assert SECRET not in loaded.secrets.mask(f"cannot connect: {CONNECTIONS[kind]}")


@pytest.mark.parametrize("kind", ["odbc", "ado.net"])
def test_a_run_that_cannot_connect_shows_no_password(ready: Project, kind: str) -> None:
    ready.spec["connections"]["default"] = "${SOURCE}"
    ready.write()
    environment = {"SOURCE": CONNECTIONS[kind]}
    text = shown(ready, "run", "pipelines/sync.yaml", env=environment)
    assert "'default'" in text
    assert leaks(text + stored(ready), SECRET) == []


def test_a_ledger_that_cannot_be_opened_shows_no_password(ready: Project) -> None:
    ready.spec["connections"]["log"] = CONNECTIONS["odbc"]
    ready.write()
    text = ""
    for arguments in (["run"], ["validate", "--connect"]):
        text += shown(ready, *arguments, "pipelines/sync.yaml", code=4)
    assert leaks(text, SECRET) == []


def test_a_value_of_the_wrong_kind_is_not_shown_where_it_may_be_a_secret(tmp_path: Path) -> None:
    made = Project(tmp_path / "project")
    made.entity()
    api = made.spec["api"]
    for auth in (SECRET, [SECRET], {"bearer": [SECRET]}, {"baerer": SECRET}, {"basic": SECRET}, {"header": {"name": "X", "valeu": SECRET}},
                 {"oauth2": {"token_url": "https://x", "client_secret": [SECRET]}}, {"bearer": SECRET, "header": SECRET},
                 {"bearer": ""}):  # fmt: skip
        api["auth"] = auth
        problems = examine(made.write(), {}).problems
        assert problems
        assert leaks("\n".join(map(str, problems)), SECRET) == []
    del api["auth"]
    for key, value in (
        ("proxy", f"socks5://u:{SECRET}@h"),
        ("headers", {"X-Key": [SECRET]}),
        ("base_url", f"ftp://u:{SECRET}@h"),
    ):
        made.spec["api"] = {**api, key: value}
        problems = examine(made.write(), {}).problems
        assert problems
        assert leaks("\n".join(map(str, problems)), SECRET) == []


@pytest.mark.parametrize(
    "text", ["bearer: *{}", "bearer: !{}", "bearer: @{}", "bearer: '{}", "bearer: {}: x", "bearer: %{}"]
)
def test_yaml_that_cannot_be_read_shows_no_value(tmp_path: Path, text: str) -> None:
    # A password that begins with `*` or `!` is an alias or a tag to YAML.
    made = Project(tmp_path / "project")
    spec = f"version: 1\nname: sync\napi:\n  base_url: https://x\n  auth:\n    {text.format(SECRET)}\n"
    problems = examine(made.write(spec), {}).problems
    assert problems
    assert leaks("\n".join(map(str, problems)), SECRET) == []


# The API


AUTHS: dict[str, dict[str, Any]] = {
    "bearer": {"auth": {"bearer": "${S}"}},
    "basic": {"auth": {"basic": {"user": "hr", "password": "${S}"}}},
    "header": {"auth": {"header": {"name": "X-Api-Key", "value": "${S}"}}},
    "headers": {"headers": {"X-Secret": "${S}"}},
    "part of a header": {"headers": {"X-Secret": "Key ${S}"}},
    "literal bearer": {"auth": {"bearer": SECRET}},
}


@pytest.mark.parametrize("kind", AUTHS)
def test_an_api_that_echoes_credentials_puts_them_nowhere(ready: Project, api: FaultAPI, kind: str) -> None:
    ready.spec["api"].update(AUTHS[kind])
    api.script("/users", echo(401))
    ready.write()
    env = {"S": SECRET}
    formats = ["--log-format", "json", "--format", "json"] if kind.startswith("b") else []
    text = shown(ready, "run", "pipelines/sync.yaml", *formats, code=1, env=env)
    assert leaks(json.dumps(api.requests[0].headers), SECRET, f"hr:{SECRET}"), "it was sent"
    if kind == "bearer":
        text += shown(ready, "status", "pipelines/sync.yaml", "--format", "json", env=env)
    assert "refused" in text
    assert "refused" in stored(ready)
    assert leaks(text + stored(ready), SECRET, f"hr:{SECRET}") == []


def test_a_secret_with_quotes_and_backslashes_is_masked_in_an_echo_too(ready: Project, api: FaultAPI) -> None:
    # In a JSON answer the secret stands with escapes.
    secret = 'gehe"im\\nis/x'
    ready.spec["api"]["headers"] = {"X-Secret": "${S}"}
    api.script("/users", echo())
    ready.write()
    text = shown(ready, "run", "pipelines/sync.yaml", code=1, env={"S": secret})
    assert api.requests[0].headers["x-secret"] == secret
    assert (
        leaks(text + stored(ready), secret, json.dumps(secret)[1:-1], json.dumps(json.dumps(secret)[1:-1])[1:-1]) == []
    )
    assert "gehe" not in text + stored(ready)


def test_a_secret_that_an_answer_is_cut_within_is_masked_too(ready: Project, api: FaultAPI) -> None:
    secret = "0123456789abcdef" * 4
    ready.spec["api"]["auth"] = {"header": {"name": "X-Api-Key", "value": "${S}"}}
    ready.spec["entities"].clear()
    for padding in (280, 560, 590):
        ready.users(1, f"T{padding}")
        ready.entity(f"T{padding}")
        api.script(f"/t{padding}", answer(400, "x" * padding + secret + "y" * 100))
    ready.write()
    text = shown(ready, "run", "pipelines/sync.yaml", code=1, env={"S": secret})
    assert "xxxx" in text + stored(ready)
    assert "01234567" not in text + stored(ready)


def test_reasons_of_the_api_are_masked_in_the_table_of_rejects(ready: Project, api: FaultAPI) -> None:
    ready.spec["api"]["auth"] = {"bearer": "${S}"}
    ready.spec["entities"][0]["results"] = {"path": "@", "id": "Id", "accepted": "ok", "reason": "why"}
    body = [{"Id": number, "ok": False, "why": f"token {SECRET} may not write"} for number in (1, 2, 3)]
    api.script("/users", answer(200, body))
    ready.write()
    env = {"S": SECRET}
    text = shown(ready, "run", "pipelines/sync.yaml", code=1, env=env)
    text += shown(ready, "status", "pipelines/sync.yaml", env=env)
    assert "may not write" in "".join(ready.rejects().values())
    assert leaks(text + stored(ready), SECRET) == []


def test_a_redirect_that_repeats_the_token_shows_it_nowhere(ready: Project, api: FaultAPI) -> None:
    ready.spec["api"]["auth"] = {"bearer": "${S}"}
    api.script("/users", answer(302, "", Location=f"{api.url}/login?token={SECRET}"))
    ready.write()
    text = shown(ready, "run", "pipelines/sync.yaml", code=1, env={"S": SECRET})
    assert "/login" in stored(ready)
    assert leaks(text + stored(ready), SECRET) == []


def test_a_password_in_the_base_url_is_shown_nowhere(ready: Project, api: FaultAPI) -> None:
    ready.spec["api"]["base_url"] = api.url.replace("http://", f"http://hr:{SECRET}@")
    api.script("/users", echo(400))
    ready.write()
    text = shown(ready, "run", "pipelines/sync.yaml", code=1)
    for extra in ([], ["--format", "json"]):
        text += shown(ready, "plan", "pipelines/sync.yaml", "--preview", "1", *extra)
    assert leaks(text + stored(ready), SECRET, f"hr:{SECRET}") == []


def test_a_proxy_password_is_shown_nowhere(ready: Project, api: FaultAPI) -> None:
    # Nobody listens there.
    ready.spec["api"]["proxy"] = f"http://hr:{SECRET}@127.0.0.1:9"
    ready.write()
    text = shown(ready, "run", "pipelines/sync.yaml", code=1)
    assert "Failure" in stored(ready)
    assert leaks(text + stored(ready), SECRET, f"hr:{SECRET}") == []
    assert not api.requests


def test_the_preview_of_a_plan_masks_header_values_from_variables_and_no_others(ready: Project) -> None:
    ready.spec["api"]["headers"] = {"X-Tenant": "hr-indonesia", "X-Key": "Key ${S}"}
    ready.spec["api"]["auth"] = {"bearer": "${S2}"}
    ready.write()
    env = {"S": SECRET, "S2": SECRET[::-1]}
    for extra in ([], ["--format", "json"]):
        text = shown(ready, "plan", "pipelines/sync.yaml", "--preview", "1", *extra, code=0, env=env)
        assert "hr-indonesia" in text
        assert "X-Key" in text
        assert leaks(text, SECRET, SECRET[::-1]) == []


def test_the_preview_of_a_plan_shows_that_a_call_is_authenticated_but_not_with_what(ready: Project) -> None:
    ready.spec["api"]["auth"] = {"bearer": SECRET}
    ready.write()
    text = shown(ready, "plan", "pipelines/sync.yaml", "--preview", "1", code=0)
    assert "Authorization" in text
    assert leaks(text, SECRET) == []


@pytest.mark.parametrize("value", ["200", "3", "users"])
def test_a_header_value_that_is_an_everyday_word_breaks_no_log_row(ready: Project, value: str) -> None:
    # A tenant's number from a variable counts as a secret, but a row of the log must stay what it is.
    ready.spec["api"]["headers"] = {"X-Tenant": "${TENANT}"}
    report = ready.run(env={"TENANT": value})
    assert report["status"] == "delivered"
    (row,) = ready.log_rows()
    information = row["information"]
    assert {"EndpointUrl", "BatchSize", "HttpResponseCode", "DurationMs", "RunId", "BatchId", "Attempt"} <= set(
        information
    )
    assert isinstance(information["DurationMs"], int)
    assert (information["HttpResponseCode"], information["BatchSize"]) == (200, 3)


TOKEN = "Sup3r+geh/e&m<x>Z"
NINE_FORMS = {
    "as it is": TOKEN,
    "json of php": TOKEN.replace("/", "\\/"),
    "json of .net": "".join(c if c.isalnum() else f"\\u{ord(c):04X}" for c in TOKEN),
    "json of go": TOKEN.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
    "html": html.escape(TOKEN),
    "percent, lower case": "".join(f"%{byte:02x}" for byte in TOKEN.encode()),
    "a form": quote_plus(TOKEN),
    "base64": base64.b64encode(f"user:{TOKEN}".encode()).decode(),
    "hexadecimal": TOKEN.encode().hex(),
}


def test_a_token_that_an_api_echoes_in_nine_forms_is_nowhere(ready: Project, api: FaultAPI) -> None:
    """Per record, in refusals of whole calls, and in a redirect; looked for in every table and everything that is shown."""
    ready.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", ((number, "") for number in range(4, len(NINE_FORMS) + 1)))
    ready.spec["api"] |= {"auth": {"bearer": "${S}"}, "headers": {"X-Key": "${S}"}}
    ready.spec["entities"][0]["results"] = {"path": "@", "id": "Id", "accepted": "ok", "reason": "why"}
    said = [{"Id": at, "ok": False, "why": f"token {form} may not"} for at, form in enumerate(NINE_FORMS.values(), 1)]
    api.script("/users", answer(200, said))
    for number, form in enumerate(NINE_FORMS.values()):
        table = f"T{number}"
        ready.users(1, table)
        ready.entity(table)
        body = f"the token {form} is refused"
        status = (400, 422, 500)[number % 3]
        api.script(f"/{table.lower()}", answer(status, body))
    ready.spec["entities"][-1]["endpoint"] = "/moved"
    api.script("/moved", answer(302, "", Location=f"{api.url}/login?token={quote_plus(TOKEN)}"))
    ready.write()
    env = {"S": TOKEN}
    text = shown(ready, "run", "pipelines/sync.yaml", code=1, env=env)
    text += shown(ready, "run", "pipelines/sync.yaml", "--format", "json", "--log-format", "json", code=1, env=env)
    text += shown(ready, "rejects", "pipelines/sync.yaml", "--format", "csv", env=env)
    text += shown(ready, "why", "pipelines/sync.yaml", "Users", "1", "--format", "json", env=env)
    everything = text + stored(ready)
    assert "may not" in everything
    assert "is refused" in everything
    assert "/login" in everything
    # A base64 text of it begins with `user:`, which may stay.
    forms = {**NINE_FORMS, "base64": base64.b64encode(f"user:{TOKEN}".encode()).decode()[8:-4]}
    assert [name for name, form in forms.items() if form in everything] == []
    assert ["Sup3r" in everything, "geh" in everything] == [False, False]


def test_what_a_variable_gave_of_an_endpoint_is_sent_but_stands_nowhere(ready: Project, api: FaultAPI) -> None:
    """`/users?api_key=${S}`: not in EndpointUrl, not in a reason, not in the table of parked endpoints, which still parks."""
    ready.spec["entities"][0]["endpoint"] = "/users?api_key=${S}&v=2"
    sent = f"/users?api_key={quote(TOKEN, safe='+/&')}&v=2"
    api.script(sent, answer(503, "busy", Retry_After="3600"))
    ready.write()
    env = {"S": TOKEN}
    text = shown(ready, "run", "pipelines/sync.yaml", code=1, env=env)
    (request,) = api.requests
    assert request.path == sent
    (row,) = ready.log_rows()
    assert row["information"]["EndpointUrl"] == f"{api.url}/users?api_key=***&v=2"
    text += shown(ready, "run", "pipelines/sync.yaml", env=env)
    assert len(api.requests) == 1, "it is parked"
    text += shown(ready, "plan", "pipelines/sync.yaml", "--preview", "1", env=env)
    text += shown(ready, "retry", "pipelines/sync.yaml", "Users", env=env)
    assert "not parked any more" in text
    shown(ready, "run", "pipelines/sync.yaml", env=env)
    assert len(api.requests) == 2
    assert leaks(text + stored(ready), TOKEN, quote(TOKEN)) == []
    assert "geh" not in text + stored(ready)


def test_a_secret_at_the_end_of_what_is_looked_at_of_an_answer_is_not_shown_by_half(
    ready: Project, api: FaultAPI
) -> None:
    ready.spec["api"]["auth"] = {"bearer": "${S}"}
    ready.spec["api"]["retry"] = {"attempts": 1}
    api.script("/users", answer(500, " " * 65525 + SECRET * 3))
    ready.write()
    text = shown(ready, "run", "pipelines/sync.yaml", code=1, env={"S": SECRET})
    assert "HTTP 500" in stored(ready)
    assert SECRET[:5] not in text + stored(ready)


# OAuth 2


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[FaultAPI]:
    """The same API over TLS; its authority's file is ca.pem in the project."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = FaultAPI(context)
    (tmp_path / "project").mkdir(exist_ok=True)
    authority.cert_pem.write_to_path(str(tmp_path / "project" / "ca.pem"))
    yield server
    server.stop()


def oauth2(project: Project, tls: FaultAPI) -> None:
    project.spec["api"]["base_url"] = tls.url
    project.spec["api"]["verify"] = "ca.pem"
    settings = {"token_url": f"{tls.url}/token", "client_id": "hr", "client_secret": "${S}"}
    project.spec["api"]["auth"] = {"oauth2": settings}
    project.write()


def test_a_token_server_that_echoes_the_client_secret_puts_it_nowhere(ready: Project, tls: FaultAPI) -> None:
    def refuse(handler: Handler, request: Request) -> None:
        body = {"error": "invalid_client", "error_description": f"bad secret {SECRET} {request.body.decode()}"}
        answer(401, body)(handler, request)

    tls.script("/token", refuse)
    oauth2(ready, tls)
    text = shown(ready, "run", "pipelines/sync.yaml", code=1, env={"S": SECRET})
    assert SECRET.encode() in tls.of("/token")[0].body
    assert "invalid_client" in stored(ready)
    assert leaks(text + stored(ready), SECRET) == []


def test_a_fetched_token_is_a_secret_too(ready: Project, tls: FaultAPI) -> None:
    token = "eyJ-fetched-token-0123456789"
    tls.script("/token", answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3600}))
    tls.script("/users", echo(403))
    oauth2(ready, tls)
    text = shown(ready, "run", "pipelines/sync.yaml", code=1, env={"S": SECRET})
    assert tls.of("/users")[0].headers["authorization"] == f"Bearer {token}"
    assert "HTTP 403" in stored(ready)
    assert leaks(text + stored(ready), token, SECRET) == []


def test_a_token_that_a_worker_fetched_is_not_in_what_it_reports(ready: Project, tls: FaultAPI) -> None:
    """Only the worker knows it; the reasons of its first rejects are shown by the process that started it."""
    token = "eyJ-fetched-token-0123456789"
    tls.script("/token", answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3600}))
    said = [{"Id": number, "ok": False, "why": f"token {token} may not write"} for number in (1, 2, 3)]

    def refuse(handler: Handler, request: Request) -> None:
        sent = {record["Id"] for record in request.records}
        answer(200, [entry for entry in said if entry["Id"] in sent])(handler, request)

    tls.script("/users", refuse)
    ready.spec["entities"][0] |= {
        "results": {"path": "@", "id": "Id", "accepted": "ok", "reason": "why"},
        "partitions": 2,
    }
    oauth2(ready, tls)
    text = shown(ready, "run", "pipelines/sync.yaml", "--workers", "2", code=1, env={"S": SECRET})
    assert "may not write" in text
    assert leaks(text + stored(ready), token, SECRET) == []


# Not a secret


def test_server_database_and_file_names_may_be_shown(ready: Project) -> None:
    ready.spec["connections"]["default"] = "sqlite:///nowhere/named.db"
    ready.write()
    assert "named.db" in shown(ready, "run", "pipelines/sync.yaml", code=4)
