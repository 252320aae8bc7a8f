"""What a token endpoint may answer: nobody follows it elsewhere, waits for it too long, or sends what is no token."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine.http.session import Answer, NoAnswer
from engine.http.settings import OAuth2
from tests.faultapi import FaultAPI, answer
from tests.project import Project
from tests.rawapi import END, RawAPI, whole
from tests.trust import Trust
from tests.unit.http.test_session import SLACK, calling

SECRET = "cl13nt-s3cret-value"


@pytest.fixture
def raw() -> Iterator[RawAPI]:
    """A server for tokens (/token) and records."""
    server = RawAPI()
    yield server
    server.stop()


@pytest.fixture
def tls(project: Project) -> Iterator[FaultAPI]:
    """The same over TLS, where a spec's `token_url` must be, and a project that uses it."""
    server = Trust(project).server()
    auth = {"token_url": f"{server.url}/token", "client_id": "hr", "client_secret": SECRET}
    project.spec["api"] |= {"base_url": server.url, "verify": "ca.pem", "auth": {"oauth2": auth}}
    project.users(2)
    project.entity()
    yield server
    server.stop()


def settings(raw: RawAPI) -> OAuth2:
    return OAuth2(f"{raw.url}/token", "hr", SECRET, None)


def call(raw: RawAPI, timeout: float = 5.0) -> Answer | NoAnswer:
    with calling(raw.url, auth=settings(raw), timeout=timeout) as caller:
        return caller.call("POST", caller.url("/x"), b"[]", "key-1")


def token(content: Any) -> list[Any]:
    return [whole("200 OK", content if isinstance(content, bytes) else json.dumps(content).encode())]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (token([1]), "no JSON object, but a list"),
        (token("x"), "no JSON object, but text"),
        (token(None), "no JSON object, but null"),
        (token(7), "no JSON object, but a number"),
        (token(True), "no JSON object, but true or false"),
        (token(b"<html>"), "no JSON object, but something else"),
        (token(b"[" * 100_000), "no JSON object, but something else"),
        (token(b""), "no JSON object, but something else"),
        (token({}), "no `access_token` that is text, but null"),
        (token({"access_token": None}), "no `access_token` that is text, but null"),
        (token({"access_token": ""}), "no `access_token` that is text"),
        (token({"access_token": 7}), "no `access_token` that is text, but a number"),
        (token({"access_token": ["a"]}), "no `access_token` that is text, but a list"),
        (token({"access_token": "a\r\nX: y"}), "characters that a header cannot carry"),
        (token({"access_token": "schlüssel"}), "characters that a header cannot carry"),
        (token({"access_token": "a", "expires_in": [1]}), "`expires_in` is no number of seconds, but a list"),
        (token({"access_token": "a", "expires_in": "soon"}), "`expires_in` is no number of seconds, but text"),
        (token(b'{"access_token": "a", "expires_in": 1e999}'), "`expires_in` is no number of seconds"),
        ([whole("400 Bad Request", b'{"error": "invalid_client", "error_description": "no such client"}')], "HTTP 400: invalid_client: no such client"),
        ([whole("400 Bad Request", b'{"error": [1], "error_description": {}}')], 'HTTP 400: {"error": [1]'),
        ([whole("401 Unauthorized", b"you sent " + SECRET.encode() * 20)], "HTTP 401: you sent ***"),
        ([whole("302 Found", b"", "Location: http://evil.invalid/")], "HTTP 302, a redirect to http://evil.invalid/; redirects are not followed"),
        ([whole("307 Temporary Redirect")], "HTTP 307, a redirect to nowhere"),
        ([whole("304 Not Modified", b"")], "HTTP 304"),
        ([b"HTTP/1.1 200 OK\r\n", END], "within the headers"),
        ([whole("200 OK", gzip.compress(b'{"access_token": "a"}')[:-3], "Content-Encoding: gzip")], "breaks off"),
        ([whole("200 OK", gzip.compress(b" " * 2_000_000), "Content-Encoding: gzip")], "larger than 1048576 bytes"),
        ([whole("200 OK", b" " * 1_100_000)], "larger than 1048576 bytes"),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_token_is_refused_in_plain_words(raw: RawAPI, given: list[Any], reason: str) -> None:
    """Nothing is sent to the API then, and no `Bearer None` either."""
    raw.script("/token", given)
    made = call(raw)
    assert isinstance(made, NoAnswer), made
    assert made.reason.startswith(f"no token from {raw.url}/token: ")
    assert reason in made.reason
    assert SECRET[:6] not in made.reason
    assert len(made.reason) < 400
    assert (made.sent, made.refused) == (False, False)
    assert raw.of("/x") == []


