"""What an answer says of each record: accepted, rejected, retryable or unknown; never more than it says."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sync.model import Results
from engine.sync.send import verdict
from engine.sync.send.verdict import Verdicts
from tests.faultapi import Behaviour, FaultAPI, answer
from tests.project import Project, check_sums

RESULTS = {
    "path": "items",
    "id": "Id",
    "accepted": "status == 'ok'",
    "retryable": "status == 'busy'",
    "reason": "error",
}
IN_ORDER = {**RESULTS, "id": None}
GUID = "0a1b2c3d-0000-4000-8000-00000000000a"


def read(ids: list[str], body: bytes | Any, status: int = 207, **changed: Any) -> Verdicts:
    """The verdicts of an answer, in process."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    found = verdict.read(Results(**{**RESULTS, **changed}), ids, status, content)
    told = [*found.accepted, *(rejection.id for rejection in found.rejected), *found.unknown]
    assert sorted(told) == sorted(ids), "each record that was sent has one verdict"
    return found


def rejected(found: Verdicts) -> dict[str, str]:
    return {rejection.id: rejection.reason for rejection in found.rejected}


def items(*entries: tuple[Any, str, str | None], status: int = 207) -> Behaviour:
    return answer(status, {"items": [{"Id": id_, "status": word, "error": error} for id_, word, error in entries]})


def users(report: dict[str, Any]) -> dict[str, Any]:
    check_sums(report)
    (found,) = report["entities"]
    return dict(found)


def counts(report: dict[str, Any]) -> tuple[int, int, int]:
    found = users(report)
    return found["accepted"], found["rejected"], found["in_doubt"]


# By ID


def test_each_of_the_four_verdicts_is_read_by_id_in_any_order() -> None:
    entries = [("3", "busy", "later"), (2, "no", "no such post"), ("1", "ok", None)]
    found = read(["1", "2", "3", "4"], {"items": [{"Id": i, "status": s, "error": e} for i, s, e in entries]})
    assert found.accepted == ("1",)
    assert rejected(found) == {"2": "no such post", "3": "later"}
    assert {rejection.id: rejection.retryable for rejection in found.rejected} == {"2": False, "3": True}
    assert found.unknown == ("4",)
    assert found.counts == (1, 2, 1)
    assert "4" in str(found.remark)


def test_an_id_said_yes_and_no_to_is_unknown_in_either_order_and_however_often() -> None:
    for words in (("ok", "no"), ("no", "ok"), ("ok", "ok", "no"), ("no", "ok", "ok"), ("ok", "busy")):
        found = read(["1", "2"], {"items": [{"Id": 1, "status": word} for word in words] + [{"Id": 2, "status": "ok"}]})
        assert (found.accepted, found.rejected, found.unknown) == (("2",), (), ("1",)), words
        assert "yes and no to 1" in str(found.remark)


def test_an_id_said_the_same_to_twice_keeps_its_verdict_and_is_remarked() -> None:
    found = read(["1", "2"], {"items": [{"Id": id_, "status": word} for id_, word in [(1, "ok"), (2, "no")] * 2]})
    assert (found.accepted, list(rejected(found)), found.unknown) == (("1",), ["2"], ())
    assert "more than once: 1, 2" in str(found.remark)


def test_a_stranger_is_named_and_gives_nobody_a_verdict() -> None:
    found = read(["1"], {"items": [{"Id": 1, "status": "ok"}, {"Id": 77, "status": "ok"}]})
    assert (found.accepted, found.unknown) == (("1",), ())
    assert "not sent: 77" in str(found.remark)


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("7", 7),
        ("7", "7"),
        ("7", 7.0),
        ("7", "7  "),
        (GUID, GUID.upper()),
        (GUID, "{" + GUID.upper() + "}"),
        ('["x","1"]', ["x", 1]),
    ],
)
def test_ids_of_an_answer_are_compared_in_their_canonical_form(sent: str, answered: Any) -> None:
    assert read([sent], {"items": [{"Id": answered, "status": "ok"}]}).accepted == (sent,)


@pytest.mark.parametrize("answered", [None, True, "", {}, [], [["1"]], "07", "1 2", 1.5, ["1", "1"]])
def test_an_id_that_is_none_or_another_accepts_nothing(answered: Any) -> None:
    found = read(["1"], {"items": [{"Id": answered, "status": "ok"}]})
    assert (found.accepted, found.rejected, found.unknown) == ((), (), ("1",))
    assert found.remark


