"""A refused batch is taken apart until its bad records stand alone, and every good one beside them arrives."""

from __future__ import annotations

import json
import math
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.sync.model import Batch, Entity, Outcome, Rejection
from engine.sync.payload import content_hash, joined, records
from engine.sync.send import chunk
from engine.sync.send.isolation import HOPELESS, Isolation
from tests import builders
from tests.faultapi import Behaviour, FaultAPI, Handler, Request, answer, when
from tests.project import ROOT, Project, check_sums

REASON = 'HTTP 422 Unprocessable Entity: {"error": "bad record"}'


@dataclass
class Partner:
    """An API that refuses a whole batch when one of its records is bad, and honours the idempotency key."""

    bad: set[Any]
    status: int = 422
    key: Callable[[dict[str, Any]], Any] = lambda record: record["Id"]
    stored: Counter[Any] = field(default_factory=Counter)
    answers: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def behaviour(self) -> Behaviour:
        def behave(handler: Handler, request: Request) -> None:
            name = request.headers["idempotency-key"]
            with self.lock:
                if name not in self.answers:
                    ids = [self.key(record) for record in request.records]
                    self.answers[name] = 200 if self.bad.isdisjoint(ids) else self.status
                    if self.answers[name] == 200:
                        self.stored.update(ids)
                status = self.answers[name]
            answer(status, {} if status == 200 else {"error": "bad record"})(handler, request)

        return behave


def refuse(*bad: int, status: int = 422) -> Behaviour:
    """Refuse every batch that holds one of these records."""
    return when(lambda request: any(record["Id"] in bad for record in request.records), answer(status))


def users(report: dict[str, Any]) -> dict[str, Any]:
    check_sums(report)
    (found,) = report["entities"]
    return dict(found)


def sizes(api: FaultAPI) -> list[int]:
    return [len(request.records) for request in api.of("/users")]


def keys(api: FaultAPI) -> list[str]:
    return [request.headers["idempotency-key"] for request in api.of("/users")]


def check_journal(project: Project, api: FaultAPI, report: dict[str, Any]) -> None:
    """Every call is logged, and every piece is a batch of the journal under a key of its own."""
    calls = api.of("/users")
    assert users(report)["calls"] == len(project.log_rows()) == len(calls)
    rows = project.ledger("SELECT IdempotencyKey, RecordIds, State, Payload FROM TB_R_SYNC_BATCH")
    kept = {key: json.loads(ids) for key, ids, _, _ in rows}
    sent = {request.headers["idempotency-key"]: [str(record["Id"]) for record in request.records] for request in calls}
    assert len(sent) == len(calls), "no key was used twice"
    assert kept == sent
    assert {state for _, _, state, _ in rows} <= {"settled", "failed"}
    assert {payload for _, _, _, payload in rows} == {None}


# Who is bad, and where


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("bad", [{1}, {8}, {5}, {4, 5}], ids=["first", "last", "middle", "neighbours"])
def test_the_bad_records_of_a_batch_are_found_and_the_good_ones_arrive_once(
    project: Project, api: FaultAPI, bad: set[int], in_flight: int
) -> None:
    project.spec["api"]["in_flight"] = in_flight
    project.users(8)
    project.entity()
    partner = Partner(bad)
    api.script("/users", partner.behaviour())
    report = project.run(code=1)
    found = users(report)
    assert (found["accepted"], found["rejected"], found["failed"]) == (8 - len(bad), len(bad), 0)
    assert partner.stored == Counter(set(range(1, 9)) - bad)
    assert set(map(int, project.tracked())) == set(range(1, 9)) - bad
    assert project.rejects() == {str(id_): REASON for id_ in bad}
    assert len(api.of("/users")) <= 1 + 4 * 3 * len(bad)
    check_journal(project, api, report)


def test_several_batches_with_bad_records_are_taken_apart_side_by_side(project: Project, api: FaultAPI) -> None:
    bad = {1, 20, 21, 48}
    project.spec["api"]["in_flight"] = 4
    project.users(48)
    project.entity(batch_size=12)
    partner = Partner(bad)
    api.script("/users", partner.behaviour())
    report = project.run(code=1)
    assert (users(report)["accepted"], users(report)["rejected"]) == (44, 4)
    assert partner.stored == Counter(set(range(1, 49)) - bad)
    assert set(map(int, project.rejects())) == bad
    check_journal(project, api, report)


