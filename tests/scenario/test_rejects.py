"""Records that were refused: how long they rest, when they are parked, what brings them back, and how they are listed."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
from datetime import datetime
from typing import Any

import pytest

from tests.faultapi import Behaviour, FaultAPI, Request, answer, when
from tests.project import Project, check_sums

RESULTS = {
    "path": "items",
    "id": "Id",
    "accepted": "status == 'ok'",
    "retryable": "status == 'busy'",
    "reason": "error",
}
GUID = "0a1b2c3d-0000-4000-8000-00000000000a"


def items(*entries: tuple[Any, str, str | None]) -> Behaviour:
    return answer(207, {"items": [{"Id": id_, "status": word, "error": error} for id_, word, error in entries]})


NO = items((1, "no", "no such post"))
BUSY = items((1, "busy", "try later"))
YES = items((1, "ok", None))


def users(report: dict[str, Any]) -> dict[str, Any]:
    check_sums(report)
    (found,) = report["entities"]
    return dict(found)


def one(project: Project, api: FaultAPI, *behaviours: Behaviour, **keys: Any) -> None:
    """An entity of one record, and what the API says of it."""
    project.users(1)
    project.entity(results=RESULTS, **keys)
    api.script("/users", *behaviours)


def rows(project: Project) -> list[tuple[str, str, str, int]]:
    """Who is refused: ID, state, reason, attempts."""
    return project.ledger("SELECT EntityId, State, Reason, Attempts FROM TB_R_SYNC_REJECT ORDER BY EntityId")


def next_try(project: Project, record: str = "1") -> str | None:
    ((moment,),) = project.ledger("SELECT NextTry FROM TB_R_SYNC_REJECT WHERE EntityId = ?", record)
    return moment


def delay(project: Project) -> float:
    """Hours from the last try to the next."""
    ((last, following),) = project.ledger("SELECT LastSeen, NextTry FROM TB_R_SYNC_REJECT")
    return round((datetime.fromisoformat(following) - datetime.fromisoformat(last)).total_seconds() / 3600, 3)


def execute(project: Project, sql: str, *parameters: Any, file: str = "log.db") -> None:
    with sqlite3.connect(project.folder / file) as connection:
        connection.execute(sql, parameters)
    connection.close()


def pass_time(project: Project, hours: float) -> None:
    """Let the rejected records have rested so much longer."""
    execute(
        project, "UPDATE TB_R_SYNC_REJECT SET NextTry = strftime('%Y-%m-%d %H:%M:%f', NextTry, ?)", f"-{hours} hours"
    )


def change(project: Project, name: str, record: int = 1) -> None:
    execute(project, "UPDATE Users SET Name = ? WHERE Id = ?", name, record, file="source.db")


def sent(api: FaultAPI, path: str = "/users") -> list[Any]:
    return [record["Id"] for request in api.of(path) for record in request.records]


# Resting


def test_a_rejected_record_waits_for_its_delay_and_the_run_says_so(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity(results=RESULTS)
    api.script("/users", items((1, "no", "no such post"), (2, "ok", None), (3, "ok", None)))
    first = users(project.run(code=1))
    assert (first["accepted"], first["rejected"]) == (2, 1)
    assert rows(project) == [("1", "rejected", "no such post", 1)]
    assert delay(project) == 1
    report = project.run()
    again = users(report)
    assert report["status"] == "delivered"
    assert (again["waiting"], again["resting"], again["excluded"], again["due"], again["calls"]) == (1, 1, 2, 0, 0)
    assert project.run("--strict", code=1)["status"] == "incomplete"
    assert len(api.of("/users")) == 1
    pass_time(project, 0.9)
    assert users(project.run())["waiting"] == 1
    pass_time(project, 0.2)
    assert users(project.run(code=1))["due"] == 1
    assert sent(api)[-1] == 1


def test_the_delay_doubles_until_the_record_is_parked(project: Project, api: FaultAPI) -> None:
    one(project, api, NO)
    for attempt, hours in enumerate([1, 2, 4, 8], 1):
        assert users(project.run(code=1))["rejected"] == 1
        assert rows(project) == [("1", "rejected", "no such post", attempt)]
        assert delay(project) == hours
        pass_time(project, hours)
    assert users(project.run(code=1))["rejected"] == 1
    assert rows(project) == [("1", "parked", "no such post", 5)]
    assert next_try(project) is None
    found = users(project.run())
    assert (found["waiting"], found["due"], found["calls"]) == (1, 0, 0)
    assert len(api.of("/users")) == 5


def test_delay_and_number_of_tries_are_the_entitys_own(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.users(1, "Others")
    project.entity(results=RESULTS, reject_delay="90m", reject_after=1000)
    project.entity("Others", results=RESULTS, reject_after=1)
    api.script("/users", NO)
    api.script("/others", NO)
    check_sums(project.run(code=1))
    states = dict(project.ledger("SELECT EntityType, State FROM TB_R_SYNC_REJECT"))
    assert states == {"Users": "rejected", "Others": "parked"}
    moments = project.ledger("SELECT LastSeen, NextTry FROM TB_R_SYNC_REJECT WHERE EntityType = 'Users'")
    last, following = map(datetime.fromisoformat, moments[0])
    assert (following - last).total_seconds() == 90 * 60
    report = project.run()
    check_sums(report)
    assert [entity["waiting"] for entity in report["entities"]] == [1, 1]


def test_a_rejection_keeps_its_first_time_and_its_batches_and_takes_what_was_said_last(
    project: Project, api: FaultAPI
) -> None:
    one(project, api, NO, items((1, "no", "something else")), reject_delay="0s")
    project.run(code=1)
    ((first, batch),) = project.ledger("SELECT FirstSeen, BatchId FROM TB_R_SYNC_REJECT")
    project.run(code=1)
    columns = "FirstSeen, LastSeen, Reason, HttpResponseCode, BatchId, Attempts"
    ((kept, last, reason, status, newer, attempts),) = project.ledger(f"SELECT {columns} FROM TB_R_SYNC_REJECT")
    assert kept == first
    assert last > first
    assert (reason, status, attempts) == ("something else", 207, 2)
    assert newer != batch
    journal = dict(project.ledger("SELECT BatchId, State FROM TB_R_SYNC_BATCH"))
    assert journal == {batch: "settled", newer: "settled"}
    assert [row["information"]["BatchId"] for row in project.log_rows()] == [batch, newer]


def test_records_that_isolation_has_found_rest_and_are_parked_too(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity(reject_after=2)
    api.script("/users", when(lambda request: 3 in [record["Id"] for record in request.records], answer(422)))
    assert users(project.run(code=1))["accepted"] == 3
    calls = len(api.of("/users"))
    assert users(project.run())["waiting"] == 1
    assert len(api.of("/users")) == calls
    pass_time(project, 1)
    assert users(project.run(code=1))["calls"] == 1
    assert [row[:2] for row in rows(project)] == [("3", "parked")]


def test_resting_records_do_not_use_up_the_limit_of_a_run(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity(results=RESULTS)
    api.script("/users", NO, items((2, "ok", None)))
    assert users(project.run("--limit", "1", code=1))["rejected"] == 1
    found = users(project.run("--limit", "1"))
    assert (found["waiting"], found["accepted"]) == (1, 1)


# Content


@pytest.mark.parametrize("parked", [False, True], ids=["resting", "parked"])
def test_a_record_whose_content_changed_is_offered_at_once(project: Project, api: FaultAPI, parked: bool) -> None:
    one(project, api, NO, YES, reject_after=1 if parked else 5)
    project.run(code=1)
    assert rows(project)[0][1] == ("parked" if parked else "rejected")
    assert users(project.run())["waiting"] == 1
    change(project, "corrected")
    assert users(project.run())["accepted"] == 1
    assert project.tracked() == ["1"]
    assert rows(project) == []


def test_a_changed_record_that_is_rejected_again_rests_with_its_new_content(project: Project, api: FaultAPI) -> None:
    one(project, api, NO)
    project.run(code=1)
    change(project, "corrected")
    assert users(project.run(code=1))["rejected"] == 1
    assert delay(project) == 1, "refusals of another content do not count"
    assert users(project.run())["waiting"] == 1
    change(project, "name 1")
    assert users(project.run(code=1))["rejected"] == 1, "the content before is not the one that was refused last"


def test_a_change_that_is_not_sent_is_none(project: Project, api: FaultAPI) -> None:
    one(project, api, NO, fields={"Id": "int"})
    project.run(code=1)
    change(project, "other")
    assert users(project.run())["waiting"] == 1


def test_records_resting_where_changes_are_sent_again_are_told_apart_by_content(
    project: Project, api: FaultAPI
) -> None:
    one(project, api, YES, NO, YES, resend="changed")
    project.run()
    change(project, "worse")
    assert users(project.run(code=1))["rejected"] == 1
    assert users(project.run())["waiting"] == 1
    change(project, "better")
    assert users(project.run())["accepted"] == 1
    assert rows(project) == []
    assert users(project.run())["excluded"] == 1


# Retryable


def test_a_retryable_record_is_offered_by_every_run_and_never_parked(project: Project, api: FaultAPI) -> None:
    one(project, api, BUSY, BUSY, BUSY, BUSY, YES, reject_after=2)
    for _ in range(4):
        found = users(project.run(code=1))
        assert (found["rejected"], found["waiting"]) == (1, 0)
        ((_, state, reason, _),) = rows(project)
        assert (state, reason, next_try(project)) == ("rejected", "try later", None)
    assert users(project.run())["accepted"] == 1
    assert rows(project) == []


def test_a_retryable_refusal_does_not_bring_a_record_nearer_to_being_parked(project: Project, api: FaultAPI) -> None:
    one(project, api, BUSY, NO, reject_after=2)
    project.run(code=1)
    project.run(code=1)
    assert rows(project)[0][1] == "rejected", "refused once, and busy once"
    assert delay(project) == 1


def test_a_rejection_after_which_the_record_is_retryable_rests_no_more(project: Project, api: FaultAPI) -> None:
    one(project, api, NO, BUSY, BUSY)
    project.run(code=1)
    pass_time(project, 1)
    assert users(project.run(code=1))["rejected"] == 1
    assert next_try(project) is None
    assert users(project.run(code=1))["rejected"] == 1
    assert rows(project) == [("1", "rejected", "try later", 1)]


# Contracts


def contract(project: Project, *values: str, **keys: Any) -> None:
    project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", enumerate(values, 1))
    project.entity(results=RESULTS, fields={"Id": "int", "Name": "int"}, **keys)


def test_a_record_that_breaks_its_contract_is_looked_at_by_every_run(project: Project, api: FaultAPI) -> None:
    contract(project, "x", reject_after=2)
    for before in (0, 1, 1, 1):
        found = users(project.run(code=1 - before))
        assert (found["rejected"], found["rejected_before"], found["waiting"], found["calls"]) == (1, before, 0, 0)
        ((_, state, reason, _),) = rows(project)
        assert (state, next_try(project)) == ("rejected", None)
        assert "'Name'" in reason
    change(project, "5")
    api.script("/users", YES)
    assert users(project.run())["accepted"] == 1
    assert rows(project) == []


def test_a_record_that_broke_its_contract_for_long_is_not_parked_by_the_apis_first_refusal(
    project: Project, api: FaultAPI
) -> None:
    contract(project, "x", reject_after=3)
    for code in (1, 0, 0):
        project.run(code=code)
    change(project, "5")
    api.script("/users", NO)
    project.run(code=1)
    assert rows(project)[0][1] == "rejected"
    assert delay(project) == 1


def test_a_resting_record_that_breaks_its_contract_says_so(project: Project, api: FaultAPI) -> None:
    contract(project, "5")
    api.script("/users", NO, YES)
    project.run(code=1)
    change(project, "x")
    assert users(project.run())["rejected"] == 1
    assert "'Name'" in project.rejects()["1"]
    change(project, "6")
    assert users(project.run())["accepted"] == 1
    assert rows(project) == []


# Leaving the table


def test_only_the_accepted_record_leaves_the_table(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.users(1, "Others")
    project.entity(results=RESULTS, reject_delay="0s")
    project.entity("Others", results=RESULTS)
    api.script("/users", items((1, "no", "a"), (2, "no", "b")), items((1, "ok", None), (2, "no", "c")))
    api.script("/others", NO)
    check_sums(project.run(code=1))
    check_sums(project.run(code=1))
    assert project.rejects() == {"2": "c"}
    assert project.rejects("Others") == {"1": "no such post"}
    assert project.tracked() == ["1"]


def test_a_rejected_record_of_a_batch_in_doubt_leaves_the_table_when_it_is_settled(
    project: Project, api: FaultAPI
) -> None:
    project.spec["api"]["retry"]["attempts"] = 1
    one(project, api, NO, answer(500), YES, reject_delay="0s")
    project.run(code=1)
    assert users(project.run(code=1))["in_doubt"] == 1
    found = users(project.run())
    assert (found["settled"], found["excluded"]) == (1, 1)
    assert rows(project) == []


def test_a_rejected_record_leaves_the_table_when_a_person_says_that_it_was_accepted(
    project: Project, api: FaultAPI
) -> None:
    project.spec["api"]["in_doubt"] = "hold"
    one(project, api, NO, answer(500), reject_delay="0s")
    project.run(code=1)
    project.run(code=1)
    ((batch,),) = project.ledger("SELECT BatchId FROM TB_R_SYNC_BATCH WHERE State = 'held'")
    assert project.cli("resolve", project.file, batch, "accepted").returncode == 0
    assert users(project.run())["excluded"] == 1
    assert rows(project) == []


def test_a_record_rejected_in_a_batch_of_an_earlier_run_rests_like_any_other(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["retry"]["attempts"] = 1
    project.users(2)
    project.entity(results=RESULTS)
    api.script("/users", answer(500), items((1, "no", "no such post"), (2, "ok", None)), YES)
    project.run(code=1)
    found = users(project.run(code=None))
    said = "no such post (rejected when sent again; the first sending may have stored it)"
    assert rows(project) == [("1", "rejected", said, 1)]
    assert (found["settled"], found["waiting"], found["calls"]) == (1, 1, 1)


def test_a_record_rejected_and_accepted_by_one_run_is_not_in_the_table(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["retry"]["attempts"] = 1
    one(project, api, answer(500), NO, YES, reject_delay="0s")
    project.run(code=1)
    found = users(project.run(code=None))
    assert (found["calls"], found["accepted"]) == (2, 1), "the batch of before is refused, the new one accepted"
    assert (project.tracked(), rows(project)) == (["1"], [])


def test_a_second_record_of_an_id_does_not_wake_the_first_one(project: Project, api: FaultAPI) -> None:
    project.fill("Users", "Id INTEGER, Name TEXT", [(1, "first"), (1, "second")])
    project.entity(results=RESULTS)
    api.script("/users", NO)
    users(project.run(code=1))
    assert "no such post" in project.rejects()["1"]
    users(project.run())
    assert len(api.of("/users")) == 1, "it rests"


# Bringing them back by hand


def retry(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return project.cli("retry", project.file, *arguments)


def test_retry_offers_one_record_and_leaves_the_others_at_rest(project: Project, api: FaultAPI) -> None:
    project.users(3)
    project.entity(results=RESULTS, reject_after=1)
    api.script("/users", items(*[(id_, "no", "x") for id_ in (1, 2, 3)]), items((2, "ok", None)))
    project.run(code=1)
    assert retry(project, "Users", "2").returncode == 0
    found = users(project.run())
    assert (found["accepted"], found["waiting"]) == (1, 2)
    assert sent(api) == [1, 2, 3, 2]
    assert [row[0] for row in rows(project)] == ["1", "3"]
    acts = project.ledger("SELECT AdditionalInformation FROM SchedulerLog WHERE Activity = 'Retry: Users'")
    assert json.loads(acts[0][0])["EntityIds"] == ["2"]


def test_retry_without_ids_offers_all_of_the_entity_and_of_no_other(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.users(1, "Others")
    project.entity(results=RESULTS, reject_after=1)
    project.entity("Others", results=RESULTS)
    api.script("/users", items((1, "no", "x"), (2, "no", "y")))
    api.script("/others", NO)
    project.run(code=1)
    answered = project.cli("retry", project.file, "Users", "--format", "json")
    assert answered.returncode == 0
    assert json.loads(answered.stdout)["offered"] == ["1", "2"]
    report = project.run(code=1)
    check_sums(report)
    assert [entity["due"] for entity in report["entities"]] == [2, 0]
    assert [entity["waiting"] for entity in report["entities"]] == [0, 1]


def test_a_record_that_was_retried_begins_anew(project: Project, api: FaultAPI) -> None:
    one(project, api, NO, reject_after=2)
    project.run(code=1)
    pass_time(project, 1)
    project.run(code=1)
    assert rows(project)[0][1] == "parked"
    assert retry(project, "Users", "1").returncode == 0
    project.run(code=1)
    assert rows(project) == [("1", "rejected", "no such post", 1)]
    assert delay(project) == 1


def test_retry_takes_ids_in_any_form_that_names_the_record(project: Project, api: FaultAPI) -> None:
    project.fill("Guids", "Id TEXT PRIMARY KEY", [(GUID,)])
    project.fill("Pairs", "A TEXT, B INTEGER", [("x", 1), ("y", 2)])
    project.entity("Guids", reject_after=1)
    project.entity("Pairs", id=["A", "B"], reject_after=1)
    api.script("/guids", answer(422), answer())
    api.script("/pairs", answer(422), answer(422, "x"), answer(422, "y"), answer())
    project.run(code=1)
    assert retry(project, "Guids", GUID.upper()).returncode == 0
    assert retry(project, "Pairs", '["y", 2]').returncode == 0
    report = project.run()
    check_sums(report)
    assert project.tracked("Guids") == [GUID]
    assert project.tracked("Pairs") == ['["y","2"]']
    assert list(project.rejects("Pairs")) == ['["x","1"]']


def test_retry_of_a_record_that_was_not_refused_is_exit_1_and_offers_the_others(
    project: Project, api: FaultAPI
) -> None:
    one(project, api, NO)
    project.run(code=1)
    finished = project.cli("retry", project.file, "Users", "1", "99", "--format", "json")
    assert finished.returncode == 1
    document = json.loads(finished.stdout)
    assert (document["offered"], document["not_refused"]) == (["1"], ["99"])
    assert users(project.run(code=1))["due"] == 1


def test_retry_of_an_unknown_entity_or_a_malformed_id_is_a_usage_error(project: Project, api: FaultAPI) -> None:
    project.fill("Pairs", "A TEXT, B INTEGER", [("x", 1)])
    project.entity("Pairs", id=["A", "B"])
    project.run()
    assert retry(project, "Pears").returncode == 2
    assert retry(project, "Pairs", "x").returncode == 2


# Listing them

NASTY = "=cmd|' /C calc'!A0, \"quoted\"\r\nsecond line; größer"


@pytest.fixture
def listed(project: Project, api: FaultAPI) -> Project:
    """Two entities with a resting, a parked, a broken and a nasty record."""
    project.users(2)
    project.fill("Others", "Id INTEGER PRIMARY KEY, Name TEXT", [(7, "5"), (8, "x")])
    project.entity(results=RESULTS)
    project.entity("Others", results=RESULTS, reject_after=1, fields={"Id": "int", "Name": "int"})
    api.script("/users", items((1, "no", NASTY), (2, "ok", None)))
    api.script("/others", items((7, "no", "x")))
    check_sums(project.run(code=1))
    return project


def test_rejects_are_listed_as_json(listed: Project) -> None:
    finished = listed.cli("rejects", listed.file, "--format", "json")
    assert finished.returncode == 0
    found = {(item["entity"], item["id"]): item for item in json.loads(finished.stdout)["rejects"]}
    assert set(found) == {("Users", "1"), ("Others", "7"), ("Others", "8")}
    resting, parked, broken = found["Users", "1"], found["Others", "7"], found["Others", "8"]
    assert (resting["state"], resting["http_status"], resting["attempts"]) == ("rejected", 207, 1)
    assert resting["reason"] == NASTY
    assert resting["next_try"] == next_try(listed, "1")
    assert (parked["state"], parked["next_try"]) == ("parked", None)
    assert (broken["state"], broken["next_try"], broken["http_status"], broken["batch_id"]) == (
        "rejected",
        None,
        None,
        None,
    )


def test_rejects_are_listed_as_csv_that_a_spreadsheet_cannot_execute(listed: Project) -> None:
    done = subprocess.run(
        listed.command("rejects", listed.file, "--format", "csv"),
        cwd=listed.folder, env=listed.env(), capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    found = list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))
    assert list(found[0]) == [
        "entity", "id", "state", "reason", "http_status", "attempts", "first_seen", "last_seen", "next_try", "batch_id",
    ]  # fmt: skip
    assert {(row["entity"], row["id"], row["state"]) for row in found} == {
        ("Users", "1", "rejected"),
        ("Others", "7", "parked"),
        ("Others", "8", "rejected"),
    }
    (reason,) = [row["reason"] for row in found if row["entity"] == "Users"]
    # A line break is shown, not made: a reason is one line in whatever reads the file line by line.
    assert reason == "'" + NASTY.replace("\r\n", "\\r\\n").replace("\n", "\\n")
    assert all(line.endswith(b"\r\n") for line in done.stdout.splitlines(keepends=True))
    assert b"\r\r\n" not in done.stdout


def test_rejects_are_listed_for_people(listed: Project) -> None:
    finished = listed.cli("rejects", listed.file, env={"COLUMNS": "200"})
    assert finished.returncode == 0
    for word in ("Users", "Others", "parked", "rejected", "`retry`", "next run"):
        assert word in finished.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--entity", "Users"], {"1"}),
        (["--state", "parked"], {"7"}),
        (["--state", "rejected"], {"1", "8"}),
        (["--entity", "Others", "--state", "rejected"], {"8"}),
        (["--entity", "Others", "--entity", "Users"], {"1", "7", "8"}),
        (["--entity", "Users", "--state", "parked"], set()),
    ],
)
def test_rejects_are_chosen_by_entity_and_state(listed: Project, options: list[str], expected: set[str]) -> None:
    finished = listed.cli("rejects", listed.file, "--format", "json", *options)
    assert finished.returncode == 0
    assert {item["id"] for item in json.loads(finished.stdout)["rejects"]} == expected


def test_rejects_of_an_unknown_entity_is_a_usage_error(listed: Project) -> None:
    assert listed.cli("rejects", listed.file, "--entity", "Nobody").returncode == 2
    assert listed.cli("rejects", listed.file, "--state", "lost").returncode == 2


def test_without_a_ledger_nothing_is_refused_and_no_ledger_is_made(project: Project) -> None:
    project.users(1)
    project.entity()
    project.write()
    finished = project.cli("rejects", project.file, "--format", "json")
    assert (finished.returncode, json.loads(finished.stdout)["rejects"]) == (0, [])
    header = project.cli("rejects", project.file, "--format", "csv")
    assert (header.returncode, header.stdout.count("\n")) == (0, 1)
    assert "No record is rejected." in project.cli("rejects", project.file).stdout
    assert not (project.folder / "log.db").exists()


def test_a_record_is_named_in_csv_as_retry_takes_it(project: Project, api: FaultAPI) -> None:
    project.fill("Pairs", "A TEXT, B INTEGER", [("x, y", 1)])
    project.entity("Pairs", id=["A", "B"], reject_after=1)
    api.script("/pairs", answer(422), answer())
    project.run(code=1)
    listed_ = project.cli("rejects", project.file, "--format", "csv").stdout
    (row,) = csv.DictReader(io.StringIO(listed_, newline=""))
    assert row["id"] == '["x, y","1"]'
    assert retry(project, "Pairs", row["id"]).returncode == 0
    assert users(project.run())["accepted"] == 1


def test_rejections_of_calls_in_flight_together_are_all_written(project: Project, api: FaultAPI) -> None:
    def odd(request: Request) -> bool:
        return any(record["Id"] % 2 for record in request.records)

    project.spec["api"]["in_flight"] = 4
    project.users(16)
    project.entity(batch_size=1)
    api.script("/users", when(odd, answer(422, b"odd")))
    found = users(project.run(code=1))
    assert (found["accepted"], found["rejected"]) == (8, 8)
    assert {row[0]: row[1:] for row in rows(project)} == {
        str(id_): ("rejected", "HTTP 422 Unprocessable Entity: odd", 1) for id_ in range(1, 17, 2)
    }
    found = users(project.run())
    assert (found["waiting"], found["excluded"], found["calls"]) == (8, 8, 0)