def test_a_long_numeric_id_is_not_taken_for_its_neighbour() -> None:
    first, second = "100000000000000000000", "100000000000000000001"
    found = read([first, second], b'{"items": [{"Id": 100000000000000000001, "status": "ok"}]}')
    assert first not in found.accepted, "nothing was said of it"


# By position


def test_without_an_id_the_verdicts_stand_in_the_order_of_the_records() -> None:
    words = [("ok", None), ("no", "bad"), ("busy", "later")]
    found = read(["a", "b", "c"], {"items": [{"status": s, "error": e} for s, e in words]}, id=None)
    assert found.accepted == ("a",)
    assert rejected(found) == {"b": "bad", "c": "later"}
    assert [rejection.retryable for rejection in found.rejected] == [False, True]


@pytest.mark.parametrize("entries", [0, 1, 3])
def test_too_few_or_too_many_verdicts_in_order_are_none(entries: int) -> None:
    found = read(["a", "b"], {"items": [{"status": "ok"}] * entries}, id=None)
    assert found.unknown == ("a", "b")
    assert f"verdicts ({entries}) is not that of records (2)" in str(found.remark)


def test_an_id_in_verdicts_that_are_read_in_order_is_not_looked_at() -> None:
    found = read(["a", "b"], {"items": [{"Id": "b", "status": "ok"}, {"Id": "a", "status": "no"}]}, id=None)
    assert (found.accepted, list(rejected(found))) == (("a",), ["b"])


# What cannot be read

UNREADABLE = {
    "html": b"<html>welcome</html>",
    "empty": b"",
    "space": b" \r\n",
    "word": b'"ok"',
    "null": b"null",
    "elsewhere": b'{"data": [{"Id": 1, "status": "ok"}]}',
    "object": b'{"items": {"Id": 1, "status": "ok"}}',
    "cut": b'{"items": [{"Id": 1, "status": "ok"}',
    "two": b'{"items": [{"Id": 1, "status": "ok"}]}{}',
    "not unicode": b'{"items": [{"Id": 1, "status": "ok", "x": "\xff"}]}',
    "nan": b'{"items": [{"Id": 1, "status": "ok", "x": NaN}]}',
    "deep": b"[" * 5000 + b"]" * 5000,
    "scalars": b'{"items": [1, "ok", null, []]}',
}


@pytest.mark.parametrize("results", [RESULTS, IN_ORDER], ids=["by id", "in order"])
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_an_answer_that_cannot_be_read_leaves_every_record_unknown(body: bytes, results: dict[str, Any]) -> None:
    found = read(["1", "2"], body, 200, **results)
    assert (found.accepted, found.rejected, found.unknown) == ((), (), ("1", "2"))
    assert found.remark


@pytest.mark.parametrize(
    "accepted",
    ["starts_with(status, 'ok')", "contains(status, 'ok')", "length(status) == `2`", "sum(status) == `1`"],
)
def test_a_verdict_of_the_wrong_kind_is_unknown(accepted: str) -> None:
    found = read(["1"], {"items": [{"Id": 1, "status": 7}]}, accepted=accepted)
    assert found.unknown == ("1",)


@pytest.mark.parametrize(
    "changed",
    [
        {"accepted": "status < `400`"},
        {"path": "items[?status < `400`]"},
        {"retryable": "status > `499`"},
        {"reason": "error[?code > `1`] | [0]"},
        {"id": "keys[?n > `1`] | [0].v"},
    ],
    ids=["accepted", "path", "retryable", "reason", "id"],
)
def test_an_expression_that_fails_on_the_answer_does_not_end_the_run(changed: dict[str, str]) -> None:
    entry = {"Id": 1, "status": "422", "error": [{"code": "x"}], "keys": [{"n": "x", "v": 1}]}
    assert "1" not in read(["1"], {"items": [entry]}, **changed).accepted


def test_a_null_in_place_of_a_verdict_is_no_refusal() -> None:
    found = read(["a", "b"], {"items": [{"status": "ok"}, None]}, id=None)
    assert (found.accepted, found.unknown) == (("a",), ("b",))


# Any answer

