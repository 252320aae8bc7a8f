"""A real run against a raw socket server that sends exactly these bytes: what is an answer, whose answer it is, and what is none."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.http import deadline
from engine.http.session import NoAnswer
from tests.project import Project, check_sums
from tests.rawapi import END, Answer, RawAPI, Received, whole
from tests.unit.http.test_session import calling

RESULTS = {"path": "items", "id": "Id", "accepted": "status == 'ok'", "reason": "error"}
PACKED = gzip.compress(b'{"stored": 1}')
HTML = b"<!DOCTYPE html>\n<html><head><TITLE lang=en>Log  in &amp; go\x1b[31m</TITLE></head><body>...</body></html>"


@pytest.fixture
def raw() -> Iterator[RawAPI]:
    """The server."""
    server = RawAPI()
    yield server
    server.stop()


@pytest.fixture
def hostile(tmp_path: Path, raw: RawAPI) -> Project:
    """A project whose API it is; every batch is attempted once."""
    project = Project(tmp_path / "project", raw.url)
    project.spec["api"] |= {"timeout": "5s", "retry": {"attempts": 1, "wait": "10ms", "max_wait": "1s"}}
    return project


def entities(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    check_sums(report)
    return {entity["name"]: entity for entity in report["entities"]}


def play(project: Project, raw: RawAPI, cases: dict[str, list[Answer]], **api: Any) -> dict[str, dict[str, Any]]:
    """One run with an entity of two records for each case; gives the entities of its report by case."""
    names = {f"E{number}": case for number, case in enumerate(cases)}
    project.spec["api"] |= api
    project.users(2, "People")
    for name, case in names.items():
        project.entity(name, query="SELECT * FROM People", endpoint=f"/{name}")
        raw.script(f"/{name}", *cases[case])
    report = project.run(code=None)
    return {names[name]: {**entity, "path": f"/{name}"} for name, entity in entities(report).items()}


# Whose answer it is


INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


def test_the_answer_behind_an_interim_one_is_read_and_no_batch_reads_the_verdict_of_another(
    hostile: Project, raw: RawAPI
) -> None:
    """Node's writeProcessing and writeEarlyHints: 1xx at once, the verdicts 300 ms later, over one kept connection."""

    def verdicts(request: Received) -> list[Any]:
        items = [{"Id": id_, "status": "no" if id_ % 5 == 3 else "ok", "error": f"{id_} is bad"} for id_ in request.ids]
        return [INTERIM, HINTS, 0.1, whole("200 OK", json.dumps({"items": items}).encode())]

    raw.script("/users", verdicts)
    hostile.users(20)
    hostile.entity(batch_size=5, results=RESULTS)
    users = entities(hostile.run(code=1))["Users"]
    assert (users["accepted"], users["rejected"], users["in_doubt"]) == (16, 4, 0)
    assert hostile.rejects() == {str(id_): f"{id_} is bad" for id_ in (3, 8, 13, 18)}
    assert sorted(map(int, hostile.tracked())) == [id_ for id_ in range(1, 21) if id_ % 5 != 3]
    assert {request.connection for request in raw.of("/users")} == {1}


def test_any_1xx_but_101_is_read_past_and_endless_ones_are_in_doubt(hostile: Project, raw: RawAPI) -> None:
    good = whole()
    found = play(
        hostile,
        raw,
        {
            "100": [[b"HTTP/1.1 100 Continue\r\n\r\n" + good]],
            "100 102 103 100": [
                [b"HTTP/1.1 100 Continue\r\n\r\n" + INTERIM + HINTS + b"HTTP/1.1 100 C\r\n\r\n" + good]
            ],
            "199": [[b"HTTP/1.1 199 What\r\nContent-Length: 5\r\n\r\n" + good]],
            "a refusal behind 102": [[INTERIM, 0.05, whole("403 Forbidden")]],
            "101": [[b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + good]],
            "only 102": [[INTERIM, END]],
            "as many 102 as are read": [[INTERIM * 100 + good]],
            "very many 102": [[INTERIM * 101 + good]],
            "very many 100": [[b"HTTP/1.1 100 Continue\r\n\r\n" * 101 + good]],
        },
    )
    for case in ("100", "100 102 103 100", "199", "as many 102 as are read"):
        assert found[case]["accepted"] == 2, (case, found[case])
    assert found["a refusal behind 102"]["failed"] == 2
    assert "HTTP 403" in found["a refusal behind 102"]["error"]
    for case, reason in {"101": "HTTP 101", "only 102": "without response", "very many 102": "100 interim", "very many 100": "100 interim"}.items():  # fmt: skip
        assert (found[case]["in_doubt"], found[case]["accepted"]) == (2, 0), (case, found[case])
        assert reason in found[case]["error"], (case, found[case])