def test_a_search_is_told_call_by_call_in_the_log_and_the_journal(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity()
    api.script("/users", Partner({4}).behaviour())
    project.run(code=1)
    rows = project.log_rows()
    told = [(row["status"], row["information"]["BatchSize"], row["information"]["HttpResponseCode"]) for row in rows]
    assert Counter(told) == Counter(
        [("Failure", 4, 422), ("Failure", 2, 422), ("Failure", 1, 422), ("Success", 2, 200), ("Success", 1, 200)]
    )
    assert all(row["exception"] == REASON for row in rows if row["status"] == "Failure")
    states = dict(project.ledger("SELECT RecordIds, State FROM TB_R_SYNC_BATCH"))
    assert states == {
        '["1","2","3","4"]': "failed",
        '["1","2"]': "settled",
        '["3","4"]': "failed",
        '["3"]': "settled",
        '["4"]': "settled",
    }
    reasons = dict(project.ledger("SELECT RecordIds, Reason FROM TB_R_SYNC_BATCH"))
    assert "split in halves" in reasons['["1","2","3","4"]']
    ((batch,),) = project.ledger("SELECT BatchId FROM TB_R_SYNC_BATCH WHERE RecordIds = '[\"4\"]'")
    assert project.ledger("SELECT BatchId, HttpResponseCode FROM TB_R_SYNC_REJECT") == [(batch, 422)]


def test_a_batch_of_one_record_needs_no_search(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity()
    api.script("/users", answer(422, {"error": "bad record"}))
    found = users(project.run(code=1))
    assert (found["rejected"], found["calls"]) == (1, 1)
    assert project.rejects() == {"1": REASON}


@pytest.mark.parametrize(
    ("status", "keys", "split"),
    [
        (400, {}, True),
        (413, {}, True),
        (422, {}, True),
        (409, {}, False),
        (418, {}, False),
        (418, {"isolate": [418]}, True),
        (422, {"isolate": [418]}, False),
        (422, {"isolate": []}, False),
        (503, {}, False),
    ],
)
def test_only_the_statuses_of_isolate_take_a_batch_apart(
    project: Project, api: FaultAPI, status: int, keys: dict[str, Any], split: bool
) -> None:
    project.users(4)
    project.entity(**keys)
    api.script("/users", refuse(2, status=status))
    found = users(project.run(code=1))
    assert (found["accepted"], found["rejected"], found["failed"]) == ((3, 1, 0) if split else (0, 0, 4))
    assert (min(sizes(api)) == 1) is split


def test_a_search_goes_on_below_a_passing_fault(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity()
    api.script("/users", answer(503), refuse(1), answer(503), answer(429), refuse(1))
    report = project.run(code=1)
    found = users(report)
    # Both attempts of the first half went wrong: it fails, and its bad record is found by the next run.
    assert (found["accepted"], found["rejected"], found["failed"]) == (2, 0, 2)
    again = users(project.run(code=1))
    assert (again["accepted"], again["rejected"], again["excluded"]) == (1, 1, 2)
    assert list(project.rejects()) == ["1"]


def test_without_a_key_header_a_batch_is_taken_apart_as_well(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["idempotency_header"] = None
    project.users(4)
    project.entity()
    api.script("/users", refuse(3))
    found = users(project.run(code=1))
    assert (found["accepted"], found["rejected"]) == (3, 1)


def test_verdicts_and_isolation_find_the_same_records_together(project: Project, api: FaultAPI) -> None:
    def judge(handler: Handler, request: Request) -> None:
        told = [
            {"Id": record["Id"], "ok": record["Id"] != 6, "why": "verdict"}
            for record in request.records
            if record["Id"] != 7
        ]
        broken = any(record["Id"] == 2 for record in request.records)
        (answer(422, {"error": "bad record"}) if broken else answer(207, told))(handler, request)

    project.users(8)
    project.entity(results={"path": "@", "accepted": "ok", "reason": "why"})
    api.script("/users", judge)
    found = users(project.run(code=1))
    assert (found["accepted"], found["rejected"], found["in_doubt"]) == (5, 2, 1)
    assert project.rejects() == {"2": REASON, "6": "verdict"}
    assert project.ledger("SELECT RecordIds FROM TB_R_SYNC_BATCH WHERE State = 'in_doubt'") == [('["7"]',)]


# The budget


def each_in_its_own_words(handler: Handler, request: Request) -> None:
    answer(400, f"{len(request.records)} from {request.records[0]['Id']} on: no")(handler, request)


def test_a_batch_that_is_bad_throughout_is_given_up_after_50_bad_records(project: Project, api: FaultAPI) -> None:
    project.users(130)
    project.entity()
    api.script("/users", each_in_its_own_words)
    report = project.run(code=1)
    found = users(report)
    assert HOPELESS <= found["rejected"] < 60
    assert found["rejected"] + found["failed"] == 130
    assert found["calls"] < 130
    assert "waits for the next run" in found["error"]
    check_journal(project, api, report)
    again = users(project.run("--limit", "2", code=1))
    assert (again["rejected"], again["calls"]) == (2, 3), "the next run goes on with those that were left"


def test_a_search_without_calls_waits_for_the_next_run_that_goes_on(project: Project, api: FaultAPI) -> None:
    project.users(8)
    project.entity(isolate_calls=2)
    partner = Partner({1})
    api.script("/users", partner.behaviour())
    for left, waits in ((4, True), (2, True), (0, False)):
        found = users(project.run(code=1))
        assert found["calls"] == 3
        assert found["failed"] == left
        assert ("waits for the next run" in (found["error"] or "")) is waits
    assert list(project.rejects()) == ["1"]
    assert partner.stored == Counter(range(2, 9))


def test_three_bad_records_of_32_are_found_by_one_run(project: Project, api: FaultAPI) -> None:
    project.users(32)
    project.entity()
    api.script("/users", refuse(12, 15, 20))
    found = users(project.run(code=1))
    assert (found["accepted"], found["rejected"], found["failed"]) == (29, 3, 0)


@pytest.mark.parametrize(("allowed", "calls"), [(0, 1), (1, 1), (2, 3), (3, 3), (4, 5), (100, 7)])
def test_isolate_calls_is_the_most_a_search_takes(project: Project, api: FaultAPI, allowed: int, calls: int) -> None:
    project.users(8)
    project.entity(isolate_calls=allowed)
    api.script("/users", refuse(8))
    found = users(project.run(code=1))
    assert found["calls"] == calls
    assert found["rejected"] == (1 if calls == 7 else 0)


# Too large


def test_a_batch_too_large_is_cut_and_everything_arrives(project: Project, api: FaultAPI) -> None:
    project.users(60)
    project.entity(batch_size=30)
    api.script("/users", when(lambda request: len(request.records) > 8, answer(413)))
    report = project.run()
    assert users(report)["accepted"] == 60
    assert sorted(map(int, project.tracked())) == list(range(1, 61))
    assert project.rejects() == {}
    check_journal(project, api, report)


def test_what_one_entity_has_learned_of_sizes_says_nothing_of_another_or_of_the_next_run(
    project: Project, api: FaultAPI
) -> None:
    project.users(8)
    project.users(8, "Others")
    project.entity(batch_size=4)
    project.entity("Others", batch_size=4)
    api.script("/users", answer(413), answer())
    report = project.run()
    check_sums(report)
    assert [len(request.records) for request in api.of("/others")] == [4, 4]
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(id_, "new") for id_ in range(9, 13)])
    project.run()
    assert sizes(api)[-1] == 4


def test_new_batches_are_cut_once_the_size_is_known(project: Project, api: FaultAPI) -> None:
    project.users(40)
    project.entity(batch_size=8)
    api.script("/users", when(lambda request: len(request.records) > 4, answer(413)))
    project.run()
    # The second one is on its way when the first is answered.
    assert all(size <= 4 for size in sizes(api)[2:])
    assert sum(size for size in sizes(api) if size <= 4) == 40


def test_after_a_413_no_larger_batch_is_sent_for_the_rest_of_the_run(project: Project, api: FaultAPI) -> None:
    project.users(64)
    project.entity(batch_size=32)
    api.script("/users", when(lambda request: len(request.records) > 4, answer(413)))
    users(project.run())
    told = sizes(api)
    largest = 32
    for number, size in enumerate(told):
        assert size <= largest, f"call {number} of {told}"
        if size > 4:
            largest = size // 2


def test_a_single_record_too_large_is_rejected_alone(project: Project, api: FaultAPI) -> None:
    project.users(5)
    project.entity()
    api.script("/users", refuse(3, status=413))
    found = users(project.run(code=1))
    assert (found["accepted"], found["rejected"]) == (4, 1)
    assert list(project.rejects()) == ["3"]
    assert "413" in project.rejects()["3"]


# What the pieces carry


def test_the_bad_record_of_a_composite_key_is_found(project: Project, api: FaultAPI) -> None:
    project.fill("Posts", "Emp INTEGER, Dept TEXT, Name TEXT", [(e, d, "n") for e in range(1, 4) for d in ("a", "b")])
    project.entity("Posts", id=["Emp", "Dept"])
    partner = Partner({(2, "b")}, key=lambda record: (record["Emp"], record["Dept"]))
    api.script("/posts", partner.behaviour())
    report = project.run(code=1)
    assert users(report)["accepted"] == 5
    assert list(project.rejects("Posts")) == ['["2","b"]']
    assert sorted(project.tracked("Posts")) == ['["1","a"]', '["1","b"]', '["2","a"]', '["3","a"]', '["3","b"]']


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_every_piece_is_wrapped_as_the_batch_was(project: Project, api: FaultAPI, gzip: bool) -> None:
    wrap = 'Einträge "neu": [\\'
    project.spec["api"]["gzip"] = gzip
    project.users(4)
    project.entity(body={"wrap": wrap})
    api.script("/users", refuse(2))
    found = users(project.run(code=1))
    assert (found["accepted"], found["rejected"]) == (3, 1)
    if not gzip:
        assert {tuple(json.loads(request.body)) for request in api.of("/users")} == {(wrap,)}
    assert Counter(len(request.records) for request in api.of("/users")) == {4: 1, 2: 2, 1: 2}


@pytest.mark.parametrize("wrap", [None, "items"])
def test_decimals_and_texts_survive_the_splitting_byte_by_byte(
    project: Project, api: FaultAPI, wrap: str | None
) -> None:
    amounts = [
        "12345678901234567890.123456789012345678901234567890",
        "0.10",
        "-0.000000000000000000000000000001",
        "1e3",
        "9" * 60,
        "100.00",
    ]
    names = ['a"],[{"Id":1', "ü\u2028\U0001f600", "\\u0041\\", "tab\tnewline\n\x7f", "", "}]"]
    project.fill(
        "Users", "Id INTEGER PRIMARY KEY, Amount TEXT, Name TEXT", zip(range(1, 7), amounts, names, strict=False)
    )
    project.entity(fields={"Id": "int", "Amount": "decimal", "Name": "string"}, body={"wrap": wrap})
    api.script("/users", refuse(4))
    found = users(project.run(code=1))
    assert (found["accepted"], found["rejected"]) == (5, 1)
    whole, *pieces = (request.body for request in api.of("/users"))
    expected = records(whole)
    assert [orjson.loads(part)["Name"] for part in expected] == names
    assert [json.loads(part, parse_float=Decimal, parse_int=Decimal)["Amount"] for part in expected] == [
        Decimal(text) for text in amounts
    ]
    assert b'"Amount":12345678901234567890.123456789012345678901234567890,' in expected[0]
    assert b'"Amount":0.10,' in expected[1]
    sent = Counter(part for piece in pieces for part in expected if part in piece)
    assert set(sent) == set(expected)
    assert all(piece == joined([part for part in expected if part in piece], wrap) for piece in pieces)


json_ = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False, places=25)
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**60), max_value=10**60)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
record_ = st.dictionaries(st.text(st.characters(codec="utf-8")), json_, max_size=4)
wrap_ = st.none() | st.text(st.characters(codec="utf-8"), min_size=1)


