"""One call: what is an answer, what is none, whether the request may have arrived, and what a batch's attempts add up to."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import trustme
from hypothesis import example, given
from hypothesis import strategies as st

from engine.context import RunContext
from engine.http import session
from engine.http.session import Answer, Caller, NoAnswer
from engine.http.settings import Api, BasicAuth, BearerAuth, HeaderAuth, Retry
from engine.sync.model import Batch, Results
from engine.sync.send import verdict
from engine.sync.send.conclusion import Reply, conclude
from engine.sync.send.post import retry_after
from tests import builders
from tests.faultapi import Behaviour, FaultAPI, answer, cut, drip, raw, reset, slow, slow_headers

TIMEOUT = 0.4
SLACK = 1.5
"""Seconds that a busy machine may add to a deadline."""


def api_of(url: str, **changed: Any) -> Api:
    retry = Retry(2, 0.01, 1.0, frozenset({503}))
    given = {
        "base_url": url,
        "timeout": TIMEOUT,
        "retry": retry,
        "in_doubt_statuses": frozenset({500}),
        "gzip": False,
        **changed,
    }
    return builders.api_settings(**given)


@contextmanager
def calling(url: str, **changed: Any) -> Iterator[Caller]:
    caller = Caller(api_of(url, **changed))
    try:
        yield caller
    finally:
        caller.close()


def call(url: str, path: str = "/x", payload: bytes = b"[]", **changed: Any) -> Answer | NoAnswer:
    with calling(url, **changed) as caller:
        return caller.call("POST", caller.url(path), payload, "key-1")


@contextmanager
def listener(serve: Callable[[socket.socket], None] | None = None) -> Iterator[str]:
    """A bare socket that takes one connection and does as told, or nothing at all with it."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            try:
                taken, _ = server.accept()
            except OSError:
                return
            with taken:
                try:
                    if serve:
                        serve(taken)
                except OSError:
                    pass
                done.wait(10)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        done.set()


def call_that_may_hang(api: FaultAPI, seconds: float) -> Answer | NoAnswer:
    """A call that must end in time; if not, the server lets go so that the test fails instead of hanging."""
    made: list[Answer | NoAnswer] = []
    thread = threading.Thread(target=lambda: made.append(call(api.url)), daemon=True)
    thread.start()
    thread.join(seconds)
    ended = bool(made)
    api.pause.set()
    thread.join(5)
    assert ended, "the call goes on long after its deadline"
    return made[0]


# Answers


def test_a_whole_answer_comes_back_with_its_status_headers_body_and_duration(api: FaultAPI) -> None:
    api.script("/x", slow(0.1, answer(207, b"hello", X_Mark="yes")))
    made = call(api.url)
    assert isinstance(made, Answer)
    assert (made.status, made.body, made.headers["x-mark"]) == (207, b"hello", "yes")
    assert 0.1 <= made.seconds < TIMEOUT + SLACK


@pytest.mark.parametrize("status", [204, 304, 400, 500, 599, 299, 999])
def test_any_status_is_an_answer(api: FaultAPI, status: int) -> None:
    api.script("/x", answer(status, b""))
    made = call(api.url)
    assert isinstance(made, Answer)
    assert made.status == status


def test_a_redirect_is_an_answer_and_never_followed(api: FaultAPI) -> None:
    api.script("/x", answer(302, b"", Location=f"{api.url}/y"))
    made = call(api.url)
    assert isinstance(made, Answer)
    assert made.status == 302
    assert [(request.method, request.path) for request in api.requests] == [("POST", "/x")]


def test_a_compressed_answer_is_read_as_its_content(api: FaultAPI) -> None:
    api.script("/x", answer(200, gzip.compress(b'{"ok":1}'), Content_Encoding="gzip"))
    made = call(api.url)
    assert isinstance(made, Answer)
    assert made.body == b'{"ok":1}'


def test_cookies_of_one_answer_are_no_reason_to_fail_the_next(api: FaultAPI) -> None:
    api.script("/x", answer(200, b"{}", Set_Cookie="a=b; Path=/"))
    with calling(api.url) as caller:
        made = [caller.call("POST", caller.url("x"), b"[]", str(number)) for number in range(3)]
    assert [one.status for one in made] == [200, 200, 200]