def test_interim_answers_without_end_end_by_the_deadline(hostile: Project, raw: RawAPI) -> None:
    hostile.spec["api"]["timeout"] = "500ms"
    raw.script("/users", [INTERIM, *[part for _ in range(40) for part in (0.1, INTERIM)]])
    hostile.users(1)
    hostile.entity()
    users = entities(hostile.run(code=1))["Users"]
    assert users["in_doubt"] == 1
    assert "no whole answer within 0.5 s" in users["error"]
    assert users["seconds"] < 3


REFUSED = whole("422 Unprocessable Content", b'{"error": "of another batch"}')


@pytest.mark.parametrize(
    ("first", "in_doubt"),
    [
        ([whole() + REFUSED], 2),
        ([whole() + b"\r\n" + whole()], 2),
        ([whole() + b"\r\n\r\n"], 0),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + b"{}" + REFUSED], 0),
        ([b"HTTP/1.1 204 No Content\r\n\r\n" + b"{}"], 0),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + REFUSED], 2),
        ([whole(), 0.2, REFUSED], 0),
    ],
    ids=["a second answer", "a second 200", "line breaks", "a body that is longer", "204 with a body", "chunked and more", "a late answer"],
)  # fmt: skip
def test_what_stands_behind_an_answer_is_never_read_as_the_next_one(
    hostile: Project, raw: RawAPI, first: list[Any], in_doubt: int
) -> None:
    """The second call is made late enough for whatever the server adds; it has a connection of its own."""
    hostile.spec["api"]["rate_limit"] = "2/s"
    raw.script("/users", first, [whole()])
    hostile.users(4)
    hostile.entity(batch_size=2)
    users = entities(hostile.run(code=1 if in_doubt else 0))["Users"]
    assert (users["accepted"], users["in_doubt"], users["rejected"], users["failed"]) == (4 - in_doubt, in_doubt, 0, 0)
    connections = [request.connection for request in raw.of("/users")]
    assert connections == [1, 2]
    if in_doubt:
        assert "two answers came to one request" in users["error"]


def test_a_server_that_answers_before_it_is_asked_is_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = deadline._HTTPConnection.connect

    def slowly(connection: Any) -> None:
        connect(connection)
        time.sleep(0.3)  # until the greeting is there for sure

    monkeypatch.setattr(deadline._HTTPConnection, "connect", slowly)
    server = RawAPI(greeting=whole())
    try:
        with calling(server.url, timeout=5.0) as caller:
            made = caller.call("POST", caller.url("/users"), b"[]", "key-1")
    finally:
        server.stop()
    assert isinstance(made, NoAnswer)
    assert not made.sent
    assert "before the request was sent" in made.reason
    assert server.requests == []


# Whether it is whole


def cut(*lines: str) -> list[Any]:
    return ["\r\n".join(lines).encode(), END]


def packed(content: bytes, coding: str = "gzip") -> list[Any]:
    return [whole("200 OK", content, f"Content-Encoding: {coding}")]


