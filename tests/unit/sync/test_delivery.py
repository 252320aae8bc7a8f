"""What becomes of records when the network or the API misbehaves: counts, exit codes, log rows, tracking, the next run."""

from __future__ import annotations

import getpass
import json
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.faultapi import Behaviour, FaultAPI, Request, answer, cut, drip, reset, slow, slow_headers, when
from tests.project import Project, check_sums
from tests.trust import Trust


@pytest.fixture
def trust(project: Project) -> Iterator[Trust]:
    made = Trust(project)
    yield made
    for server in made.servers:
        server.stop()


@pytest.fixture
def dead() -> Iterator[str]:
    """An address that refuses connections; it is bound, so that nobody else listens there meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def settings(project: Project, **changed: Any) -> None:
    project.spec["api"].update(changed)


def many(project: Project, api: FaultAPI, scripts: dict[str, list[Behaviour]], count: int = 2, **keys: Any) -> None:
    """One entity for each script, each with its own path and table."""
    for name, behaviours in scripts.items():
        project.users(count, table=name)
        project.entity(name, **keys)
        api.script(f"/{name.lower()}", *behaviours)


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    check_sums(report)
    for entity in report["entities"]:
        assert entity["error"] is None or isinstance(entity["error"], str)
    return {entity["name"]: entity for entity in report["entities"]}


def ids(requests: list[Request]) -> list[int]:
    return [record["Id"] for request in requests for record in request.records]


def keys(requests: list[Request]) -> list[str]:
    return [request.headers["idempotency-key"] for request in requests]


# No connection


@pytest.mark.parametrize("kind", ["refused", "no such name"])
def test_without_a_connection_every_attempt_is_logged_and_the_next_run_delivers(
    project: Project, api: FaultAPI, dead: str, kind: str
) -> None:
    settings(project, base_url=dead if kind == "refused" else "http://no-such-host.invalid")
    project.spec["api"]["retry"]["attempts"] = 3
    project.users(3)
    project.entity()
    users = by_name(project.run(code=1))["Users"]
    assert (users["failed"], users["in_doubt"], users["calls"]) == (3, 0, 3)
    rows = project.log_rows()
    assert [row["status"] for row in rows] == ["Failure"] * 3
    assert [row["information"]["HttpResponseCode"] for row in rows] == [None] * 3
    assert [row["information"]["Attempt"] for row in rows] == [1, 2, 3]
    word = "refused" if kind == "refused" else "DNS failure"
    other = "DNS failure" if kind == "refused" else "refused"
    for said in [*(row["exception"] for row in rows), users["error"]]:
        assert word in said
        assert other not in said
    assert project.tracked() == []
    settings(project, base_url=api.url)
    assert by_name(project.run())["Users"]["accepted"] == 3


def test_a_server_that_nobody_vouches_for_gets_nothing_until_verify_names_its_authority(
    project: Project, trust: Trust
) -> None:
    server = trust.server()
    settings(project, base_url=server.url)
    project.users(2)
    project.entity()
    users = by_name(project.run(code=1))["Users"]
    assert (users["failed"], users["in_doubt"]) == (2, 0)
    assert all("TLS failure" in row["exception"] for row in project.log_rows())
    assert server.requests == []
    settings(project, verify="ca.pem")
    assert by_name(project.run())["Users"]["accepted"] == 2
    assert ids(server.of("/users")) == [1, 2]


@pytest.mark.parametrize("apart", [True, False])
def test_a_client_certificate_is_shown_to_a_server_that_asks(project: Project, trust: Trust, apart: bool) -> None:
    server = trust.server(ask=True, newest=False)
    settings(project, base_url=server.url, verify="ca.pem")
    project.users(2)
    project.entity()
    users = by_name(project.run(code=1))["Users"]
    assert (users["failed"], users["accepted"]) == (2, 0)
    assert server.requests == []
    issued = trust.authority.issue_cert("client@example.org")
    if apart:
        issued.cert_chain_pems[0].write_to_path(str(project.folder / "client.pem"))
        issued.private_key_pem.write_to_path(str(project.folder / "client.key"))
        settings(project, cert="client.pem", cert_key="client.key")
    else:
        issued.private_key_and_cert_chain_pem.write_to_path(str(project.folder / "client.pem"))
        settings(project, cert="client.pem")
    assert by_name(project.run())["Users"]["accepted"] == 2


# Refusals


def test_a_redirect_is_a_failure_and_is_not_followed(project: Project, api: FaultAPI) -> None:
    away = {status: [answer(status, b"", Location=f"{api.url}/away")] for status in (301, 302, 303, 307, 308)}
    many(project, api, {f"S{status}": behaviours for status, behaviours in away.items()})
    found = by_name(project.run(code=1))
    assert {name: entity["failed"] for name, entity in found.items()} == dict.fromkeys(found, 2)
    assert api.of("/away") == []
    assert {request.method for request in api.requests} == {"POST"}
    assert f"301 Moved Permanently to {api.url}/away" in found["S301"]["error"]
    assert project.tracked("S301") == []


def test_a_refused_batch_fails_alone_and_the_next_run_offers_it_again(project: Project, api: FaultAPI) -> None:
    bad = {402: 1, 410: 1, 414: 1, 418: 1, 423: 1, 431: 1, 501: 1, 505: 1}
    refusing = {
        f"S{status}": [when(lambda request: 3 in ids([request]), answer(status, f"no {status}"))] for status in bad
    }
    many(project, api, refusing, count=5, batch_size=2)
    found = by_name(project.run(code=1))
    for status, calls in bad.items():
        entity = found[f"S{status}"]
        assert (entity["accepted"], entity["failed"], entity["in_doubt"]) == (3, 2, 0), entity
        assert entity["calls"] == 2 + calls
        assert f"no {status}" in entity["error"]
        assert project.tracked(f"S{status}") == ["1", "2", "5"]
        rows = project.log_rows(f"S{status}")
        assert [row["information"]["HttpResponseCode"] for row in rows] == [200, status, 200]
        assert f"HTTP {status}" in rows[1]["exception"]
    for name in found:
        api.script(f"/{name.lower()}", answer())
    again = by_name(project.run())
    assert {name: entity["accepted"] for name, entity in again.items()} == dict.fromkeys(again, 2)
    assert ids(api.of("/s410"))[-2:] == [3, 4]


def test_an_answer_that_closes_an_endpoint_leaves_it_for_the_run_and_others_go_on(
    project: Project, api: FaultAPI
) -> None:
    closing_ = {f"S{status}": [answer(), answer(status, b"away")] for status in (401, 403, 404, 405)}
    many(project, api, {**closing_, "Good": [answer()]}, count=9, batch_size=2)
    found = by_name(project.run(code=1))
    for status in (401, 403, 404, 405):
        entity = found[f"S{status}"]
        assert (entity["accepted"], entity["calls"]) == (2, 2), entity
        assert entity["failed"] >= 2
        assert f"HTTP {status}" in entity["error"]
        assert "left for this run" in entity["error"]
    assert found["Good"]["accepted"] == 9
    for status in (401, 403, 404, 405):
        api.script(f"/s{status}", answer())
    again = by_name(project.run())
    assert {entity["accepted"] for name, entity in again.items() if name != "Good"} == {7}


# Waiting and attempting again


def test_retry_after_is_honoured_in_both_forms(project: Project, api: FaultAPI) -> None:
    def at(handler: Any, request: Request) -> None:
        moment = datetime.now(UTC) + timedelta(seconds=2)
        answer(503, b"", Retry_After=format_datetime(moment, usegmt=True))(handler, request)

    project.spec["api"]["retry"]["max_wait"] = "10s"
    many(project, api, {"Seconds": [answer(429, b"", Retry_After="1"), answer()], "Moment": [at, answer()]})
    found = by_name(project.run())
    assert (found["Seconds"]["accepted"], found["Moment"]["accepted"]) == (2, 2)
    first, second = api.of("/seconds")
    assert 1.0 <= second.time - first.time < 4
    first, second = api.of("/moment")
    # A date has whole seconds: 2 s from now is more than 1 s away.
    assert 1.0 <= second.time - first.time < 6
    assert keys(api.of("/moment"))[0] == keys(api.of("/moment"))[1]


def test_a_retry_after_longer_than_max_wait_gives_the_endpoint_up_at_once(project: Project, api: FaultAPI) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    many(
        project,
        api,
        {
            "Seconds": [answer(429, b"", Retry_After="3600")],
            "Moment": [answer(503, b"", Retry_After=later)],
            "Ages": [answer(429, b"", Retry_After="9" * 400)],
            "Good": [answer()],
        },
        count=4,
        batch_size=2,
    )
    report = project.run(code=1)
    found = by_name(report)
    assert report["seconds"] < 10
    for name in ("Seconds", "Moment", "Ages"):
        assert (found[name]["calls"], found[name]["accepted"], found[name]["in_doubt"]) == (1, 0, 0)
        assert "longer than max_wait" in found[name]["error"]
    assert found["Good"]["accepted"] == 4


def test_an_unreadable_retry_after_does_not_stop_the_run(project: Project, api: FaultAPI) -> None:
    odd = ["soon", "-1", "1.5", "1 Jan 2024 00:00:00 +99999999999999999999"]
    many(
        project,
        api,
        {f"Odd{at}": [answer(429, b"", Retry_After=text), answer()] for at, text in enumerate(odd)},
        count=1,
    )
    found = by_name(project.run())
    assert [entity["accepted"] for entity in found.values()] == [1] * len(odd)


FAULTS: dict[str, Behaviour] = {
    "S500": answer(500, b"broken"),
    "S502": answer(502, b""),
    "S504": answer(504, b""),
    "Cut": cut(),
    "Reset": reset(),
    "Drip": drip(),
    "Headers": slow_headers(),
    "Silent": slow(3),
}


def test_a_doubtful_attempt_is_repeated_with_the_same_key_and_bytes(project: Project, api: FaultAPI) -> None:
    settings(project, timeout="500ms")
    many(project, api, {name: [fault, answer()] for name, fault in FAULTS.items()})
    report = project.run()
    assert report["status"] == "delivered"
    for name, entity in by_name(report).items():
        assert (entity["accepted"], entity["calls"], entity["batches"]) == (2, 2, 1), name
        first, second = api.of(f"/{name.lower()}")
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
        assert first.body == second.body
        rows = project.log_rows(name)
        assert [row["status"] for row in rows] == ["Failure", "Success"], name
        assert [row["information"]["Attempt"] for row in rows] == [1, 2]
        assert len({row["information"]["BatchId"] for row in rows}) == 1
        assert rows[0]["exception"]
        assert rows[1]["exception"] is None


def test_a_batch_that_stays_in_doubt_is_not_tracked_and_ends_by_the_deadline(project: Project, api: FaultAPI) -> None:
    settings(project, timeout="500ms")
    many(project, api, {name: [fault] for name, fault in FAULTS.items()})
    report = project.run(code=1)
    assert report["status"] == "incomplete"
    for name, entity in by_name(report).items():
        assert (entity["in_doubt"], entity["failed"], entity["accepted"], entity["calls"]) == (2, 0, 0, 2), name
        assert entity["seconds"] < 2 * 0.5 + 2, name
        assert entity["error"]
        assert project.tracked(name) == []
    for name in ("Drip", "Headers", "Silent"):
        assert all("no whole answer within 0.5 s" in row["exception"] for row in project.log_rows(name))
    for name in FAULTS:
        api.script(f"/{name.lower()}", answer())
    again = by_name(project.run())
    assert {entity["settled"] for entity in again.values()} == {2}


@pytest.mark.parametrize("reason", [{"idempotency_header": None}, {"in_doubt": "hold"}])
def test_a_doubtful_attempt_is_not_repeated_without_a_key_or_on_hold(
    project: Project, api: FaultAPI, reason: dict[str, Any]
) -> None:
    settings(project, timeout="500ms", **reason)
    doubtful = {name: [fault, answer()] for name, fault in FAULTS.items() if name in ("S500", "Reset", "Silent", "Cut")}
    sure = {"S503": [answer(503), answer()], "S429": [answer(429), answer()]}
    many(project, api, {**doubtful, **sure})
    found = by_name(project.run(code=1))
    for name in doubtful:
        assert (found[name]["in_doubt"], found[name]["calls"]) == (2, 1), name
        assert project.tracked(name) == []
    for name in sure:
        assert (found[name]["accepted"], found[name]["calls"]) == (2, 2), name


def test_a_batch_that_always_fails_spares_the_other_batches_and_entities(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["retry"]["attempts"] = 3
    project.users(5)
    project.users(2, table="Orgs")
    project.entity(batch_size=2)
    project.entity("Orgs")
    api.script("/users", when(lambda request: 3 in ids([request]), answer(503, b"busy")))
    report = project.run(code=1)
    found = by_name(report)
    users = found["Users"]
    assert (users["accepted"], users["failed"], users["in_doubt"], users["calls"]) == (3, 2, 0, 5)
    assert found["Orgs"]["accepted"] == 2
    assert project.tracked() == ["1", "2", "5"]
    codes = [row["information"]["HttpResponseCode"] for row in project.log_rows()]
    assert codes == [200, 503, 503, 503, 200]
    assert len(set(keys(api.of("/users")))) == 3
    api.script("/users", answer())
    assert by_name(project.run())["Users"]["accepted"] == 2
    assert ids(api.of("/users"))[-2:] == [3, 4]


def test_a_refusal_after_a_doubtful_attempt_decides_it_only_with_a_key(project: Project, api: FaultAPI) -> None:
    many(project, api, {"Decided": [answer(500), answer(410)], "Open": [answer(500), answer(503)]})
    found = by_name(project.run(code=1))
    assert (found["Decided"]["failed"], found["Decided"]["in_doubt"]) == (2, 0)
    assert (found["Open"]["failed"], found["Open"]["in_doubt"]) == (0, 2)


# On the wire


def test_a_request_is_as_the_spec_says(project: Project, api: FaultAPI) -> None:
    settings(
        project, base_url=f"{api.url}/api/", gzip=True, headers={"X-Tenant": "hr"}, idempotency_header="X-Request-Key"
    )
    for name, method in (("A", "POST"), ("B", "PUT"), ("C", "PATCH")):
        project.users(3, table=name)
        project.entity(name, method=method, endpoint=f"{name}/all?x=1", body={"wrap": "items"}, batch_size=2)
    project.run()
    for name, method in (("A", "POST"), ("B", "PUT"), ("C", "PATCH")):
        first, second = api.of(f"/api/{name}/all?x=1")
        assert (first.method, second.method) == (method, method)
        assert first.headers["x-tenant"] == "hr"
        assert first.headers["content-encoding"] == "gzip"
        assert first.headers["content-type"] == "application/json"
        assert first.records == [{"Id": 1, "Name": "name 1"}, {"Id": 2, "Name": "name 2"}]
        assert "idempotency-key" not in first.headers
    made = [request.headers["x-request-key"] for request in api.requests]
    assert len(set(made)) == 6


def test_a_wrapped_body_is_one_object_with_one_key(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity(body={"wrap": 'it"em s'})
    project.run()
    assert json.loads(api.requests[0].body) == {'it"em s': [{"Id": 1, "Name": "name 1"}]}


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ({"bearer": "t0p-secret"}, "authorization", "Bearer t0p-secret"),
        ({"basic": {"user": "hr", "password": "t0p-secret"}}, "authorization", "Basic aHI6dDBwLXNlY3JldA=="),
        ({"header": {"name": "X-Api-Key", "value": "t0p-secret"}}, "x-api-key", "t0p-secret"),
    ],
)
def test_credentials_are_sent_and_never_written_even_when_the_api_repeats_them(
    project: Project, api: FaultAPI, auth: dict[str, Any], name: str, value: str
) -> None:
    def repeat(handler: Any, request: Request) -> None:
        answer(400, f"not you: {request.headers[name]}")(handler, request)

    settings(project, auth=auth)
    project.users(2)
    project.entity()
    api.script("/users", repeat)
    file = project.write()
    finished = project.cli("run", file, "--format", "json")
    assert finished.returncode == 1
    assert api.requests[0].headers[name] == value
    assert "not you" in project.log_rows()[0]["exception"]
    dump = everything(project) + finished.stdout + finished.stderr
    for secret in ("t0p-secret", "aHI6dDBwLXNlY3JldA=="):
        assert secret not in dump


def everything(project: Project) -> str:
    """The whole ledger as text."""
    with closing(sqlite3.connect(project.folder / "log.db")) as connection:
        return "\n".join(connection.iterdump())


def test_netrc_and_proxies_of_the_environment_are_ignored(project: Project, api: FaultAPI, dead: str) -> None:
    netrc = project.folder / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    environment = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), dead)
    environment |= {"HOME": str(project.folder), "NETRC": str(netrc), "NO_PROXY": "", "no_proxy": ""}
    settings(project, auth={"bearer": "mine"})
    project.users(1)
    project.entity()
    project.run(env=environment)
    assert api.requests[0].headers["authorization"] == "Bearer mine"
    del project.spec["api"]["auth"]
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(2, "new")])
    project.run(env=environment)
    assert "authorization" not in api.requests[1].headers


def test_the_proxy_of_the_spec_carries_every_call(project: Project, api: FaultAPI) -> None:
    settings(project, base_url="http://api.invalid/v1", proxy=api.url)
    project.users(2)
    project.entity()
    project.run()
    (request,) = api.requests
    assert (request.method, request.path) == ("POST", "http://api.invalid/v1/users")
    assert project.tracked() == ["1", "2"]


# OAuth 2


SECRET = "cl13nt-s3cret-value"


def token(name: str = "tok-1", **more: Any) -> Behaviour:
    return answer(200, {"access_token": name, "token_type": "Bearer", **more}, Content_Type="application/json")


@pytest.fixture
def oauth(project: Project, trust: Trust) -> FaultAPI:
    """A server for tokens and records, and a project that uses it."""
    server = trust.server()
    auth = {"token_url": f"{server.url}/token", "client_id": "hr", "client_secret": SECRET, "scope": "write"}
    settings(project, base_url=server.url, verify="ca.pem", auth={"oauth2": auth})
    return server


def test_a_token_is_fetched_once_and_used_by_every_call(project: Project, oauth: FaultAPI) -> None:
    oauth.script("/token", token(expires_in=3600))
    many(project, oauth, {"A": [answer()], "B": [answer()]}, count=4, batch_size=2)
    project.run()
    (asked,) = oauth.of("/token")
    assert b"grant_type=client_credentials" in asked.body
    assert b"scope=write" in asked.body
    assert SECRET.encode() in asked.body or "authorization" in asked.headers
    sent = oauth.of("/a") + oauth.of("/b")
    assert [request.headers["authorization"] for request in sent] == ["Bearer tok-1"] * 4


def test_a_token_near_its_end_is_fetched_anew(project: Project, oauth: FaultAPI) -> None:
    oauth.script("/token", token("tok-1", expires_in=5), token("tok-2", expires_in=3600))
    many(project, oauth, {"A": [answer()]}, count=6, batch_size=2)
    project.run()
    assert len(oauth.of("/token")) == 2
    made = [request.headers["authorization"] for request in oauth.of("/a")]
    assert made == ["Bearer tok-1", "Bearer tok-2", "Bearer tok-2"]


def test_a_token_that_is_refused_is_renewed_once_for_the_batch(project: Project, oauth: FaultAPI) -> None:
    oauth.script("/token", token("tok-1"), token("tok-2"), token("tok-3"))
    refuse = when(lambda request: request.headers["authorization"] == "Bearer tok-1", answer(401, b"expired"))
    many(project, oauth, {"A": [refuse], "B": [answer(401, b"never")]}, count=2)
    found = by_name(project.run(code=1))
    assert (found["A"]["accepted"], found["A"]["calls"]) == (2, 2)
    assert [row["information"]["HttpResponseCode"] for row in project.log_rows("A")] == [401, 200]
    assert len(set(keys(oauth.of("/a")))) == 1
    assert (found["B"]["failed"], found["B"]["calls"]) == (2, 2)
    assert len(oauth.of("/token")) == 3


@pytest.mark.parametrize(
    "refusal",
    [
        answer(401, {"error": "invalid_client", "error_description": f"bad secret {SECRET}"}),
        answer(500, "<html>oops</html>", Content_Type="text/html"),
        answer(200, "<html>log in</html>", Content_Type="text/html"),
        answer(200, {"token_type": "Bearer"}),
        answer(200, {"access_token": "tok-1", "token_type": "Bearer", "expires_in": "soon"}),
        reset(),
        cut(),
    ],
    ids=["refused", "html 500", "html 200", "no token", "odd lifetime", "reset", "cut"],
)
def test_without_a_token_the_batch_fails_with_a_clear_error_and_nothing_is_sent(
    project: Project, oauth: FaultAPI, refusal: Behaviour
) -> None:
    oauth.script("/token", refusal)
    project.users(2)
    project.entity()
    file = project.write()
    finished = project.cli("run", file, "--format", "json")
    assert finished.returncode == 1, finished.stderr
    users = by_name(json.loads(finished.stdout))["Users"]
    assert (users["failed"], users["in_doubt"], users["accepted"]) == (2, 0, 0)
    assert f"no token from {oauth.url}/token" in users["error"]
    assert oauth.of("/users") == []
    assert SECRET not in finished.stdout + finished.stderr + everything(project)
    oauth.script("/token", token())
    assert by_name(project.run())["Users"]["accepted"] == 2


def test_a_token_that_the_api_repeats_is_not_written(project: Project, oauth: FaultAPI) -> None:
    def repeat(handler: Any, request: Request) -> None:
        answer(400, f"not you: {request.headers['authorization']}")(handler, request)

    oauth.script("/token", token("fetched-t0ken-value"))
    oauth.script("/users", repeat)
    project.users(1)
    project.entity()
    report = project.run(code=1)
    assert oauth.of("/users")[0].headers["authorization"] == "Bearer fetched-t0ken-value"
    assert "fetched-t0ken-value" not in everything(project) + json.dumps(report)


def test_a_token_endpoint_that_drips_ends_every_waiting_call_by_its_deadline(project: Project, oauth: FaultAPI) -> None:
    settings(project, timeout="500ms", in_flight=3)
    oauth.script("/token", drip())
    project.users(3)
    project.entity(batch_size=1)
    file = project.write()
    finishing = project.popen("run", file, "--format", "json")
    try:
        # 3 batches of 2 attempts, one token at a time: 3 s at most.
        out, _ = finishing.communicate(timeout=12)
    finally:
        finishing.kill()
        finishing.wait()
    users = by_name(json.loads(out))["Users"]
    assert (users["failed"], users["in_doubt"]) == (3, 0)
    assert oauth.of("/users") == []


# Several at once


def test_in_flight_4_overlaps_calls_and_every_record_arrives_once(project: Project, api: FaultAPI) -> None:
    together = threading.Barrier(4)

    def meet(handler: Any, request: Request) -> None:
        try:
            together.wait(10)
        except threading.BrokenBarrierError:
            answer(400, b"alone")(handler, request)
        else:
            answer()(handler, request)

    settings(project, in_flight=4, timeout="20s")
    project.users(40)
    project.entity(batch_size=5)
    api.script("/users", meet)
    users = by_name(project.run())["Users"]
    assert (users["accepted"], users["batches"], users["calls"]) == (40, 8, 8)
    assert sorted(ids(api.of("/users"))) == list(range(1, 41))
    assert len(set(keys(api.of("/users")))) == 8
    assert sorted(map(int, project.tracked())) == list(range(1, 41))


def test_failures_among_calls_in_flight_stay_with_their_batches(project: Project, api: FaultAPI) -> None:
    settings(project, in_flight=4)
    project.users(40)
    project.entity(batch_size=2)
    api.script(
        "/users",
        when(
            lambda request: ids([request])[0] % 8 == 1,
            answer(503),
            when(lambda request: ids([request])[0] % 8 == 3, answer(500), slow(0.02)),
        ),
    )
    users = by_name(project.run(code=1))["Users"]
    assert (users["accepted"], users["failed"], users["in_doubt"], users["calls"]) == (20, 10, 10, 30)
    assert all(int(id_) % 8 in (5, 6, 7, 0) for id_ in project.tracked())


# The log


def test_a_log_row_is_exactly_as_the_replaced_job_has_it(project: Project, api: FaultAPI) -> None:
    project.spec["ledger"] = {"connection": "log", "application": "TAMHR"}
    api.script("/users", slow(0.05, answer(500, b"oops")), answer(201, b""))
    project.users(2)
    project.entity()
    before = datetime.now(UTC).replace(tzinfo=None)
    report = project.run()
    after = datetime.now(UTC).replace(tzinfo=None)
    columns = [row[1] for row in project.ledger("PRAGMA table_info(SchedulerLog)")]
    assert columns == [
        "ID",
        "ApplicationName",
        "LogID",
        "LogCategory",
        "Activity",
        "ApplicationModule",
        "IPHostName",
        "Status",
        "AdditionalInformation",
        "CreatedBy",
        "CreatedOn",
        "ModifiedBy",
        "ModifiedOn",
        "RowStatus",
        "ExceptionMessage",
    ]
    rows = [dict(zip(columns, row, strict=True)) for row in project.ledger("SELECT * FROM SchedulerLog ORDER BY rowid")]
    assert len(rows) == 2
    assert len({row["ID"] for row in rows}) == 2
    for number, row in enumerate(rows, 1):
        assert str(uuid.UUID(row.pop("ID")))
        created = datetime.fromisoformat(row.pop("CreatedOn"))
        assert before - timedelta(seconds=1) <= created <= after + timedelta(seconds=1)
        information = json.loads(row.pop("AdditionalInformation"))
        assert list(information)[:7] == [
            "EndpointUrl", "BatchSize", "HttpResponseCode", "DurationMs", "RunId", "BatchId", "Attempt",
        ]  # fmt: skip
        assert information["EndpointUrl"] == f"{api.url}/users"
        assert (information["BatchSize"], information["Attempt"]) == (2, number)
        assert information["HttpResponseCode"] == (500 if number == 1 else 201)
        assert information["DurationMs"] >= (50 if number == 1 else 0)
        assert information["RunId"] == report["run_id"]
        exception = row.pop("ExceptionMessage")
        assert (exception == "HTTP 500 Internal Server Error: oops") if number == 1 else exception is None
        assert row == {
            "ApplicationName": "TAMHR", "LogID": report["run_id"], "LogCategory": "Sync",
            "Activity": "Sync Batch: Users", "ApplicationModule": "Users", "IPHostName": socket.gethostname(),
            "Status": "Failure" if number == 1 else "Success", "CreatedBy": getpass.getuser(),
            "ModifiedBy": None, "ModifiedOn": None, "RowStatus": 1,
        }  # fmt: skip
    assert report["entities"][0]["calls"] == 2


# Verdicts


RESULTS = {"path": "items", "id": "Id", "accepted": "status == 'ok'", "reason": "error"}


def items(*entries: tuple[Any, str, str | None]) -> Behaviour:
    return answer(207, {"items": [{"Id": id_, "status": status, "error": error} for id_, status, error in entries]})


def test_each_record_gets_the_verdict_of_the_answer(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity(results=RESULTS, reject_delay="0s")
    api.script("/users", items((1, "ok", None), (2, "no", "no such post"), ("3", "ok", None)), answer(500))
    users = by_name(project.run(code=1))["Users"]
    assert (users["accepted"], users["rejected"], users["in_doubt"], users["calls"]) == (2, 1, 1, 1)
    assert project.tracked() == ["1", "3"]
    rows = project.ledger("SELECT EntityId, State, Reason, HttpResponseCode FROM TB_R_SYNC_REJECT")
    assert rows == [("2", "rejected", "no such post", 207)]
    assert project.log_rows()[0]["status"] == "Success"
    # The next run offers what was not accepted, under a new key.
    api.script("/users", items((2, "ok", None), (4, "ok", None)))
    assert by_name(project.run())["Users"]["accepted"] == 2
    assert ids(api.of("/users"))[-2:] == [2, 4]
    assert len(set(keys(api.of("/users")))) == 2


UNREADABLE: dict[str, Behaviour] = {
    "Html": answer(200, "<html>welcome</html>", Content_Type="text/html"),
    "Empty": answer(200, b""),
    "NoContent": answer(204, b""),
    "Elsewhere": answer(200, {"data": []}),
    "NoEntry": answer(200, {"items": []}),
    "NullItems": answer(200, {"items": None}),
    "Word": answer(200, {"items": "ok"}),
    "Bytes": answer(200, b"\xff\xfe\x00"),
    "Scalars": answer(200, {"items": [1, "2", None, []]}),
    "Strangers": items((98, "ok", None), (99, "no", "bad")),
}


def test_an_answer_that_names_no_record_accepts_none(project: Project, api: FaultAPI) -> None:
    many(project, api, {name: [behaviour] for name, behaviour in UNREADABLE.items()}, results=RESULTS)
    found = by_name(project.run(code=1))
    for name, entity in found.items():
        assert (entity["accepted"], entity["rejected"], entity["in_doubt"]) == (0, 0, 2), name
        assert entity["error"], name
        assert entity["calls"] == 1, "it was answered: the same key would only bring the same answer"
        assert project.tracked(name) == []
        assert project.rejects(name) == {}


def test_foreign_and_repeated_ids_count_no_record_twice(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity(results=RESULTS)
    api.script(
        "/users",
        items((1, "ok", None), (1, "ok", None), (77, "ok", None), (2, "no", "x"), (2, "no", "y"), (None, "ok", None)),
    )
    users = by_name(project.run(code=1))["Users"]
    assert (users["accepted"], users["rejected"], users["in_doubt"]) == (1, 1, 1)
    assert project.tracked() == ["1"]
    assert project.rejects() == {"2": "x"}


def test_a_verdict_that_cannot_be_read_is_unknown_and_no_rejection(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity(results={**RESULTS, "accepted": "starts_with(status, 'ok')"})
    api.script("/users", answer(200, {"items": [{"Id": 1, "status": "ok!"}, {"Id": 2, "status": 7}]}))
    users = by_name(project.run(code=1))["Users"]
    assert (users["accepted"], users["rejected"], users["in_doubt"]) == (1, 0, 1)


def test_guids_and_composite_ids_of_an_answer_are_compared_in_their_canonical_form(
    project: Project, api: FaultAPI
) -> None:
    guid = "0a1b2c3d-0000-4000-8000-00000000000a"
    project.fill("Guids", "Id TEXT PRIMARY KEY", [(guid,)])
    project.fill("Pairs", "A TEXT, B INTEGER", [("x", 1), ("y", 2)])
    project.entity("Guids", results=RESULTS)
    project.entity("Pairs", id=["A", "B"], results={**RESULTS, "id": "[A, B]"})
    api.script("/guids", items((guid.upper(), "ok", None)))
    api.script("/pairs", answer(200, {"items": [{"A": "y", "B": "2", "status": "ok"}, {"A": "x", "B": 1}]}))
    found = by_name(project.run(code=1))
    assert found["Guids"]["accepted"] == 1
    assert project.tracked("Guids") == [guid]
    assert (found["Pairs"]["accepted"], found["Pairs"]["rejected"]) == (1, 1)
    assert project.tracked("Pairs") == ['["y","2"]']


def test_a_rejected_record_that_is_accepted_later_is_rejected_no_more(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity(results=RESULTS, reject_delay="0s")
    api.script("/users", items((1, "no", "later")), items((1, "no", "still not")), items((1, "ok", None)))
    project.run(code=1)
    project.run(code=1)
    assert project.ledger("SELECT Reason, Attempts FROM TB_R_SYNC_REJECT") == [("still not", 2)]
    assert project.run()["status"] == "delivered"
    assert project.tracked() == ["1"]


def test_time_of_a_run_is_that_of_the_calls_not_of_the_waits_of_others(project: Project, api: FaultAPI) -> None:
    settings(project, in_flight=8)
    project.users(8)
    project.entity(batch_size=1)
    api.script("/users", slow(0.5))
    began = time.monotonic()
    report = project.run()
    assert time.monotonic() - began < 8 * 0.5 + 1
    assert by_name(report)["Users"]["seconds"] < 4 * 0.5