def test_a_connection_that_the_server_closed_quietly_between_two_calls_is_replaced(api: FaultAPI) -> None:
    def answer_and_leave(handler: Any, request: Any) -> None:
        answer()(handler, request)
        handler.close_connection = True

    api.script("/x", answer_and_leave)
    with calling(api.url) as caller:
        first = caller.call("POST", caller.url("x"), b"[]", "1")
        while not api.closed:
            time.sleep(0.01)
        second = caller.call("POST", caller.url("x"), b"[]", "2")
    assert (first.status, second.status) == (200, 200)


# Answers that are none


BROKEN: dict[str, Behaviour] = {
    "cut": cut(),
    "reset": reset(),
    "nothing": raw(b""),
    "garbage": raw(b"\x00\xff not http\r\n\r\n"),
    "half a status line": raw(b"HTTP/1.1 2"),
    "status not a number": raw(b"HTTP/1.1 abc OK\r\n\r\n"),
    "too many headers": raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000 + b"\r\n"),
    "header too long": raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"),
    "broken chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "chunks cut": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
    "not the encoding it says": answer(200, b"plain", Content_Encoding="gzip"),
    "lengths that differ": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nab"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_is_no_answer_to_a_request_that_was_sent(api: FaultAPI, name: str) -> None:
    api.script("/x", BROKEN[name])
    made = call(api.url)
    assert isinstance(made, NoAnswer), made
    assert made.sent
    assert made.reason
    assert "object at 0x" not in made.reason
    assert len(api.of("/x")) == 1, "a call is one attempt: it repeats nothing by itself"


