"""`receive --script`: each fault against a plain client that can see the wire, and against a real run."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.faultapi import FaultAPI
from tests.project import ROOT, Project, check_sums

SLACK = 2.0
"""Seconds that a busy machine may add."""
TALLY = {"calls", "records", "distinct", "doubled", "replayed_keys"}
RESULTS = {
    "path": "items",
    "id": "Id",
    "accepted": "status == 'ok'",
    "retryable": "status == 'busy'",
    "reason": "error",
}


class Receiver:
    """`syncledger receive` as a process."""

    def __init__(self, folder: Path, script: str | None, *more: str) -> None:
        arguments = ["--port", "0", *more]
        if script is not None:
            (folder / "faults.yaml").write_text(script, encoding="utf-8")
            arguments += ["--script", "faults.yaml"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine", "receive", *arguments],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8",
        )  # fmt: skip
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate(timeout=20)
            raise AssertionError(f"receive ended with {self.process.returncode}: {errors}")
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def tally(self, path: str = "/users") -> dict[str, int]:
        """What arrived at a path so far."""
        with urllib.request.urlopen(self.url) as shown:
            found: dict[str, int] = json.load(shown).get(path, dict.fromkeys(TALLY, 0))
        return found

    def post(self, *ids: int, path: str = "/users", key: str | None = None, timeout: float = 20) -> requests.Response:
        """A batch with these IDs."""
        headers = {"Idempotency-Key": key} if key else {}
        return requests.post(f"{self.url}{path}", json=[{"Id": id_} for id_ in ids], headers=headers, timeout=timeout)

    def stop(self) -> tuple[int, dict[str, Any], str]:
        """End it as a user does; gives its exit code, its last words and its errors."""
        self.process.send_signal(signal.SIGINT)
        output, errors = self.process.communicate(timeout=20)
        return self.process.returncode, json.loads(output), errors

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.communicate()


Receive = Callable[..., Receiver]


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Receive]:
    """Starts receivers with a script."""
    started: list[Receiver] = []

    def start(script: str | None = None, *more: str) -> Receiver:
        started.append(Receiver(tmp_path, script, *more))
        return started[-1]

    yield start
    for receiver in started:
        receiver.kill()


@pytest.fixture
def sender(tmp_path: Path) -> Callable[[Receiver], Project]:
    """Makes a project of ten users, in batches of five, whose API is a receiver."""

    def make(receiver: Receiver) -> Project:
        project = Project(tmp_path / "project", receiver.url)
        project.users(10)
        project.entity(batch_size=5, reject_delay="0s")
        project.spec["api"] |= {"timeout": "1s", "retry": {"attempts": 3, "wait": "10ms", "max_wait": "1s"}}
        return project

    return make


def entity_of(report: dict[str, Any]) -> dict[str, Any]:
    """The one entity of a run's document, whose counts add up."""
    check_sums(report)
    (entity,) = report["entities"]
    found: dict[str, Any] = entity
    return found


# On the wire