BARE = zlib.compressobj(wbits=-15)
BROKEN: dict[str, list[Any]] = {
    "nothing": [END],
    "status line cut": cut("HTTP/1.1 200"),
    "status line cut in its code": cut("HTTP/1.1 20"),
    "no headers": cut("HTTP/1.1 200 OK", ""),
    "headers cut": cut("HTTP/1.1 200 OK", "Content-Type: application/json", ""),
    "headers cut in a name": cut("HTTP/1.1 200 OK", "Content-Le"),
    "headers cut in a length": cut("HTTP/1.1 200 OK", "Content-Length: 1"),
    "a header without a colon": [b"HTTP/1.1 200 OK\r\nX Y\r\nContent-Length: 2\r\n\r\n{}"],
    "no HTTP": [b"SSH-2.0-OpenSSH_9.2\r\n", END],
    "HTTP/2": [b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\n{}"],
    "a status of letters": [b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\n{}"],
    "length of letters": cut("HTTP/1.1 200 OK", "Content-Length: abc", "", "{}"),
    "length below zero": cut("HTTP/1.1 200 OK", "Content-Length: -5", "", "{}"),
    "length with a sign": cut("HTTP/1.1 200 OK", "Content-Length: +2", "", "{}"),
    "length that is empty": cut("HTTP/1.1 200 OK", "Content-Length: ", "", "{}"),
    "two lengths": cut("HTTP/1.1 200 OK", "Content-Length: 2", "Content-Length: 3", "", "{} "),
    "two lengths in one": cut("HTTP/1.1 200 OK", "Content-Length: 2, 3", "", "{} "),
    "body cut": cut("HTTP/1.1 200 OK", "Content-Length: 100", "", "{}"),
    "chunk cut": cut("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "10", "{}"),
    "chunk size cut": cut("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "2", "{}", "0"),
    "last chunk missing": cut("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "2", "{}", ""),
    "chunk size of letters": cut("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "xyz", "{}", "0", "", ""),
    "another transfer coding": cut("HTTP/1.1 200 OK", "Transfer-Encoding: gzip", "", "{}"),
    "gzip cut": packed(PACKED[:-12]),
    "gzip without its end": packed(PACKED[:-1]),
    "gzip with something behind": packed(PACKED + b"garbage"),
    "gzip with zeros behind": packed(PACKED + b"\0" * 8),
    "second gzip cut": packed(PACKED + PACKED[:-3]),
    "gzip that is none": packed(b"{}"),
    "gzip with a wrong checksum": packed(PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:]),
    "deflate cut": packed(zlib.compress(b"{}" * 50)[:-3], "deflate"),
}
WHOLE: dict[str, list[Any]] = {
    "without a length": cut("HTTP/1.1 200 OK", "", "{}"),
    "HTTP/1.0": cut("HTTP/1.0 200 OK", "", "{}"),
    "line feeds alone": [b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"],
    "a length twice": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"],
    "a length twice in one": [b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}"],
    "204 with an odd length": [b"HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n"],
    "chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nX: y\r\n\r\n"],
    "gzip": packed(PACKED),
    "gzip in two": packed(PACKED + PACKED, "x-gzip"),
    "deflate": packed(zlib.compress(b"{}"), "deflate"),
    "bare deflate": packed(BARE.compress(b"{}") + BARE.flush(), "deflate"),
    "gzip that is empty": packed(b""),
    "a coding that is none": packed(b"{}", "UTF-8"),
    "both": packed(gzip.compress(zlib.compress(b"{}")), "deflate, gzip"),
}


def test_an_answer_that_is_cut_or_framed_wrongly_is_in_doubt_and_its_connection_closed(
    hostile: Project, raw: RawAPI
) -> None:
    """RFC 9112 sections 6 and 8: status line, headers, length, chunks and packed bodies, one entity for each."""
    found = play(hostile, raw, {case: [answer] for case, answer in BROKEN.items()})
    assert {case: entity["in_doubt"] for case, entity in found.items()} == dict.fromkeys(BROKEN, 2)
    assert hostile.ledger("SELECT COUNT(*) FROM TB_R_SYNC_TRACKING") == [(0,)]
    assert hostile.ledger("SELECT DISTINCT State FROM TB_R_SYNC_BATCH") == [("in_doubt",)]
    assert [request.connection for request in raw.requests] == list(range(1, len(BROKEN) + 1))
    for case, entity in found.items():
        assert "0x" not in entity["error"], (case, entity["error"])
        assert "object at" not in entity["error"], (case, entity["error"])


def test_whole_answers_in_odd_but_valid_forms_are_accepted(hostile: Project, raw: RawAPI) -> None:
    found = play(hostile, raw, {case: [answer] for case, answer in WHOLE.items()})
    assert {case: (entity["accepted"], entity["error"]) for case, entity in found.items()} == dict.fromkeys(
        WHOLE, (2, None)
    )


def test_a_refusal_whose_packed_body_is_cut_is_in_doubt_too(hostile: Project, raw: RawAPI) -> None:
    raw.script("/users", [whole("422 No", PACKED[:-5], "Content-Encoding: gzip")])
    hostile.users(2)
    hostile.entity()
    users = entities(hostile.run(code=1))["Users"]
    assert (users["in_doubt"], users["rejected"]) == (2, 0)
    assert "breaks off" in users["error"]


# A page where JSON was expected


def test_an_html_page_where_json_was_expected_is_pointed_out_with_its_title(hostile: Project, raw: RawAPI) -> None:
    """A 200 is believed without `results`; the report says once what came, and shows no control characters of it."""
    raw.script("/users", [whole("200 OK", HTML)])
    hostile.users(6)
    hostile.entity(batch_size=2)
    hostile.write()
    finished = hostile.cli("run", hostile.file)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("an HTML page") == 1
    assert "HTTP 200 with an HTML page ('Log in & go\\x1b[31m') where JSON was expected" in finished.stdout
    assert len(hostile.tracked()) == 6


def test_expect_json_makes_a_2xx_that_is_no_json_a_failure_in_doubt(hostile: Project, raw: RawAPI) -> None:
    """The endpoint is left for the run: every other batch would meet the same page."""
    found = play(
        hostile,
        raw,
        {
            "a page": [[whole("200 OK", HTML)]],
            "a page without a title": [[whole("200 OK", b"\xef\xbb\xbf <html><body>no")]],
            "text": [[whole("202 Accepted", b"OK")]],
            "nothing": [[whole("200 OK", b"")]],
            "NaN": [[whole("200 OK", b'{"x": NaN}')]],
            "deep": [[whole("200 OK", b"[" * 100_000)]],
            "JSON": [[whole("200 OK", b" null ")]],
            "204": [[b"HTTP/1.1 204 No Content\r\n\r\n"]],
        },
        expect="json",
    )
    accepted = {"JSON": 2, "204": 2}
    assert {case: entity["accepted"] for case, entity in found.items()} == {**dict.fromkeys(found, 0), **accepted}
    for case, entity in found.items():
        if case not in accepted:
            assert entity["in_doubt"] == 2, case
            assert "where JSON was expected (api.expect); the endpoint is left for this run" in entity["error"]
    assert "an HTML page ('Log in" in found["a page"]["error"]
    assert "an empty body" in found["nothing"]["error"]


def test_a_page_is_in_doubt_in_each_attempt_and_the_json_behind_it_settles_the_batch(
    hostile: Project, raw: RawAPI
) -> None:
    hostile.spec["api"] |= {"expect": "json"}
    hostile.spec["api"]["retry"]["attempts"] = 2
    raw.script("/users", [whole("200 OK", HTML)], [whole()])
    hostile.users(2)
    hostile.entity()
    users = entities(hostile.run())["Users"]
    assert (users["accepted"], users["calls"]) == (2, 2)
    assert len({request.headers["idempotency-key"] for request in raw.of("/users")}) == 1


# Lines without end


@pytest.mark.parametrize("letter", ["A", "<", "(", "[Errno 1", " ", "HTTP/1.1 200 ", "<a object at 0x"])
def test_a_status_line_of_65000_characters_takes_no_time(raw: RawAPI, letter: str) -> None:
    line = (letter * 65_000)[:65_000].encode()
    raw.script("/x", [line + b"\r\n\r\n"], [b"HTTP/1.1 200 " + line + b"\r\nContent-Length: x\r\n\r\n"])
    began = time.process_time()
    with calling(raw.url, timeout=5.0) as caller:
        made = [caller.call("POST", caller.url("/x"), b"[]", "key-1") for _ in range(2)]
    assert time.process_time() - began < 1.0
    assert all(isinstance(one, NoAnswer) and one.sent and len(one.reason) < 300 for one in made), made


def test_a_run_survives_lines_of_65000_characters(hostile: Project, raw: RawAPI) -> None:
    long = b"(a" * 32_500
    found = play(
        hostile,
        raw,
        {
            "a status line": [[long + b"\r\n\r\n"]],
            "a reason phrase": [[b"HTTP/1.1 200 " + long + b"\r\nContent-Length: 2\r\n\r\n{}"]],
            "a header": [[b"HTTP/1.1 503 No\r\nRetry-After: " + long + b"\r\nContent-Length: 2\r\n\r\n{}"]],
            "a length": [[b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 65_000 + b"\r\n\r\n{}"]],
            "a line of 70,000": [[b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"]],
            "very many headers": [[b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"]],
        },
    )
    assert sum(entity["seconds"] for entity in found.values()) < 10
    assert found["a reason phrase"]["accepted"] == 2
    assert found["a header"]["failed"] == 2
    assert [entity["in_doubt"] for entity in found.values()] == [2, 0, 0, 2, 2, 2]