@given(st.lists(record_, max_size=6), wrap_)
@example([{"A": Decimal("1." + "0" * 500)}, {"A": "]"}, {"A": {"B": [[], {}]}}], '":[')
def test_records_gives_back_what_joined_was_given(documents: list[dict[str, Any]], wrap: str | None) -> None:
    parts = [chunk.encode(document) for document in documents]
    payload = joined(parts, wrap)
    assert records(payload) == parts
    whole = json.loads(payload, parse_float=Decimal)
    assert len(whole[wrap] if wrap else whole) == len(parts)


@given(st.lists(record_, min_size=2, max_size=9), wrap_, st.data())
def test_pieces_of_pieces_are_the_bytes_of_the_records(
    documents: list[dict[str, Any]], wrap: str | None, data: st.DataObject
) -> None:
    parts = [chunk.encode(document) for document in documents]
    at = data.draw(st.integers(1, len(parts) - 1))
    pieces = [joined(records(joined(parts, wrap))[cut], wrap) for cut in (slice(None, at), slice(at, None))]
    assert [part for piece in pieces for part in records(piece)] == parts
    assert [content_hash(part) for part in records(pieces[0])] == [content_hash(part) for part in parts[:at]]


# The search itself, in process


def entity(**changed: Any) -> Entity:
    return builders.entity(**changed)