ENDLESS: dict[str, Behaviour] = {
    "body": drip(),
    "header": slow_headers(),
    "status line": raw(b"HTTP/1.1 200 ", b"O", every=0.05),
    "continue": raw(b"HTTP/1.1 100 Continue\r\n\r\n", every=0.02),
    "headers": raw(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", every=0.05),
    "chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", every=0.05),
    "body without a length": raw(b"HTTP/1.1 200 OK\r\n\r\n", b"a", every=0.05),
    "body of a connection that closes": raw(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n", b"a", every=0.05
    ),
    "silence": slow(5),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_answer_ends_by_the_deadline_of_the_whole_call(api: FaultAPI, name: str) -> None:
    api.script("/x", ENDLESS[name])
    began = time.monotonic()
    made = call_that_may_hang(api, TIMEOUT + SLACK)
    taken = time.monotonic() - began
    assert isinstance(made, NoAnswer), made
    assert made.sent
    assert made.reason == "no whole answer within 0.4 s"
    assert TIMEOUT * 0.9 <= taken < TIMEOUT + SLACK
    assert abs(made.seconds - taken) < 0.5


def test_an_endless_answer_over_tls_ends_by_the_deadline_too() -> None:
    authority = trustme.CA()
    server = FaultAPI(server_context(authority))
    server.script("/x", drip())
    try:
        with authority.cert_pem.tempfile() as pem:
            began = time.monotonic()
            made = call(server.url, verify=pem)
    finally:
        server.stop()
    assert isinstance(made, NoAnswer)
    assert made.sent
    assert time.monotonic() - began < TIMEOUT + SLACK


def server_context(authority: trustme.CA) -> Any:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_a_server_that_never_reads_a_large_request_ends_it_by_the_deadline() -> None:
    with listener() as place:
        began = time.monotonic()
        made = call(f"http://{place}", payload=b"x" * 30_000_000)
    assert isinstance(made, NoAnswer)
    assert made.sent
    assert time.monotonic() - began < TIMEOUT + SLACK


def test_a_handshake_that_never_comes_ends_by_the_deadline_and_sent_nothing() -> None:
    with listener() as place:
        began = time.monotonic()
        made = call(f"https://{place}")
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert time.monotonic() - began < TIMEOUT + SLACK


def test_a_call_whose_time_is_up_before_it_is_connected_sends_nothing(
    api: FaultAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slow name server cannot be had here for real; the rest of the call is.
    look_up = socket.getaddrinfo

    def slowly(*args: Any, **kwargs: Any) -> Any:
        time.sleep(TIMEOUT * 1.5)
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    made = call(api.url)
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert api.requests == []


def test_a_slow_look_up_does_not_free_an_endless_answer_from_the_deadline(
    api: FaultAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def slowly(*args: Any, **kwargs: Any) -> Any:
        time.sleep(TIMEOUT * 1.5)
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    api.script("/x", drip())
    made = call_that_may_hang(api, TIMEOUT * 2.5 + SLACK)
    assert isinstance(made, NoAnswer)


def test_the_deadline_of_one_call_does_not_touch_the_next_on_the_same_connection(api: FaultAPI) -> None:
    api.script("/x", answer(), slow(TIMEOUT * 0.7), slow(TIMEOUT * 0.7))
    with calling(api.url) as caller:
        made = [caller.call("POST", caller.url("x"), b"[]", str(number)) for number in range(3)]
    assert [type(one) for one in made] == [Answer, Answer, Answer]


def test_a_call_works_after_one_that_ended_by_the_deadline(api: FaultAPI) -> None:
    api.script("/x", drip(), answer())
    with calling(api.url) as caller:
        first = caller.call("POST", caller.url("x"), b"[]", "1")
        second = caller.call("POST", caller.url("x"), b"[]", "1")
    assert isinstance(first, NoAnswer)
    assert isinstance(second, Answer)


# Whether it was sent


def test_a_refused_connection_sent_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused, and nobody else's
        made = call(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert made.status is None
    assert "refused" in made.reason.lower()
    assert "DNS" not in made.reason
    assert "TLS" not in made.reason
    assert made.refused


def test_only_a_refused_connection_is_called_refused(api: FaultAPI) -> None:
    api.script("/x", reset())
    unknown, broken = call("http://no-such-host.invalid", timeout=5.0), call(api.url)
    assert isinstance(unknown, NoAnswer)
    assert isinstance(broken, NoAnswer)
    assert (unknown.refused, broken.refused) == (False, False)


def test_a_name_that_does_not_exist_sent_nothing() -> None:
    made = call("http://no-such-host.invalid", timeout=5.0)
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert made.reason.startswith("DNS failure")


def test_a_server_that_is_not_trusted_was_sent_nothing() -> None:
    server = FaultAPI(server_context(trustme.CA()))
    try:
        made = call(server.url)
    finally:
        server.stop()
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert made.reason.startswith("TLS failure")
    assert server.requests == []


def test_https_to_a_server_without_tls_sent_nothing(api: FaultAPI) -> None:
    made = call(api.url.replace("http:", "https:"))
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert made.reason.startswith("TLS failure")


def test_a_proxy_that_is_not_there_sent_nothing(api: FaultAPI) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        made = call(api.url, proxy=f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert api.requests == []


def test_a_proxy_that_refuses_the_tunnel_sent_nothing(api: FaultAPI) -> None:
    api.script("api.invalid:443", answer(403, b"no"))
    made = call("https://api.invalid", proxy=api.url)
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert [(request.method, request.path) for request in api.requests] == [("CONNECT", "api.invalid:443")]


def test_a_ca_file_that_is_missing_is_told_and_sent_nothing(api: FaultAPI, tmp_path: Any) -> None:
    made = call(api.url.replace("http:", "https:"), verify=tmp_path / "absent.pem")
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert "absent.pem" in made.reason


def test_a_client_certificate_that_is_missing_is_told_and_sent_nothing(api: FaultAPI, tmp_path: Any) -> None:
    made = call(api.url.replace("http:", "https:"), cert=tmp_path / "absent.pem")
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert "absent.pem" in made.reason


def test_a_header_value_that_cannot_be_sent_is_told_and_sent_nothing(api: FaultAPI) -> None:
    made = call(api.url, headers={"X-Name": "a\r\nb: c"})
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert api.requests == []


# The size of answers


def test_an_answer_larger_than_the_cap_is_no_answer(api: FaultAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_ANSWER", 100_000)
    api.script("/x", answer(200, b"x" * 100_001), answer(200, b"x" * 100_000))
    with calling(api.url) as caller:
        large, fits = (caller.call("POST", caller.url("x"), b"[]", "1") for _ in range(2))
    assert isinstance(large, NoAnswer)
    assert (large.sent, large.status) == (True, 200)
    assert "larger than 100000 bytes" in large.reason
    assert isinstance(fits, Answer)
    assert len(fits.body) == 100_000


def test_a_small_answer_that_unpacks_to_more_than_the_cap_is_no_answer(
    api: FaultAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MAX_ANSWER", 100_000)
    api.script("/x", answer(200, gzip.compress(b"\0" * 5_000_000), Content_Encoding="gzip"))
    made = call(api.url)
    assert isinstance(made, NoAnswer)
    assert "larger than" in made.reason


# Requests


@pytest.mark.parametrize(
    ("base", "endpoint", "joined"),
    [
        ("http://h", "/users", "http://h/users"),
        ("http://h/", "/users", "http://h/users"),
        ("http://h", "users", "http://h/users"),
        ("http://h/api", "/users", "http://h/api/users"),
        ("http://h/api/", "users", "http://h/api/users"),
        ("http://h/api//", "//users", "http://h/api/users"),
        ("http://h/api", "/users/", "http://h/api/users/"),
        ("http://h:8080/a/b", "/c/d?e=f", "http://h:8080/a/b/c/d?e=f"),
        ("http://h/api", "/users?at=http://x/y", "http://h/api/users?at=http://x/y"),
        ("http://[::1]:80/api", "/users", "http://[::1]:80/api/users"),
    ],
)
def test_base_url_and_endpoint_are_joined_with_one_slash(base: str, endpoint: str, joined: str) -> None:
    with calling(base) as caller:
        assert caller.url(endpoint) == joined


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_bytes_and_key_arrive_as_they_were_given(api: FaultAPI, method: str) -> None:
    payload = '[{"Name":"Zoë \\u0000 \U0001f600"}]'.encode()
    with calling(api.url) as caller:
        caller.call(method, caller.url("x"), payload, "key-1")
    (request,) = api.requests
    assert (request.method, request.body) == (method, payload)
    assert request.headers["idempotency-key"] == "key-1"
    assert request.headers["content-type"] == "application/json"


def test_no_header_carries_the_key_where_the_api_has_none(api: FaultAPI) -> None:
    call(api.url, idempotency_header=None)
    assert "key-1" not in api.requests[0].headers.values()


def test_compressed_bytes_are_the_same_in_every_attempt(api: FaultAPI) -> None:
    with calling(api.url, gzip=True) as caller:
        caller.call("POST", caller.url("x"), b"[1]" * 100, "k")
        time.sleep(1.1)  # the header of a gzip stream holds a time in seconds
        caller.call("POST", caller.url("x"), b"[1]" * 100, "k")
    first, second = api.requests
    assert first.headers["content-encoding"] == "gzip"
    assert first.body == second.body
    assert gzip.decompress(first.body) == b"[1]" * 100


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (BearerAuth("t0ken"), "authorization", "Bearer t0ken"),
        (BasicAuth("hr", "pä:ss"), "authorization", "Basic aHI6cMOkOnNz"),
        (HeaderAuth("X-Api-Key", "k3y"), "x-api-key", "k3y"),
    ],
)
def test_credentials_are_on_the_wire(api: FaultAPI, auth: Any, name: str, value: str) -> None:
    call(api.url, auth=auth)
    assert api.requests[0].headers[name] == value


def test_a_caller_serves_many_threads_at_once(api: FaultAPI) -> None:
    api.script("/x", slow(0.1))
    made: list[Answer | NoAnswer] = []
    with calling(api.url, timeout=5.0) as caller:
        threads = [
            threading.Thread(target=lambda: made.append(caller.call("POST", caller.url("x"), b"[]", "k")))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert [one.status for one in made] == [200] * 8


# Retry-After

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
RUN = RunContext("run", NOW, lambda: NOW)


def wait_of(text: str) -> float | None:
    return retry_after(Answer(429, {"Retry-After": text}, b"", 0.0), RUN)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), 0.0),
        ("Monday, 06-May-24 07:08:19 GMT", 10.0),  # RFC 850
        ("Mon May  6 07:08:29 2024", 20.0),  # asctime
        ("Mon, 06 May 2024 09:08:39 +0200", 30.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("nan", None),
        ("Mon, 32 May 2024 07:08:09 GMT", None),
    ],
)
def test_retry_after_is_read_in_every_form(text: str, seconds: float | None) -> None:
    assert wait_of(text) == seconds


def test_an_absent_retry_after_asks_for_nothing() -> None:
    assert retry_after(Answer(429, {}, b"", 0.0), RUN) is None


@given(
    st.text()
    | st.integers().map(str)
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,9} [A-Z][a-z]{2} \d{1,30} \d{1,30}:\d\d(:\d{1,30})? ([+-]\d{1,30}|GMT|)")
    | st.builds("{} Jan {} {}:0:0 {}".format, st.integers(0), st.integers(0), st.integers(0), st.integers())
)
@example("9" * 400)
@example("1 Jan 2024 00:00:00 +99999999999999999999")
@example("1 Jan 2024 99999999999999999999:00:00 GMT")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
def test_any_retry_after_gives_a_wait_or_none_and_never_raises(text: str) -> None:
    wait = wait_of(text)
    assert wait is None or (isinstance(wait, float) and wait >= 0)


# What attempts add up to

BATCH = Batch("b", "Users", "k", ("1", "2"), b"[]")

OK = Reply("answered", None, again=False, found=verdict.read(None, ("1", "2"), 200, b""))
FAILED = Reply("failed", "HTTP 503", again=True)
DOUBT = Reply("in_doubt", "reset", again=True)
REFUSED = Reply("decided", "HTTP 400", again=False)


@pytest.mark.parametrize(
    ("replies", "keyed", "kind"),
    [
        ([OK], True, "accepted"),
        ([FAILED, OK], True, "accepted"),
        ([DOUBT, OK], True, "accepted"),
        ([FAILED], True, "failed"),
        ([FAILED, FAILED], False, "failed"),
        ([REFUSED], True, "failed"),
        ([REFUSED], False, "failed"),
        ([DOUBT], True, "in_doubt"),
        ([DOUBT, FAILED], True, "in_doubt"),
        ([FAILED, DOUBT], True, "in_doubt"),
        ([DOUBT, FAILED, FAILED], False, "in_doubt"),
        ([DOUBT, REFUSED], True, "failed"),
        ([DOUBT, REFUSED], False, "in_doubt"),
        ([DOUBT, FAILED, REFUSED], True, "failed"),
    ],
)
def test_the_attempts_of_a_batch_add_up_to_one_outcome(replies: list[Reply], keyed: bool, kind: str) -> None:
    outcome = conclude(BATCH, replies, keyed=keyed)
    sorted_ = {"accepted": outcome.accepted, "failed": outcome.failed, "in_doubt": outcome.in_doubt}
    assert sorted_.pop(kind) == BATCH.ids
    assert not any(sorted_.values())
    assert not outcome.rejected
    assert outcome.reason == replies[-1].reason


@given(
    st.binary()
    | st.sampled_from([b"null", b"[]", b"{}", b'{"items":{}}', b'{"items":[[],null,1,"x",{"id":{}},{"id":NaN}]}'])
    | st.recursive(
        st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.sampled_from(["1", "2", "ok"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["items", "id", "status", "why"]), inner, max_size=4)
        ),
        max_leaves=15,
    ).map(lambda value: __import__("json").dumps(value).encode())
)
def test_whatever_is_answered_every_record_gets_exactly_one_verdict(body: bytes) -> None:
    results = Results("items", "id", "status == 'ok'", reason="why")
    reply = Reply("answered", None, again=False, found=verdict.read(results, BATCH.ids, 200, body))
    outcome = conclude(BATCH, [reply], keyed=True)
    named = [*outcome.accepted, *(one.id for one in outcome.rejected), *outcome.in_doubt, *outcome.failed]
    assert sorted(named) == ["1", "2"]
    assert not outcome.failed