@pytest.mark.parametrize(
    "given",
    [
        {"access_token": "a"},
        {"access_token": "a", "token_type": "bearer", "scope": "another than was asked for", "expires_in": "60"},
        {"access_token": "a", "expires_in": 0, "refresh_token": None, "token_type": None},
    ],
)
def test_a_token_is_taken_from_what_servers_really_answer(raw: RawAPI, given: dict[str, Any]) -> None:
    raw.script("/token", token(given))
    assert isinstance(call(raw), Answer)
    (sent,) = raw.of("/x")
    assert sent.headers["authorization"] == "Bearer a"


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_of_the_token_endpoint_is_never_followed(
    project: Project, tls: FaultAPI, api: FaultAPI, status: int
) -> None:
    """The client's secret would go to another host, here over plain http."""
    tls.script("/token", answer(status, b"", Location=f"{api.url}/token"))
    (users,) = project.run(code=1)["entities"]
    assert (users["failed"], users["in_doubt"]) == (2, 0)
    assert f"HTTP {status}, a redirect to {api.url}/token; redirects are not followed" in users["error"]
    assert api.requests == []
    assert {request.path for request in tls.requests} == {"/token"}


def test_a_token_that_is_a_list_ends_a_run_with_1_and_not_with_a_bug(project: Project, tls: FaultAPI) -> None:
    tls.script("/token", answer(200, [1]))
    (users,) = project.run(code=1)["entities"]
    assert (users["failed"], users["in_doubt"]) == (2, 0)
    assert "no JSON object, but a list" in users["error"]


@pytest.mark.parametrize(
    "silent", [[5.0, END], [b"HTTP/1.1 200 OK\r\n", *[0.1, b"X: y\r\n"] * 50]], ids=["silent", "drips"]
)
def test_a_token_endpoint_that_is_slow_holds_no_call_beyond_its_own_deadline(raw: RawAPI, silent: list[Any]) -> None:
    """Neither the call that fetches the token nor those that wait for it."""
    raw.script("/token", silent)
    made: list[tuple[float, Answer | NoAnswer]] = []
    with calling(raw.url, auth=settings(raw), timeout=0.6) as caller:

        def one() -> None:
            began = time.monotonic()
            got = caller.call("POST", caller.url("/x"), b"[]", "k")
            made.append((time.monotonic() - began, got))

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join(20)
    assert len(made) == 4
    for taken, got in made:
        assert taken < 0.6 + SLACK, made
        assert isinstance(got, NoAnswer)
        assert not got.sent
        assert "no token from" in got.reason
        assert "0.6 s" in got.reason


def test_a_call_does_not_wait_for_a_thread_whose_name_lookup_hangs(
    raw: RawAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up is not cut short by the deadline (a thread is stuck in the system's resolver); others do not wait for it."""
    look_up, hanging, done = socket.getaddrinfo, threading.Event(), threading.Event()

    def slowly(*args: Any, **kwargs: Any) -> Any:
        hanging.set()
        done.wait(10)
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with calling(raw.url, auth=settings(raw), timeout=0.4) as caller:
        stuck = threading.Thread(target=lambda: caller.call("POST", caller.url("/x"), b"[]", "k"))
        stuck.start()
        assert hanging.wait(10)
        began = time.monotonic()
        made = caller.call("POST", caller.url("/x"), b"[]", "k")
        taken = time.monotonic() - began
        done.set()
        stuck.join(10)
    assert taken < 0.4 + SLACK
    assert isinstance(made, NoAnswer)
    assert "another call waited for it for 0.4 s in vain" in made.reason


def test_a_401_does_not_wait_for_a_token_that_another_thread_is_fetching(raw: RawAPI) -> None:
    raw.script("/token", token({"access_token": "old", "expires_in": 3600}), [3.0, END])
    with calling(raw.url, auth=settings(raw), timeout=5.0) as caller:
        assert isinstance(caller.call("POST", caller.url("/x"), b"[]", "k"), Answer)
        assert caller.renew()
        fetching = threading.Thread(target=lambda: caller.call("POST", caller.url("/x"), b"[]", "k"))
        fetching.start()
        while len(raw.of("/token")) < 2:
            time.sleep(0.01)
        began = time.monotonic()
        assert caller.renew()
        assert time.monotonic() - began < 1.0
        raw.stop()
        fetching.join(10)


def test_a_token_that_another_thread_has_renewed_meanwhile_is_not_thrown_away(raw: RawAPI) -> None:
    """Two calls meet 401 with the old token: one new one is fetched, not two."""
    raw.script("/token", *[token({"access_token": f"t{number}", "expires_in": 3600}) for number in range(3)])
    with calling(raw.url, auth=settings(raw), timeout=5.0) as caller:
        both = threading.Barrier(2)

        def one() -> None:
            caller.call("POST", caller.url("/x"), b"[]", "k")
            both.wait(10)
            caller.renew()
            caller.call("POST", caller.url("/x"), b"[]", "k")
            both.wait(10)
            caller.call("POST", caller.url("/x"), b"[]", "k")

        first, second = threading.Thread(target=one), threading.Thread(target=one)
        first.start()
        second.start()
        first.join(20)
        second.join(20)
    assert len(raw.of("/token")) == 2
    assert {request.headers["authorization"] for request in raw.of("/x")} == {"Bearer t0", "Bearer t1"}


def test_a_token_is_not_part_of_what_may_have_been_processed(raw: RawAPI) -> None:
    """The connection to the API breaks before anything was sent: failed, though the token's request was sent."""
    raw.script("/token", token({"access_token": "a"}))
    with calling("http://no-such-host.invalid", auth=settings(raw), timeout=5.0) as caller:
        made = caller.call("POST", caller.url("/x"), b"[]", "k")
    assert isinstance(made, NoAnswer)
    assert not made.sent