@dataclass
class Search:
    """Drives an `Isolation` as the sync does, against an API in memory; `pick` says which call is answered next."""

    isolation: Isolation
    bad: set[str]
    in_flight: int = 1
    pick: Callable[[int], int] = lambda _count: 0
    too_large: int = 10**9
    calls: list[int] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    wire: list[Batch] = field(default_factory=list)
    given_up: int = 0

    def run(self, counts: list[int]) -> Search:
        for batch in self.isolation.first(self.batches(counts), self.wait):
            while len(self.wire) >= self.in_flight:
                self.settle()
            self.wire.append(batch)
            self.calls.append(len(batch.ids))
        assert not self.wire
        self.given_up = self.isolation.left()
        return self

    def batches(self, counts: list[int]) -> Iterator[Batch]:
        ids = iter(range(1, sum(counts) + 1))
        for count in counts:
            mine = [str(next(ids)) for _ in range(count)]
            yield chunk.batch(self.isolation.entity, mine, [chunk.encode({"Id": int(id_)}) for id_ in mine])

    def wait(self) -> bool:
        if not self.wire:
            return False
        self.settle()
        return True

    def settle(self) -> None:
        batch = self.wire.pop(self.pick(len(self.wire)))
        assert [str(orjson.loads(part)["Id"]) for part in records(batch.payload)] == list(batch.ids)
        status = 413 if len(batch.ids) > self.too_large else 200 if self.bad.isdisjoint(batch.ids) else 422
        if status == 200:
            outcome = Outcome(batch, accepted=batch.ids, answered=True, attempts=1, status=status)
        elif len(batch.ids) == 1:
            rejection = Rejection(batch.ids[0], "bad", status)
            outcome = Outcome(batch, rejected=(rejection,), answered=True, attempts=1, status=status)
        else:
            outcome = Outcome(batch, failed=batch.ids, reason="bad", attempts=1, status=status, refused=status)
        split = self.isolation.split(outcome)
        for proved, rejection in self.isolation.proved:
            self.outcomes.append(Outcome(proved, rejected=(rejection,)))
        self.isolation.proved.clear()
        if split and split.goes_on:
            self.isolation.take(split)
            return
        if split and outcome.rejected:
            outcome = replace(outcome, rejected=(), failed=batch.ids, answered=False)
        lost = [Outcome(left, failed=left.ids) for left in split.lost] if split else []
        self.outcomes += [outcome, *lost]

    def accepted(self) -> set[str]:
        return {id_ for outcome in self.outcomes for id_ in outcome.accepted}

    def rejected(self) -> set[str]:
        return {rejection.id for outcome in self.outcomes for rejection in outcome.rejected}

    def told(self) -> list[str]:
        return sorted((id_ for outcome in self.outcomes for id_ in outcome.batch.ids), key=int)