SCRIPT = """\
/statuses:
  - { status: 503, times: 2, headers: { Retry-After: "7", X-Why: tired }, body: later }
  - { status: 201, body: { made: [1, 2] } }
  - { status: 404 }
/own: [{ status: 202 }]
"*": [{ status: 418, times: 2 }, { status: 429 }]
/stored-500: [{ status: 500, store: true }]
/plain-500: [{ status: 500 }]
/unstored-500: [{ status: 500, store: false }]
/unstored-200: [{ status: 200, store: false }]
/redirected: [{ status: 302 }]
/choices: [{ status: 300 }]
/usual: [{}]
/keys: [{ status: 503 }, { status: 500, store: true }, {}]
/turned-away: [{ status: 503 }, {}]
/delayed: [{ delay: 600ms }, { delay: 0.5s, status: 429 }]
/cut: [{ cut: before, times: 2 }, { cut: before, store: false, times: 2 }]
/half: [{ cut: body }, { cut: body, status: 500, store: false }]
/dripping: [{ drip: 50ms }, {}]
/refusing: [{ refuse: [3, "7"] }]
/refusing-400: [{ refuse: [3], status: 400, body: { error: three } }]
/verdicts: [{ status: 207, verdicts: { rejected: [1], busy: [2], left_out: [3], wrong: [99] } }]
/verdicts-lost: [{ verdicts: { rejected: [1] }, cut: before }, { verdicts: { rejected: [] } }]
/all-accepted: [{ verdicts: {} }]
/raw: [{ raw: "HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{\\xff" }, { raw: "nonsense\\n", close: true }]
/raw-parts: [{ raw: ["HTTP/1.1 102 Processing\\r\\n\\r\\n", { pause: 300ms }, "HTTP/1.1 204 No Content\\r\\n\\r\\n"], close: true }]
/interim: [{ interim: [102, 103, 199], delay: 200ms, close: true }]
/cut-status: [{ cut: status }]
/cut-headers: [{ cut: headers, store: false }]
/cut-chunk: [{ cut: chunk }]
/gzip: [{ gzip: whole, close: true, body: "aaaa" }, { gzip: cut, close: true }, { gzip: trailing, close: true }]
/length: [{ headers: { Content-Length: "-5" } }, { headers: { content-length: "abc" } }]
"""
"""Each path belongs to one test, so that one receiver does for all of them."""


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver with `SCRIPT`."""
    receiver = Receiver(tmp_path_factory.mktemp("receiver"), SCRIPT)
    yield receiver
    receiver.kill()


def test_statuses_headers_and_bodies_hold_for_so_many_calls_and_the_last_step_stays(scripted: Receiver) -> None:
    answers = [scripted.post(1, path="/statuses") for _ in range(5)]
    assert [found.status_code for found in answers] == [503, 503, 201, 404, 404]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[1].headers["X-Why"] == "tired"
    assert answers[0].text == "later"
    assert answers[2].json() == {"made": [1, 2]}
    assert "Retry-After" not in answers[2].headers
    assert scripted.tally("/statuses")["records"] == 1, "of these only the 201 stores"


def test_a_star_is_every_path_that_has_no_steps_of_its_own(scripted: Receiver) -> None:
    assert [scripted.post(1, path="/own").status_code for _ in range(2)] == [202, 202]
    assert [scripted.post(1, path=path).status_code for path in ("/a", "/b", "/c")] == [418, 418, 429], (
        "the other paths share the steps of the star"
    )


@pytest.mark.parametrize(
    ("path", "status", "stored"),
    [
        ("/stored-500", 500, 2),
        ("/plain-500", 500, 0),
        ("/unstored-500", 500, 0),
        ("/unstored-200", 200, 0),
        ("/redirected", 302, 0),
        ("/choices", 300, 0),
        ("/usual", 200, 2),
    ],
)
def test_store_says_whether_records_count_whatever_the_answer(
    scripted: Receiver, path: str, status: int, stored: int
) -> None:
    assert scripted.post(1, 2, path=path).status_code == status
    assert scripted.tally(path)["records"] == stored


def test_a_call_that_stored_nothing_leaves_its_key_free(scripted: Receiver) -> None:
    assert [scripted.post(1, 2, path="/keys", key="k").status_code for _ in range(3)] == [503, 500, 200]
    tally = scripted.tally("/keys")
    assert (tally["records"], tally["doubled"], tally["replayed_keys"]) == (2, 0, 1)


def test_calls_counts_what_arrived_also_where_nothing_was_stored(scripted: Receiver) -> None:
    scripted.post(1, path="/turned-away")
    scripted.post(1, path="/turned-away")
    assert scripted.tally("/turned-away")["calls"] == 2


def test_a_request_whose_body_is_cut_is_no_request(scripted: Receiver, api: FaultAPI) -> None:
    """A client that dies while it sends has sent nothing: neither the receiver nor the API of the tests may count it."""
    head = b"POST /cut-request HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    for port in (scripted.port, api.server_port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(head + b'[{"Id": 1}')
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1000) == b"", "closed without an answer"
    assert scripted.tally("/cut-request")["calls"] == 0
    assert api.of("/cut-request") == []


def test_delay_waits_before_the_answer_and_the_records_count_at_once(scripted: Receiver) -> None:
    with pytest.raises(requests.Timeout):
        scripted.post(1, path="/delayed", timeout=0.2)
    assert scripted.tally("/delayed")["records"] == 1
    began = time.monotonic()
    assert scripted.post(2, path="/delayed").status_code == 429
    assert 0.5 <= time.monotonic() - began < 0.5 + SLACK


def test_cut_before_resets_the_connection_before_a_byte_of_the_answer(scripted: Receiver) -> None:
    for number in range(2):
        with socket.create_connection(("127.0.0.1", scripted.port), timeout=10) as client:
            client.sendall(b'POST /cut HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n[{"Id": %d}]' % number)
            with pytest.raises(ConnectionResetError):
                client.recv(1000)
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            scripted.post(5, path="/cut")
    tally = scripted.tally("/cut")
    assert (tally["records"], tally["distinct"]) == (2, 2), "it counts as stored unless the script says no"


def test_cut_body_ends_the_answer_before_the_length_it_promised(scripted: Receiver) -> None:
    for status in (200, 500):
        client = http.client.HTTPConnection("127.0.0.1", scripted.port, timeout=10)
        client.request("POST", "/half", b'[{"Id": 1}]')
        answered = client.getresponse()
        assert answered.status == status
        with pytest.raises(http.client.IncompleteRead) as broken:
            answered.read()
        assert broken.value.partial
        client.close()
    assert scripted.tally("/half")["records"] == 1


def test_drip_gives_a_byte_now_and_then_and_never_ends(scripted: Receiver) -> None:
    began, arrived = time.monotonic(), 0
    with requests.post(f"{scripted.url}/dripping", json=[{"Id": 1}], stream=True, timeout=5) as answered:
        assert answered.status_code == 200
        for _ in answered.iter_content(1):
            arrived += 1
            if arrived == 6:
                break
    assert arrived == 6
    assert time.monotonic() - began >= 0.05 * 5
    assert scripted.tally("/dripping")["records"] == 1
    assert scripted.post(2, path="/dripping").status_code == 200, "the others go on"


def test_refuse_holds_for_batches_with_one_of_the_ids_and_422_is_its_status(scripted: Receiver) -> None:
    assert scripted.post(1, 2, path="/refusing").json() == {"stored": 2}
    assert scripted.post(2, 3, path="/refusing").status_code == 422
    assert scripted.post(7, path="/refusing").status_code == 422
    assert scripted.post(33, path="/refusing").status_code == 200
    assert scripted.tally("/refusing")["records"] == 3
    found = scripted.post(3, path="/refusing-400")
    assert (found.status_code, found.json()) == (400, {"error": "three"})


def test_verdicts_name_each_record_and_store_all_but_the_refused_ones(scripted: Receiver) -> None:
    answered = scripted.post(1, 2, 3, 4, path="/verdicts")
    assert answered.status_code == 207
    items = {item["Id"]: (item["status"], item["error"]) for item in answered.json()["items"]}
    assert items == {
        "1": ("rejected", "refused by the script"),
        "2": ("busy", "try again later"),
        "4": ("ok", None),
        "99": ("ok", None),
    }
    assert scripted.tally("/verdicts")["distinct"] == 2, "those that are left out count as stored"


def test_a_record_that_a_replayed_key_calls_accepted_was_stored(scripted: Receiver) -> None:
    with pytest.raises(requests.ConnectionError):
        scripted.post(1, 2, path="/verdicts-lost", key="v")
    items = scripted.post(1, 2, path="/verdicts-lost", key="v").json()["items"]
    accepted = [item["Id"] for item in items if item["status"] == "ok"]
    assert len(accepted) == scripted.tally("/verdicts-lost")["distinct"]


def test_empty_verdicts_accept_every_record_by_name(scripted: Receiver) -> None:
    assert [item["Id"] for item in scripted.post(1, 2, path="/all-accepted").json()["items"]] == ["1", "2"]


def _bytes(receiver: Receiver, path: str, *requests: bytes) -> bytes:
    """All that comes back over one connection until the server ends it."""
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as client:
        for request in requests or (b'Content-Length: 11\r\n\r\n[{"Id": 1}]',):
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode() + request)
        found = b""
        while part := client.recv(65536):
            found += part
    return found


def test_raw_is_exactly_what_is_sent_and_the_connection_goes_on_unless_it_is_closed(scripted: Receiver) -> None:
    request = b'Content-Length: 11\r\n\r\n[{"Id": 1}]'
    found = _bytes(scripted, "/raw", request, request)
    assert found == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{\xffnonsense\n"
    began = time.monotonic()
    parts = _bytes(scripted, "/raw-parts")
    assert parts == b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    assert time.monotonic() - began >= 0.3
    assert scripted.tally("/raw")["records"] == 2


def test_interim_statuses_come_before_the_answer(scripted: Receiver) -> None:
    found = _bytes(scripted, "/interim")
    before, _, after = found.partition(b"HTTP/1.1 200 OK\r\n")
    assert before == b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 199 Interim\r\n\r\n"
    assert after.endswith(b'{"stored":1}')


@pytest.mark.parametrize(
    ("path", "end"),
    [("/cut-status", b"HTTP/1.1 200"), ("/cut-headers", b"\r\nContent-Le"), ("/cut-chunk", b'\r\n\r\n10\r\n{"sto')],
)
def test_an_answer_is_cut_where_the_script_says(scripted: Receiver, path: str, end: bytes) -> None:
    found = _bytes(scripted, path)
    assert found.startswith(b"HTTP/1.1 200")
    assert found.endswith(end)
    assert scripted.tally(path)["records"] == (0 if path == "/cut-headers" else 1)


def test_packed_answers_are_whole_cut_or_followed_by_something(scripted: Receiver) -> None:
    whole, cut, trailing = (_bytes(scripted, "/gzip").partition(b"\r\n\r\n") for _ in range(3))
    assert b"Content-Encoding: gzip" in whole[0]
    assert gzip.decompress(whole[2]) == b"aaaa"
    with pytest.raises(EOFError):
        gzip.decompress(cut[2])
    assert trailing[2].endswith(b"garbage")


def test_a_length_among_the_headers_is_sent_as_it_is(scripted: Receiver) -> None:
    for text in (b"Content-Length: -5\r\n", b"content-length: abc\r\n"):
        found = _bytes(scripted, "/length")
        assert text in found
        assert found.lower().count(b"content-length") == 1


BOMB = gzip.compress(b"\0" * 10_000_000) * 30
"""Several gzip bodies in a row are one (RFC 1952 section 2.2): 300 MB from 300 kB."""


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (b"Content-Length: -5\r\n\r\n", 400, b"'-5' is not a whole number"),
        (b"Content-Length: abc\r\n\r\n", 400, b"'abc' is not a whole number"),
        (b"Content-Length: 1e3\r\n\r\n", 400, b"not a whole number"),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413, b"larger than"),
        (b"Content-Length: 999999999999\r\n\r\n", 413, b"larger than"),
        (b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n0\r\n\r\n", 411, b"Content-Length"),
        (b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB, 413, b"when it is unpacked"),
        (b"Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]", 400, b"not gzip"),
        (b"Connection: close\r\nContent-Length: 2\r\n\r\n[}", 400, b"not JSON"),
    ],
    ids=["below zero", "letters", "exponent", "5000 digits", "huge", "chunks", "bomb", "no gzip", "no JSON"],
)
def test_a_request_that_is_absurd_is_answered_at_once_and_closed(
    scripted: Receiver, request_: bytes, status: int, reason: bytes
) -> None:
    found = _bytes(scripted, "/absurd", request_)
    assert found.startswith(f"HTTP/1.1 {status} ".encode())
    assert reason in found
    assert scripted.tally("/absurd")["calls"] == 0


def test_without_a_script_every_call_is_accepted_and_another_field_may_name_the_records(receive: Receive) -> None:
    receiver = receive(None, "--id", "Code")
    for body in ({"items": [{"Code": "a"}]}, [{"Code": "b"}]):
        answered = requests.post(f"{receiver.url}/users", json=body, timeout=20)
        assert (answered.status_code, answered.json()) == (200, {"stored": 1})
    assert receiver.tally()["distinct"] == 2


def test_it_ends_at_once_and_says_what_arrived_even_while_answers_are_slow(receive: Receive) -> None:
    receiver = receive("/users: [{ delay: 1h }, { drip: 20ms }]\n")
    clients = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(2)]
    for number, client in enumerate(clients, 1):
        client.sendall(b'POST /users HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n[{"Id": 1}]')
        while receiver.tally()["records"] < number:
            time.sleep(0.01)
    began = time.monotonic()
    code, tallies, errors = receiver.stop()
    for client in clients:
        client.close()
    assert time.monotonic() - began < 2 + SLACK
    assert code == 0
    assert set(tallies["/users"]) == TALLY
    assert tallies["/users"]["records"] == 2
    assert "Traceback" not in errors


# Scripts that are wrong

WRONG = """\
/a:
  - { status: 503 }
  - status: "503"
  - status: 99
  - times: 0
  - delay: 3
  - delay: 3 days
  - cut: after
  - headers: { Retry-After: 2 }
  - store: "yes"
  - refuse: 17
  - drip: [1s]
  - verdicts: { rejected: 1 }
