"""`validate --connect --api`: the credentials are tried with a request that stores nothing."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.faultapi import FaultAPI, answer
from tests.inprocess import Engine
from tests.project import Project


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def ready(project: Project) -> Project:
    """A project with one record, a token, and a request to try it with."""
    project.users(1)
    project.entity()
    project.spec["api"].update(auth={"bearer": "tok-5ecret"}, check="GET /health", gzip=True)
    return project


def test_a_token_that_the_api_takes_is_said(ready: Project, engine: Engine, api: FaultAPI) -> None:
    """One GET without a body and without a key, with the credentials; nothing else reaches the API."""
    engine("validate", ready.write(), "--connect", "--api")
    (request,) = api.requests
    assert (request.method, request.path, request.body) == ("GET", "/health", b"")
    assert request.headers["authorization"] == "Bearer tok-5ecret"
    assert "idempotency-key" not in request.headers
    assert f"sync: GET {api.url}/health was answered with 200" in engine.err


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_the_api_refuses_is_an_error(ready: Project, engine: Engine, api: FaultAPI, status: int) -> None:
    api.script("/health", answer(status))
    found = engine.json("validate", ready.write(), "--api", code=2)["problems"]
    (problem,) = [problem for problem in found if problem["severity"] == "error"]
    assert f"was answered with {status}: the API refuses these credentials" in problem["message"]
    assert "bearer" in ready.file.read_text().splitlines()[problem["line"] - 1]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_another_answer_says_nothing_of_the_token_and_is_a_warning(
    ready: Project, engine: Engine, api: FaultAPI, status: int
) -> None:
    api.script("/health", answer(status))
    assert "warning" in engine("validate", ready.write(), "--api")
    assert f"{status}, which says nothing of the credentials" in engine.out


def test_an_api_that_is_away_ends_with_4(ready: Project, engine: Engine) -> None:
    ready.spec["api"]["base_url"] = "http://127.0.0.1:9"
    assert "no answer: " in engine("validate", ready.write(), "--api", code=4)


def test_without_a_request_to_try_it_is_said_what_to_add(ready: Project, engine: Engine, api: FaultAPI) -> None:
    del ready.spec["api"]["check"]
    assert "for example `check: GET /health` under `api`" in engine("validate", ready.write(), "--api")
    assert api.requests == []


@pytest.mark.parametrize("text", ["POST /health", "GET health", "GET", "get /health"])
def test_only_requests_that_store_nothing_can_be_named(ready: Project, engine: Engine, text: str) -> None:
    ready.spec["api"]["check"] = text
    assert "'check' is" in engine("validate", ready.write(), code=2)


@pytest.fixture
def tokens(tmp_path: Path, ready: Project) -> Iterator[FaultAPI]:
    """An API over TLS that also gives tokens."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = FaultAPI(context)
    authority.cert_pem.write_to_path(str(ready.folder / "ca.pem"))
    oauth2 = {"token_url": f"{server.url}/token", "client_id": "hr", "client_secret": "s3cret-of-hr"}
    ready.spec["api"].update(base_url=server.url, verify="ca.pem", auth={"oauth2": oauth2})
    yield server
    server.stop()


def test_a_token_is_fetched_even_where_there_is_no_request_to_try_it_with(
    ready: Project, engine: Engine, tokens: FaultAPI
) -> None:
    """A wrong client secret is found; with the right one only the request is missing."""
    del ready.spec["api"]["check"]
    tokens.script(
        "/token", answer(401, {"error": "invalid_client"}), answer(200, {"access_token": "t", "token_type": "Bearer"})
    )
    assert "invalid_client" in engine("validate", ready.write(), "--api", code=2)
    assert "warning: the API was not tried" in engine("validate", ready.file, "--api")
    assert len(tokens.of("/token")) == 2


def test_a_token_server_that_is_away_ends_with_4(ready: Project, engine: Engine, tokens: FaultAPI) -> None:
    ready.spec["api"]["auth"]["oauth2"]["token_url"] = "https://127.0.0.1:9/token"
    assert "no token from https://127.0.0.1:9/token" in engine("validate", ready.write(), "--api", code=4)


@pytest.mark.parametrize("token", [None, "", "  ", 7])
def test_a_token_server_that_gives_no_token_is_an_error(
    ready: Project, engine: Engine, tokens: FaultAPI, token: object
) -> None:
    """`"access_token": null` never becomes the header `Bearer None`."""
    tokens.script("/token", answer(200, {"access_token": token, "token_type": "Bearer"}))
    assert "no token from" in engine("validate", ready.write(), "--api", code=2)
    assert tokens.of("/health") == []