ids_ = st.lists(st.integers(1, 30).map(str), unique=True, min_size=1, max_size=8)
words_ = st.sampled_from(["ok", "no", "busy", None, 7])


@given(ids_, st.lists(st.tuples(st.integers(1, 30), words_), max_size=16))
def test_accepted_is_who_was_sent_and_told_yes_and_never_no(ids: list[str], said: list[tuple[int, Any]]) -> None:
    found = read(ids, {"items": [{"Id": id_, "status": word, "error": word} for id_, word in said]})
    heard = {id_: {word == "ok" for other, word in said if str(other) == id_} for id_ in ids}
    assert set(found.accepted) == {id_ for id_ in ids if heard[id_] == {True}}
    assert set(rejected(found)) == {id_ for id_ in ids if heard[id_] == {False}}
    assert set(found.unknown) == {id_ for id_ in ids if len(heard[id_]) != 1}
    odd = found.unknown or len(said) != len({id_ for id_, _ in said}) or any(str(id_) not in ids for id_, _ in said)
    assert bool(found.remark) == bool(odd)


json_ = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["Id", "status", "items", "x"]), inner),
    max_leaves=12,
)


@given(ids_, st.one_of(st.binary(max_size=40), json_.map(orjson.dumps)), st.booleans())
def test_no_answer_ends_the_run_or_names_a_record_twice(ids: list[str], body: bytes, in_order: bool) -> None:
    found = read(ids, body, **({"id": None} if in_order else {}))
    assert sum(found.counts) == len(ids)
    assert not found.unknown or found.remark


# The reason


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("no such post", "no such post"),
        ("größer als erlaubt", "größer als erlaubt"),
        (17, "17"),
        (None, "rejected by the API without a reason"),
    ],
)
def test_the_reason_is_what_the_api_says(reason: Any, expected: str) -> None:
    assert rejected(read(["1"], {"items": [{"Id": 1, "status": "no", "error": reason}]})) == {"1": expected}


def test_a_reason_expression_that_cannot_be_read_is_no_reason_and_still_a_refusal() -> None:
    found = read(["1"], {"items": [{"Id": 1, "status": "no", "error": 7}]}, reason="join(' ', error)")
    assert rejected(found) == {"1": "rejected by the API without a reason"}


# Through a whole run


def test_accepted_rejected_and_unknown_of_each_call_stand_in_the_log(project: Project, api: FaultAPI) -> None:
    project.users(6)
    project.entity(results=RESULTS, batch_size=3)
    api.script(
        "/users", items((1, "ok", None), (2, "no", "bad")), items((4, "busy", "x"), (5, "ok", None), (6, "ok", None))
    )
    report = project.run(code=1)
    assert counts(report) == (3, 2, 1)
    told = [row["information"] for row in project.log_rows()]
    assert [(row["Accepted"], row["Rejected"], row["Unknown"], row["BatchSize"]) for row in told] == [
        (1, 1, 1, 3),
        (2, 1, 0, 3),
    ]
    assert [row["HttpResponseCode"] for row in told] == [207, 207]
    assert project.tracked() == ["1", "5", "6"]
    assert project.rejects() == {"2": "bad", "4": "x"}