/b: []
/c: { status: 503 }
"""


def test_everything_that_is_wrong_with_a_script_is_said_at_once_with_its_place(tmp_path: Path) -> None:
    ended = _ended(tmp_path, WRONG)
    assert ended.returncode == 2
    assert ended.stdout == ""
    places = {
        "3:13": "integer",
        "4:13": "99",
        "5:12": "0",
        "6:12": "string",
        "7:12": "3 days",
        "8:10": "after",
        "9:29": "string",
        "10:12": "boolean",
        "11:13": "array",
        "12:11": "string",
        "13:27": "array",
        "14:5": "",
        "15:5": "array",
    }
    lines = ended.stderr.splitlines()
    assert len(lines) == len(places), ended.stderr
    for line, (place, word) in zip(lines, places.items(), strict=False):
        assert line.startswith(f"faults.yaml:{place}: "), ended.stderr
        assert word in line


@pytest.mark.parametrize(
    ("script", "place", "words"),
    [
        ("/users:\n  - { statsu: 503 }\n", "2:", "statsu"),
        ("/users:\n  - verdicts: { rejekted: [1] }\n", "2:", "rejekted"),
        ("- status: 503\n", "1:1", "object"),
        ("", "1:1", ""),
        ("/users:\n  - { status: 503\n", "", ""),
        ("/users:\n  - {}\n/users:\n  - {}\n", "3:1", "/users"),
        ("/users:\n  - raw: [a, { pause: 99999999999999h }]\n", "2:", "the longest duration is 366 days"),
        ('/users:\n  - raw: "\\u0100"\n', "2:", ""),
    ],
)
def test_a_script_that_is_wrong_ends_it_with_2_and_the_place(
    tmp_path: Path, script: str, place: str, words: str
) -> None:
    ended = _ended(tmp_path, script)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    lines = [line for line in ended.stderr.splitlines() if line.startswith("faults.yaml:")]
    assert any(line.startswith(f"faults.yaml:{place}") and words in line for line in lines), ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_unknown_key_is_named_at_its_place_with_a_suggestion_as_in_a_spec(tmp_path: Path) -> None:
    ended = _ended(tmp_path, "/users:\n  - status: 503\n    tims: 2\n")
    assert ended.stderr.startswith("faults.yaml:3:5: ")
    assert "did you mean 'times'" in ended.stderr


def test_a_script_that_is_not_there_ends_it_with_2(tmp_path: Path) -> None:
    for name in ("missing.yaml", "."):
        ended = _ended(tmp_path, None, name)
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"{name}:1:1: ")


def test_a_port_that_is_taken_ends_it_with_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = _receive(tmp_path, "--port", str(taken.getsockname()[1]))
    assert ended.returncode == 2
    assert "cannot be used" in ended.stderr


def _ended(folder: Path, script: str | None, name: str = "faults.yaml") -> subprocess.CompletedProcess[str]:
    if script is not None:
        (folder / name).write_text(script, encoding="utf-8")
    return _receive(folder, "--port", "0", "--script", name)


def _receive(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine", "receive", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


# Against a run


PASSING = {
    '{ status: 503, headers: { Retry-After: "0" } }': 3,
    "{ status: 429 }": 3,
    "{ status: 500, store: true }": 3,
    "{ status: 500, times: 2 }": 4,
    "{ store: true, cut: before }": 3,
    "{ store: false, cut: before }": 3,
    "{ cut: body }": 3,
    "{ delay: 1500ms }": 3,
    "{ drip: 50ms }": 3,
    "{ cut: status }": 3,
    "{ cut: headers }": 3,
    "{ cut: chunk }": 3,
    "{ gzip: cut }": 3,
    "{ gzip: trailing }": 3,
    '{ headers: { Content-Length: "abc" } }': 3,
    "{ interim: [101] }": 3,
    '{ raw: "HTTP/1.1 102 Processing\\r\\n\\r\\n", close: true }': 3,
    "{ interim: [102, 103], delay: 50ms, times: 2 }": 2,
}
"""First steps that the second attempt, or the third, gets over, and the calls that a run of two batches makes."""


def test_a_passing_fault_is_overcome_within_the_run_and_nothing_doubled(
    receive: Receive, sender: Callable[[Receiver], Project]
) -> None:
    paths = {f"/users{number}": step for number, step in enumerate(PASSING)}
    receiver = receive("".join(f"{path}: [{step}, {{}}]\n" for path, step in paths.items()))
    project = sender(receiver)
    (one,) = project.spec["entities"]
    project.spec["entities"] = [{**one, "name": f"Users{path[6:]}", "endpoint": path} for path in paths]
    report = project.run()
    check_sums(report)
    for entity, (path, step) in zip(report["entities"], paths.items(), strict=False):
        assert (entity["accepted"], entity["calls"]) == (10, PASSING[step]), step
        tally = receiver.tally(path)
        assert (tally["records"], tally["distinct"], tally["doubled"]) == (10, 10, 0), step
        assert len(project.tracked(entity["name"])) == 10, step


def test_a_long_fault_leaves_the_batch_in_doubt_and_the_next_run_settles_it(
    receive: Receive, sender: Callable[[Receiver], Project]
) -> None:
    receiver = receive("/users: [{ status: 500, store: true, times: 3 }, {}]\n")
    project = sender(receiver)
    entity = entity_of(project.run(code=1))
    assert (entity["in_doubt"], entity["accepted"]) == (5, 5)
    entity = entity_of(project.run())
    assert (entity["settled"], entity["excluded"]) == (5, 10)
    tally = receiver.tally()
    assert (tally["records"], tally["doubled"], tally["replayed_keys"]) == (10, 0, 3)


def test_a_refusal_is_isolated_to_its_records(receive: Receive, sender: Callable[[Receiver], Project]) -> None:
    receiver = receive("/users: [{ refuse: [3, 9], body: { error: bad } }]\n")
    project = sender(receiver)
    entity = entity_of(project.run(code=1))
    assert (entity["accepted"], entity["rejected"]) == (8, 2)
    assert set(project.rejects()) == {"3", "9"}
    assert "bad" in project.rejects()["3"]
    assert receiver.tally()["records"] == 8


def test_verdicts_are_read_record_by_record(receive: Receive, sender: Callable[[Receiver], Project]) -> None:
    receiver = receive("""\
/users:
  - { status: 207, times: 2, verdicts: { rejected: [3], busy: [5], left_out: [6], wrong: [99] } }
  - { verdicts: { rejected: [] } }
""")
    project = sender(receiver)
    project.spec["entities"][0]["results"] = RESULTS
    entity = entity_of(project.run(code=1))
    assert (entity["accepted"], entity["rejected"], entity["in_doubt"]) == (7, 2, 1)
    assert project.rejects() == {"3": "refused by the script", "5": "try again later"}
    assert "99" in entity["error"]
    assert project.tracked() == ["1", "2", "4", "7", "8", "9", "10"]
    entity = entity_of(project.run())
    assert entity["accepted"] == 3
    assert receiver.tally()["distinct"] == 10


def test_a_fault_of_every_path_meets_each_entity(receive: Receive, sender: Callable[[Receiver], Project]) -> None:
    receiver = receive('"*": [{ status: 400 }]\n/orgs: [{}]\n')
    project = sender(receiver)
    project.users(2, table="Orgs")
    project.entity("Orgs")
    report = project.run(code=1)
    assert [entity["accepted"] for entity in report["entities"]] == [0, 2]
    assert [entity["rejected"] for entity in report["entities"]] == [10, 0]