def everyone(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


counts_ = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@given(counts_, st.sets(st.integers(0, 159), max_size=2))
def test_one_call_at_a_time_finds_one_bad_record_or_two(counts: list[int], places: set[int]) -> None:
    ids = everyone(sum(counts))
    bad = {ids[place % len(ids)] for place in places}
    search = Search(Isolation(entity()), bad).run(counts)
    assert search.told() == ids
    assert search.rejected() == bad or not search.accepted()
    assert search.accepted() == set(ids) - bad


@given(counts_, st.integers(1, 8), st.booleans(), st.randoms(use_true_random=False), st.data())
def test_whatever_the_order_of_answers_each_record_has_one_fate_and_no_good_one_is_rejected(
    counts: list[int], in_flight: int, small: bool, order: random.Random, data: st.DataObject
) -> None:
    ids = everyone(sum(counts))
    bad = data.draw(st.sets(st.sampled_from(ids)))
    too_large = 3 if small else 10**9
    search = Search(Isolation(entity()), bad, in_flight, order.randrange, too_large).run(counts)
    assert search.told() == ids
    assert search.rejected() <= bad
    assert search.accepted() <= set(ids) - bad


@given(st.integers(2, 3000), st.integers(1, 8), st.data())
def test_a_search_takes_no_more_calls_than_4_log2_per_bad_record(
    size: int, in_flight: int, data: st.DataObject
) -> None:
    bad = set(map(str, data.draw(st.sets(st.integers(1, size), min_size=1, max_size=3))))
    search = Search(Isolation(entity()), bad, in_flight).run([size])
    assert len(search.calls) - 1 <= 4 * math.ceil(math.log2(size)) * (len(bad) + 1)
    if len(bad) == 1:
        assert search.rejected() == bad
        assert len(search.calls) - 1 <= 2 * math.ceil(math.log2(size))


@given(st.integers(2, 300), st.integers(0, 40), st.integers(1, 8), st.data())
def test_isolate_calls_bounds_every_search(size: int, allowed: int, in_flight: int, data: st.DataObject) -> None:
    bad = set(map(str, data.draw(st.sets(st.integers(1, size), min_size=1))))
    search = Search(Isolation(entity(isolate_calls=allowed)), bad, in_flight).run([size])
    assert len(search.calls) - 1 <= allowed


def test_more_than_50_bad_records_are_found_where_good_ones_are_among_them() -> None:
    bad = {str(number) for number in range(1, 201, 2)}
    search = Search(Isolation(entity()), bad).run([200])
    assert len(bad) > HOPELESS
    assert search.rejected() == bad
    assert len(search.accepted()) == 100


@pytest.mark.parametrize(
    ("size", "bad", "in_flight"),
    [(16, range(2, 17, 4), 3), (16, range(2, 17, 4), 4), (200, range(1, 201, 2), 4), (3000, range(10, 3000, 150), 4)],
)
def test_a_search_with_calls_in_flight_finds_what_one_call_at_a_time_finds(
    size: int, bad: range, in_flight: int
) -> None:
    wanted = set(map(str, bad))
    assert Search(Isolation(entity()), wanted).run([size]).rejected() == wanted
    assert Search(Isolation(entity()), wanted, in_flight).run([size]).rejected() == wanted


def test_every_run_of_a_search_with_calls_in_flight_comes_nearer_to_its_end() -> None:
    bad = {str(number) for number in range(1, 201, 2)}
    search = Search(Isolation(entity()), bad, 4).run([200])
    assert search.rejected() | search.accepted()


# When something else happens meanwhile


def test_an_endpoint_that_closes_in_the_middle_of_a_search_fails_the_rest(project: Project, api: FaultAPI) -> None:
    project.users(8)
    project.entity(batch_size=4)
    api.script("/users", answer(422), answer(422), answer(401), answer())
    found = users(project.run(code=1))
    assert (found["failed"], found["waiting"]) == (2, 6)
    assert found["calls"] == len(api.of("/users")) == 3
    assert "401" in found["error"]
    assert users(project.run())["accepted"] == 8


def test_an_endpoint_that_asks_to_be_left_alone_makes_the_pieces_wait(project: Project, api: FaultAPI) -> None:
    project.users(8)
    project.entity()
    api.script("/users", refuse(1), answer(), answer(503, Retry_After="9999"))
    found = users(project.run(code=1))
    assert (found["accepted"], found["failed"], found["waiting"], found["calls"]) == (4, 0, 4, 3)
    assert len(api.of("/users")) == 3


def test_a_piece_in_doubt_is_sent_again_by_the_next_run_under_its_own_key(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["retry"]["attempts"] = 1
    project.users(8)
    project.entity()
    api.script("/users", refuse(8), answer(500), refuse(8))
    found = users(project.run(code=1))
    assert (found["in_doubt"], found["accepted"], found["rejected"]) == (4, 3, 1)
    doubtful = api.of("/users")[1]
    before = len(api.of("/users"))
    again = users(project.run())
    resent = api.of("/users")[before]
    assert (resent.body, resent.headers["idempotency-key"]) == (doubtful.body, doubtful.headers["idempotency-key"])
    assert (again["settled"], again["excluded"], again["waiting"]) == (4, 7, 1)


def test_a_batch_in_doubt_that_is_refused_later_is_taken_apart_under_new_keys(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["retry"]["attempts"] = 1
    project.users(4)
    project.entity()
    api.script("/users", answer(500), refuse(2))
    project.run(code=1)
    found = users(project.run(code=1))
    assert (found["accepted"], found["rejected"], found["settled"]) == (3, 1, 0)
    first, resent, *pieces = keys(api)
    assert first == resent
    assert first not in pieces
    assert sorted(project.tracked()) == ["1", "3", "4"]


def test_a_cancelled_search_leaves_its_pieces_to_the_next_run(project: Project, api: FaultAPI) -> None:
    go = threading.Event()

    def slowly(handler: Handler, request: Request) -> None:
        go.wait(20)
        answer(422)(handler, request)

    project.users(8)
    project.entity()
    api.script("/users", slowly, refuse(8))
    project.write()
    running = project.popen("run", project.file, "--format", "json")
    try:
        while not api.of("/users"):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        threading.Timer(0.3, go.set).start()
        output, _ = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130
    found = users(json.loads(output))
    assert (found["failed"], found["waiting"], found["calls"]) == (0, 8, 1)
    assert users(project.run(code=1))["accepted"] == 7


def test_a_source_that_breaks_off_does_not_let_one_bad_record_block_the_others(project: Project, api: FaultAPI) -> None:
    project.users(6)
    query = "SELECT Id, CASE WHEN Id > 4 THEN json('{bad') ELSE Name END AS Name FROM Users"
    project.entity(query=query, page_size=4, batch_size=4)
    api.script("/users", refuse(2))
    for _ in range(2):
        users(project.run(code=4))
    assert sorted(project.tracked()) == ["1", "3", "4"]


# Killed in the middle of it

FORKS = """
import importlib, json, os, sys
import click, orjson, petl, requests, sqlite3
from engine import failpoint
from engine.cli import main, run
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if not pid:
        try:
            os.chdir(job["folder"])
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            if job["step"]:
                os.environ[failpoint.VARIABLE] = str(job["step"])
                importlib.reload(failpoint)
            sys.argv = ["engine", "run", job["spec"], "--format", "json"]
            main.main()
        except SystemExit as leaving:
            sys.stdout.flush()
            os._exit(leaving.code or 0)
        os._exit(99)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""Runs the command line in forks of one process that has the modules already: 150 runs in seconds."""


class Forks:
    """Runs of a project, each in a process of its own."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=project.env({"PYTHONPATH": str(ROOT)}),
        )  # fmt: skip

    def run(self, step: int | None = None) -> int:
        """Run until a step, or to the end; gives the exit code, negative for a signal."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = {"folder": str(self.project.folder), "spec": str(self.project.file), "step": step}
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def report(self) -> dict[str, Any]:
        """What the last run said."""
        return dict(json.loads((self.project.folder / "out").read_text()))

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def forks(project: Project) -> Iterator[Forks]:
    made = Forks(project)
    yield made
    made.close()


@pytest.mark.parametrize(("in_flight", "stride"), [(1, 1), (4, 7)])
def test_killed_at_any_step_of_a_search_every_good_record_is_stored_once(
    project: Project, api: FaultAPI, forks: Forks, in_flight: int, stride: int
) -> None:
    project.spec["api"]["in_flight"] = in_flight
    project.users(4)
    project.entity(batch_size=4, reject_delay="0s")
    project.write()
    ledger = Path(project.folder / "log.db")
    for step in range(1, 200, stride):
        ledger.unlink(missing_ok=True)
        partner = Partner({3})
        api.script("/users", partner.behaviour())
        code = forks.run(step)
        if code != -signal.SIGKILL:
            break
        if ledger.exists():
            with sqlite3.connect(ledger) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()
        assert forks.run() == 1, (project.folder / "err").read_text()
        check_sums(forks.report())
        assert partner.stored == Counter([1, 2, 4]), f"killed at step {step}"
        assert sorted(project.tracked()) == ["1", "2", "4"], f"killed at step {step}"
        ((id_, reason),) = project.rejects().items()
        assert (id_, reason.startswith(REASON)) == ("3", True), f"killed at step {step}"
        left = project.ledger("SELECT State FROM TB_R_SYNC_BATCH WHERE State NOT IN ('settled', 'failed')")
        assert left == [], f"killed at step {step}"
    assert code == 1
    assert 40 < step < 190, "the matrix did not go through a whole search"