def test_a_call_that_accepts_nothing_has_no_verdicts_in_the_log(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity(results=RESULTS)
    api.script("/users", answer(409))
    project.run(code=1)
    assert not {"Accepted", "Rejected", "Unknown"} & set(project.log_rows()[0]["information"])


def test_verdicts_in_order_reach_the_tables(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity(results={**IN_ORDER, "path": "@"})
    api.script("/users", answer(200, [{"status": "ok"}, {"status": "no", "error": "too old"}, {"status": "ok"}]))
    assert counts(project.run(code=1)) == (2, 1, 0)
    assert project.tracked() == ["1", "3"]
    assert project.rejects() == {"2": "too old"}


def test_without_results_a_207_accepts_the_batch_and_says_so(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    api.script("/users", answer(207, {"items": [{"Id": 1, "status": "no"}]}))
    report = project.run()
    assert counts(report) == (2, 0, 0)
    assert "207" in users(report)["error"]


@pytest.mark.parametrize("in_order", [False, True], ids=["by id", "in order"])
@pytest.mark.parametrize(
    "behaviour",
    [answer(200, "<html>hi</html>", Content_Type="text/html"), answer(200, b""), answer(204, b"")],
    ids=["html", "empty", "204"],
)
def test_an_answer_without_verdicts_leaves_the_batch_in_doubt(
    project: Project, api: FaultAPI, behaviour: Behaviour, in_order: bool
) -> None:
    project.users(2)
    project.entity(results=IN_ORDER if in_order else RESULTS)
    api.script("/users", behaviour)
    assert counts(project.run(code=1)) == (0, 0, 2)
    assert project.tracked() == []
    assert project.rejects() == {}
    information = project.log_rows()[0]["information"]
    assert (information["Accepted"], information["Rejected"], information["Unknown"]) == (0, 0, 2)


def test_unknown_records_get_a_journal_row_of_their_own_with_a_key_of_their_own(
    project: Project, api: FaultAPI
) -> None:
    project.users(4)
    project.entity(results=RESULTS)
    api.script("/users", items((1, "ok", None), (3, "ok", None), (3, "no", None)))
    assert counts(project.run(code=1)) == (1, 0, 3)
    rows = project.ledger(
        "SELECT State, RecordIds, IdempotencyKey, Payload, Reason FROM TB_R_SYNC_BATCH ORDER BY RecordCount DESC"
    )
    (called, apart) = rows
    assert (called[0], json.loads(called[1])) == ("settled", ["1", "2", "3", "4"])
    assert (apart[0], json.loads(apart[1])) == ("in_doubt", ["2", "3", "4"])
    assert apart[2] != called[2], "under the old key the API would only repeat its answer"
    assert called[3] is None
    assert apart[3] is None
    assert "yes and no to 3" in apart[4]


def test_unknown_records_are_offered_in_a_new_batch_by_the_next_run(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity(results=RESULTS)
    api.script("/users", items((1, "ok", None)), items((2, "ok", None), (3, "ok", None)))
    project.run(code=1)
    assert counts(project.run()) == (2, 0, 0)
    first, second = api.of("/users")
    assert [record["Id"] for record in second.records] == [2, 3]
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
    assert sorted(project.tracked()) == ["1", "2", "3"]
    states = sorted(row[0] for row in project.ledger("SELECT State FROM TB_R_SYNC_BATCH"))
    assert states == ["failed", "settled", "settled"]


def test_unknown_records_wait_for_a_person_where_the_spec_says_hold(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["in_doubt"] = "hold"
    project.users(2)
    project.entity(results=RESULTS)
    api.script("/users", items((1, "ok", None)))
    project.run(code=1)
    again = users(project.run(code=1))
    assert (again["excluded"], again["waiting"], again["due"], again["calls"]) == (1, 1, 0, 0)
    ((batch, ids),) = project.ledger("SELECT BatchId, RecordIds FROM TB_R_SYNC_BATCH WHERE State = 'held'")
    assert json.loads(ids) == ["2"]
    assert project.cli("resolve", project.file, batch, "accepted").returncode == 0
    assert users(project.run())["excluded"] == 2
    assert sorted(project.tracked()) == ["1", "2"]


def test_a_wrong_and_a_repeated_id_are_named_in_the_entitys_error(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity(results=RESULTS)
    api.script("/users", items((1, "ok", None), (1, "ok", None), (4711, "ok", None)))
    report = project.run()
    assert counts(report) == (1, 0, 0)
    assert "not sent: 4711" in users(report)["error"]
    assert "more than once: 1" in users(report)["error"]


def test_a_wrong_id_is_named_in_the_entitys_error_also_after_another_error(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity(results=RESULTS, batch_size=2)
    api.script("/users", items((1, "ok", None)), items((3, "ok", None), (4, "ok", None), (4711, "ok", None)))
    assert "4711" in users(project.run(code=1))["error"]


def test_a_verdict_that_compares_text_with_a_number_does_not_stop_the_pipeline(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity(results={"path": "items", "id": "Id", "accepted": "code < `400`"})
    api.script("/users", answer(207, {"items": [{"Id": 1, "code": 201}, {"Id": 2, "code": "E17"}]}))
    project.write()
    reports = {"TMPDIR": str(project.folder)}
    finished = [project.cli("run", project.file, "--format", "json", env=reports).returncode for _ in range(2)]
    assert 70 not in finished
    assert project.tracked() == ["1"]


def test_verdicts_of_a_batch_of_an_earlier_run_are_read_too(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["retry"]["attempts"] = 1
    project.users(3)
    project.entity(results=RESULTS)
    api.script("/users", answer(500), items((1, "ok", None), (2, "ok", None)), items((3, "ok", None)))
    project.run(code=1)
    again = users(project.run(code=1))
    assert (again["settled"], again["excluded"], again["waiting"], again["due"]) == (2, 2, 1, 0)
    ((ids,),) = project.ledger("SELECT RecordIds FROM TB_R_SYNC_BATCH WHERE State = 'in_doubt'")
    assert json.loads(ids) == ["3"]
    assert counts(project.run()) == (1, 0, 0)
    assert len({request.headers["idempotency-key"] for request in api.of("/users")}) == 2


def test_verdicts_of_calls_in_flight_together_stay_with_their_records(project: Project, api: FaultAPI) -> None:
    def judge(handler: Any, request: Any) -> None:
        words = {0: "ok", 1: "no", 2: "busy"}
        told = [(record["Id"], words.get(record["Id"] % 4), f"e{record['Id']}") for record in request.records]
        items(*[(id_, word, error) for id_, word, error in told if word])(handler, request)

    project.spec["api"]["in_flight"] = 4
    project.users(40)
    project.entity(results=RESULTS, batch_size=3)
    api.script("/users", judge)
    assert counts(project.run(code=1)) == (10, 20, 10)
    assert sorted(map(int, project.tracked())) == list(range(4, 41, 4))
    assert project.rejects() == {str(id_): f"e{id_}" for id_ in range(1, 41) if id_ % 4 in (1, 2)}


def test_a_secret_that_the_api_repeats_in_a_reason_is_masked(project: Project, api: FaultAPI) -> None:
    secret = "b3arer-s3cret-value"
    project.spec["api"]["auth"] = {"bearer": "${TOKEN}"}
    project.users(2)
    project.entity(results=RESULTS)
    api.script("/users", items((1, "no", f"not allowed with {secret}"), (secret, "ok", None)))
    project.write()
    finished = project.cli("run", project.file, env={"TOKEN": secret})
    assert finished.returncode == 1
    assert "not allowed with" in project.rejects()["1"]
    whole = [row for table in ("TB_R_SYNC_REJECT", "TB_R_SYNC_BATCH", "SchedulerLog", "TB_R_SYNC_RUN")
             for row in project.ledger(f"SELECT * FROM {table}")]  # fmt: skip
    assert secret not in repr(whole) + finished.stdout + finished.stderr


# What the spec itself may have wrong


def test_an_answer_in_which_accepted_is_never_true_points_at_the_spec(project: Project, api: FaultAPI) -> None:
    """Every record refused and no reason for any: rather `results.accepted` is wrong than every record."""
    project.users(3)
    project.entity(results={"path": "items", "id": "Id", "accepted": "state == 'ok'", "reason": "error"})
    items = [{"Id": number, "status": "ok"} for number in (1, 2, 3)]
    api.script("/users", answer(200, {"items": items}))
    report = project.run(code=1)
    assert "every verdict was refused without a reason: check results.accepted" in report["entities"][0]["error"]


def test_refusals_with_a_reason_are_the_records_own(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity(results={"path": "items", "id": "Id", "accepted": "status == 'ok'", "reason": "error"})
    api.script("/users", answer(200, {"items": [{"Id": 1, "error": "bad"}, {"Id": 2}]}))
    assert project.run(code=1)["entities"][0]["error"] is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"data": [], "meta": {}}, "no list at 'items'; check results.path: its keys are data, meta"),
        ([{"Id": 1}], "check results.path: the answer is a list itself"),
        ({}, "it is an empty object"),
        ({f"k{number}": 1 for number in range(30)}, "k9 and 20 more"),
        ({"\x1b]0;x\x07": 1}, "\\u001b]0;x\\u0007"),
    ],
)
def test_an_answer_without_the_list_of_the_spec_shows_the_keys_that_are_there(body: object, said: str) -> None:
    found = verdict.read(Results("items", "Id", "ok"), ["1"], 200, json.dumps(body).encode())
    assert found.unknown == ("1",)
    assert said in str(found.remark)
