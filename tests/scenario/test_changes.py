"""`resend: changed`: a record whose content differs from what was accepted is due again, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.db.statement import Statement
from tests.builders import open_ledger
from tests.faultapi import FaultAPI, Request, answer, when
from tests.project import Project, check_sums
from tests.scenario.test_parking import named

PAST = "2020-01-01 00:00:00"
GUID = "4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11"


@pytest.fixture
def project(tmp_path: Path, api: FaultAPI) -> Project:
    return Project(tmp_path / "project", api.url)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def everywhere(request: pytest.FixtureRequest, project: Project, database: Callable[[str], str]) -> Project:
    """A project whose source and ledger are both of one dialect."""
    project.spec["connections"] = {"default": database(request.param), "log": database(request.param)}
    return project


def execute(project: Project, alias: str, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    connection = open_ledger(alias, project.spec["connections"][alias], project.folder, create=True)
    try:
        return [tuple(row) for row in connection.execute(Statement(sql, parameters)).rows]
    finally:
        connection.close()


def users(project: Project, count: int) -> None:
    """A table in the source with whole-number IDs from 1 and a name."""
    execute(project, "default", "CREATE TABLE Users (Id INTEGER, Name VARCHAR(50), Secret VARCHAR(50))")
    for number in range(1, count + 1):
        execute(project, "default", f"INSERT INTO Users VALUES ({number}, 'name {number}', 'x')")


def rename(project: Project, id_: int, name: str) -> None:
    execute(project, "default", "UPDATE Users SET Name = ? WHERE Id = ?", name, id_)


def entity(project: Project, **keys: Any) -> dict[str, Any]:
    return project.entity(**{"resend": "changed", "fields": {"Id": "int", "Name": "string"}, **keys})


def counts(report: dict[str, Any]) -> dict[str, Any]:
    check_sums(report)
    return named(report)["Users"]


def planned(project: Project) -> dict[str, Any]:
    shown = project.cli("plan", project.file, "--format", "json")
    made: dict[str, Any] = json.loads(shown.stdout)["entities"][0]
    assert shown.returncode == (1 if made["rejected"] else 0), shown.stderr
    return made


def as_planned(project: Project, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run, and compare with what `plan` said before."""
    project.write()
    plan = planned(project)
    made = counts(project.run(*arguments, code=code))
    assert plan["in_source"] == made["read"]
    assert plan["due"] + plan["rejected"] == made["due"]
    assert plan["tracked"] == made["excluded"]
    assert plan["dropped"] == made["dropped"]
    assert plan["resting"] + plan["in_doubt"] == made["waiting"]
    return made


def sent(api: FaultAPI, after: int = 0) -> list[tuple[int, str]]:
    """The records that arrived, but for the first calls."""
    return [(record["Id"], record["Name"]) for request in api.of("/users")[after:] for record in request.records]


def times(project: Project) -> dict[str, str]:
    rows = execute(project, "log", "SELECT EntityId, SyncTimestamp FROM TB_R_SYNC_TRACKING WHERE EntityType = 'Users'")
    return {id_: str(moment) for id_, moment in rows}


def kept(project: Project, kind: str = "accepted") -> dict[str, str]:
    rows = execute(
        project,
        "log",
        f"SELECT EntityId, ContentHash FROM TB_R_SYNC_CONTENT WHERE EntityType = 'Users' AND Kind = '{kind}'",
    )
    return dict(rows)


def names(text: str) -> Callable[[Request], bool]:
    """True for a call that carries a record of this name."""
    return lambda request: any(record["Name"] == text for record in request.records)


# What is due


def test_a_record_whose_content_changed_is_delivered_again_once(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    users(project, 5)
    entity(project, batch_size=2)
    assert as_planned(project)["accepted"] == 5
    assert sorted(kept(project)) == ["1", "2", "3", "4", "5"]
    before = len(api.of("/users"))
    assert as_planned(project)["due"] == 0
    old = times(project)
    rename(project, 2, "other")
    rename(project, 5, "another")
    again = as_planned(project)
    assert (again["read"], again["excluded"], again["due"], again["accepted"]) == (5, 3, 2, 2)
    assert sent(api, before) == [(2, "other"), (5, "another")]
    new = times(project)
    assert {id_ for id_ in new if new[id_] != old[id_]} == {"2", "5"}, "SyncTimestamp moves with the delivery"
    assert all(new[id_] >= old[id_] for id_ in new)
    assert as_planned(project)["due"] == 0
    assert execute(project, "log", "SELECT COUNT(*) FROM TB_R_SYNC_TRACKING") == [(5,)]
    assert execute(project, "log", "SELECT COUNT(*) FROM TB_R_SYNC_CONTENT") == [(5,)]


def test_once_never_sends_a_record_again(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    users(project, 3)
    entity(project)
    del project.spec["entities"][0]["resend"]
    project.run()
    old = times(project)
    rename(project, 2, "other")
    assert as_planned(project)["due"] == 0
    assert len(api.of("/users")) == 1
    assert times(project) == old
    assert kept(project) == {}


def test_only_what_is_sent_counts_as_content(project: Project, api: FaultAPI) -> None:
    users(project, 2)
    entity(project)
    project.run()
    execute(project, "default", "UPDATE Users SET Secret = 'y'")
    assert as_planned(project)["due"] == 0, "a column that is not sent"
    project.spec["entities"][0]["transform"] = [{"convert": {"Name": "upper"}}]
    assert as_planned(project)["accepted"] == 2, "the same row, another record"
    assert sent(api, 1) == [(1, "NAME 1"), (2, "NAME 2")]


def test_content_that_changes_back_is_not_due(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    users(project, 2)
    entity(project)
    project.run()
    rename(project, 1, "other")
    assert planned(project)["due"] == 1
    rename(project, 1, "name 1")
    assert as_planned(project)["due"] == 0
    rename(project, 1, "other")
    project.run()
    rename(project, 1, "name 1")
    assert as_planned(project)["accepted"] == 1, "back to what was accepted before last is a change"
    assert sent(api, 2) == [(1, "name 1")]


@pytest.mark.parametrize("how", ["once", "baseline", "replaced job"])
def test_records_tracked_before_have_their_present_content_adopted(
    everywhere: Project, api: FaultAPI, how: str
) -> None:
    project = everywhere
    users(project, 3)
    entity(project)
    if how == "baseline":
        project.write()
        assert project.cli("baseline", project.file, "Users", "--yes").returncode == 0
    else:
        del project.spec["entities"][0]["resend"]
        project.run()
        if how == "replaced job":
            rename(project, 1, "while nobody looked")
    before = len(api.of("/users"))
    project.spec["entities"][0]["resend"] = "changed"
    first = as_planned(project)
    assert (first["due"], first["excluded"]) == (0, 3), "adopted, not sent"
    assert len(api.of("/users")) == before
    assert sorted(kept(project)) == ["1", "2", "3"]
    rename(project, 3, "other")
    assert as_planned(project)["accepted"] == 1
    assert sent(api, before) == [(3, "other")]


def test_records_with_guids_of_the_replaced_job_in_upper_case_are_adopted_and_touched(
    everywhere: Project, api: FaultAPI
) -> None:
    project = everywhere
    execute(project, "default", "CREATE TABLE Users (Id CHAR(36), Name VARCHAR(50))")
    execute(project, "default", f"INSERT INTO Users VALUES ('{GUID.upper()}', 'Ann')")
    entity(project, fields={"Id": "guid", "Name": "string"})
    project.run()
    execute(project, "log", "DELETE FROM TB_R_SYNC_CONTENT")
    execute(project, "log", f"UPDATE TB_R_SYNC_TRACKING SET EntityId = '{GUID.upper()}', SyncTimestamp = '{PAST}'")
    assert as_planned(project)["due"] == 0
    assert list(kept(project)) == [GUID]
    execute(project, "default", "UPDATE Users SET Name = 'Bea'")
    assert as_planned(project)["accepted"] == 1
    assert times(project)[GUID.upper()] > PAST
    assert as_planned(project)["due"] == 0


def test_switching_off_and_on_again_adopts_nothing_that_is_known(project: Project, api: FaultAPI) -> None:
    users(project, 2)
    made = entity(project)
    project.run()
    made["resend"] = "once"
    rename(project, 1, "other")
    assert as_planned(project)["due"] == 0
    made["resend"] = "changed"
    assert as_planned(project)["accepted"] == 1, "what was accepted was known all the time"
    assert sent(api, 1) == [(1, "other")]


def test_with_a_limit_changed_records_count_as_due_and_the_rest_follows(project: Project, api: FaultAPI) -> None:
    users(project, 10)
    entity(project, batch_size=2, page_size=3)
    project.run()
    before = len(api.of("/users"))
    for number in (2, 5, 6, 9):
        rename(project, number, "other")
    first = counts(project.run("--limit", "3"))
    assert (first["due"], first["accepted"]) == (3, 3)
    assert [id_ for id_, _ in sent(api, before)] == [2, 5, 6]
    second = counts(project.run("--limit", "3"))
    assert (second["due"], second["accepted"]) == (1, 1)
    assert as_planned(project)["due"] == 0


def test_new_and_changed_records_share_batches_and_a_dropped_one_stays_out(project: Project, api: FaultAPI) -> None:
    users(project, 4)
    entity(project, batch_size=3, transform=[{"select": "Name != 'gone'"}])
    project.run()
    rename(project, 1, "other")
    rename(project, 2, "gone")
    execute(project, "default", "INSERT INTO Users VALUES (5, 'new', 'x')")
    made = as_planned(project)
    assert (made["due"], made["accepted"], made["dropped"], made["excluded"]) == (2, 2, 1, 2)
    assert sent(api, 2) == [(1, "other"), (5, "new")]


def test_a_changed_record_that_breaks_its_contract_is_rejected_and_sent_when_mended(
    project: Project, api: FaultAPI
) -> None:
    users(project, 2)
    entity(project)
    project.run()
    execute(project, "default", "UPDATE Users SET Name = NULL WHERE Id = 1")
    made = as_planned(project, code=1)
    assert (made["rejected"], made["accepted"], made["excluded"]) == (1, 0, 1)
    rename(project, 1, "name 1")
    assert as_planned(project)["due"] == 0, "what was accepted before"
    rename(project, 1, "mended")
    assert as_planned(project)["accepted"] == 1


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql", "mysql"])
def test_composite_ids_and_wrapped_bodies_are_compared_too(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str
) -> None:
    project.spec["connections"]["log"] = database(ledger)
    project.fill("Users", "Emp INTEGER, Dept TEXT, Name TEXT", [(1, "d'1", "a"), (1, 'd"2', "b"), (2, "é😀", "c")])
    project.entity(id=["Emp", "Dept"], resend="changed", body={"wrap": "items"})
    project.run()
    assert len(kept(project)) == 3
    execute(project, "default", "UPDATE Users SET Name = 'z' WHERE Emp = 2")
    assert as_planned(project)["accepted"] == 1
    assert api.of("/users")[1].records == [{"Emp": 2, "Dept": "é😀", "Name": "z"}]
    assert as_planned(project)["due"] == 0


def test_many_changed_records_over_many_pages_and_batches_in_flight(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    project.spec["api"]["in_flight"] = 4
    users(project, 60)
    entity(project, batch_size=7, page_size=11)
    project.run()
    before = len(api.of("/users"))
    execute(project, "default", "UPDATE Users SET Name = 'other' WHERE Id > 25")
    made = as_planned(project)
    assert (made["excluded"], made["accepted"]) == (25, 35)
    assert sorted(id_ for id_, _ in sent(api, before)) == list(range(26, 61))
    assert as_planned(project)["due"] == 0


# Refused contents


def test_a_refused_new_content_rests_while_it_stays_and_is_due_when_it_changes(
    everywhere: Project, api: FaultAPI
) -> None:
    project = everywhere
    users(project, 3)
    entity(project)
    project.run()
    old = times(project)
    rename(project, 2, "bad")
    api.script("/users", when(names("bad"), answer(422, "bad name"), answer()))
    first = as_planned(project, code=1)
    assert (first["rejected"], first["accepted"], first["excluded"]) == (1, 0, 2)
    before = len(api.of("/users"))
    resting = as_planned(project)
    assert (resting["waiting"], resting["due"], resting["excluded"]) == (1, 0, 2)
    assert len(api.of("/users")) == before
    assert times(project) == old, "nothing was delivered"
    rename(project, 2, "good")
    assert as_planned(project)["accepted"] == 1
    assert kept(project, "rejected") == {}
    assert execute(project, "log", "SELECT COUNT(*) FROM TB_R_SYNC_REJECT") == [(0,)]


def test_a_refused_new_content_is_offered_again_when_its_rest_is_over(project: Project, api: FaultAPI) -> None:
    users(project, 1)
    entity(project)
    project.run()
    rename(project, 1, "other")
    api.script("/users", answer(422), answer())
    counts(project.run(code=1))
    execute(project, "log", f"UPDATE TB_R_SYNC_REJECT SET NextTry = '{PAST}'")
    assert as_planned(project)["accepted"] == 1


def test_a_refused_content_that_changes_back_to_the_accepted_one_is_delivered(project: Project, api: FaultAPI) -> None:
    users(project, 1)
    entity(project)
    project.run()
    rename(project, 1, "bad")
    api.script("/users", when(names("bad"), answer(422), answer()))
    counts(project.run(code=1))
    rename(project, 1, "name 1")
    back = as_planned(project)
    assert (back["excluded"], back["waiting"], back["due"]) == (1, 0, 0)
    rename(project, 1, "bad")
    again = as_planned(project)
    assert (again["waiting"], again["due"]) == (1, 0), "the API has said no to it"


def test_a_parked_content_is_due_when_it_changes(project: Project, api: FaultAPI) -> None:
    users(project, 1)
    entity(project, reject_after=1)
    api.script("/users", when(names("name 1"), answer(422), answer()))
    counts(project.run(code=1))
    assert as_planned(project)["waiting"] == 1
    rename(project, 1, "other")
    assert as_planned(project)["accepted"] == 1


def test_a_record_refused_when_an_earlier_batch_is_settled_rests_in_that_run_too(
    project: Project, api: FaultAPI
) -> None:
    users(project, 2)
    entity(project, results={"path": "items", "id": "Id", "accepted": "ok", "reason": "why"})
    project.spec["api"]["retry"]["attempts"] = 1
    verdict = {"items": [{"Id": 1, "ok": True}, {"Id": 2, "ok": False, "why": "bad name"}]}
    api.script("/users", answer(500), answer(200, verdict))
    counts(project.run(code=1))
    report = counts(project.run())
    assert report["settled"] == 1
    assert len(api.of("/users")) == 2, "the rejected record is not offered again at once"
    assert (report["waiting"], report["due"]) == (1, 0)


# Batches in doubt


def test_a_batch_in_doubt_that_carried_the_old_content_leaves_the_change_due(
    everywhere: Project, api: FaultAPI
) -> None:
    project = everywhere
    users(project, 2)
    entity(project)
    project.spec["api"]["retry"]["attempts"] = 1
    api.script("/users", answer(500), answer())
    assert counts(project.run(code=1))["in_doubt"] == 2
    rename(project, 2, "meanwhile")
    made = counts(project.run())
    assert (made["settled"], made["accepted"], made["excluded"]) == (2, 1, 1)
    assert sent(api, 1) == [(1, "name 1"), (2, "name 2"), (2, "meanwhile")]
    assert as_planned(project)["due"] == 0


def test_a_change_in_doubt_that_is_taken_back_is_corrected(project: Project, api: FaultAPI) -> None:
    users(project, 1)
    entity(project)
    project.run()
    project.spec["api"]["retry"]["attempts"] = 1
    rename(project, 1, "other")
    api.script("/users", answer(500), answer())
    assert counts(project.run(code=1))["in_doubt"] == 1
    rename(project, 1, "name 1")
    made = counts(project.run())
    assert (made["settled"], made["accepted"]) == (1, 1), "the API has `other` now"
    assert sent(api, 1) == [(1, "other"), (1, "other"), (1, "name 1")]


def test_a_changed_record_in_doubt_waits(project: Project, api: FaultAPI) -> None:
    users(project, 2)
    entity(project)
    project.run()
    project.spec["api"]["in_doubt"] = "hold"
    rename(project, 1, "other")
    api.script("/users", answer(500), answer())
    assert counts(project.run(code=1))["in_doubt"] == 1
    rename(project, 1, "third")
    waiting = as_planned(project, code=1)
    assert (waiting["waiting"], waiting["due"], waiting["excluded"]) == (1, 0, 1)


def held(project: Project, api: FaultAPI) -> str:
    """Two records delivered; a change of the second is in a batch that is held. Gives the batch."""
    users(project, 2)
    entity(project)
    project.run()
    project.spec["api"]["in_doubt"] = "hold"
    rename(project, 2, "held")
    api.script("/users", answer(500), answer())
    assert counts(project.run(code=1))["in_doubt"] == 1
    ((batch,),) = execute(project, "log", "SELECT BatchId FROM TB_R_SYNC_BATCH WHERE State = 'held'")
    return str(batch)


def test_resolved_as_accepted_it_leaves_a_change_made_meanwhile_due(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    batch = held(project, api)
    rename(project, 2, "meanwhile")
    assert project.cli("resolve", project.file, batch, "accepted").returncode == 0
    before = len(api.of("/users"))
    assert as_planned(project)["accepted"] == 1
    assert sent(api, before) == [(2, "meanwhile")]


def test_resolved_as_accepted_what_it_carried_is_not_sent_again(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    batch = held(project, api)
    assert project.cli("resolve", project.file, batch, "accepted").returncode == 0
    assert as_planned(project)["due"] == 0


def test_resolved_as_accepted_moves_the_time_of_the_delivery(project: Project, api: FaultAPI) -> None:
    batch = held(project, api)
    execute(project, "log", f"UPDATE TB_R_SYNC_TRACKING SET SyncTimestamp = '{PAST}'")
    assert project.cli("resolve", project.file, batch, "accepted").returncode == 0
    assert times(project)["1"] == PAST
    assert times(project)["2"] > PAST


def test_resolved_as_dropped_its_present_content_is_due(project: Project, api: FaultAPI) -> None:
    batch = held(project, api)
    assert project.cli("resolve", project.file, batch, "drop").returncode == 0
    assert as_planned(project)["accepted"] == 1
    assert sent(api, 2) == [(2, "held")]


def test_resolved_to_be_sent_again_it_leaves_a_change_made_meanwhile_due(project: Project, api: FaultAPI) -> None:
    batch = held(project, api)
    rename(project, 2, "meanwhile")
    assert project.cli("resolve", project.file, batch, "resend").returncode == 0
    made = counts(project.run())
    assert (made["settled"], made["accepted"]) == (1, 1)
    assert sent(api, 2) == [(2, "held"), (2, "meanwhile")]


RESULTS = {"path": "items", "id": "Id", "accepted": "ok"}


@pytest.mark.parametrize("before", ["new", "delivered"])
def test_unknown_records_resolved_as_accepted_leave_a_change_made_meanwhile_due_and_nothing_else(
    project: Project, api: FaultAPI, before: str
) -> None:
    users(project, 2)
    entity(project, results=RESULTS)
    project.spec["api"]["in_doubt"] = "hold"
    both = answer(200, {"items": [{"Id": 1, "ok": True}, {"Id": 2, "ok": True}]})
    if before == "delivered":
        api.script("/users", both)
        project.run()
        rename(project, 1, "second")
        rename(project, 2, "second")
    api.script("/users", answer(200, {"items": [{"Id": 1, "ok": True}]}), both)
    assert counts(project.run(code=1))["in_doubt"] == 1
    ((batch,),) = execute(project, "log", "SELECT BatchId FROM TB_R_SYNC_BATCH WHERE State = 'held'")
    if before == "new":
        rename(project, 2, "meanwhile")
    assert project.cli("resolve", project.file, batch, "accepted").returncode == 0
    made = counts(project.run())
    assert made["due"] == (1 if before == "new" else 0)


def test_unknown_records_are_offered_again_with_their_present_content(project: Project, api: FaultAPI) -> None:
    users(project, 2)
    entity(project, results=RESULTS)
    both = answer(200, {"items": [{"Id": 1, "ok": True}, {"Id": 2, "ok": True}]})
    api.script("/users", answer(200, {"items": [{"Id": 1, "ok": True}]}), both)
    assert counts(project.run(code=1))["in_doubt"] == 1
    rename(project, 2, "meanwhile")
    assert counts(project.run())["accepted"] == 1
    assert sent(api, 1) == [(2, "meanwhile")]
    assert as_planned(project)["due"] == 0


# Acts


def test_forget_makes_a_record_due_whatever_its_content(everywhere: Project, api: FaultAPI) -> None:
    project = everywhere
    users(project, 2)
    entity(project)
    project.run()
    assert project.cli("forget", project.file, "Users", "1").returncode == 0
    assert list(kept(project)) == ["2"]
    assert as_planned(project)["accepted"] == 1
    assert sent(api, 1) == [(1, "name 1")]
    assert as_planned(project)["due"] == 0


def test_forget_makes_a_record_due_also_where_its_new_content_was_refused(project: Project, api: FaultAPI) -> None:
    users(project, 1)
    entity(project)
    project.run()
    rename(project, 1, "other")
    api.script("/users", answer(422), answer())
    counts(project.run(code=1))
    done = project.cli("forget", project.file, "Users", "1")
    assert "the next run offers them again" in done.stdout
    assert as_planned(project)["accepted"] == 1


def test_retry_offers_a_refused_new_content_at_once(project: Project, api: FaultAPI) -> None:
    users(project, 2)
    entity(project)
    project.run()
    rename(project, 1, "other")
    api.script("/users", answer(422), answer())
    counts(project.run(code=1))
    assert project.cli("retry", project.file, "Users", "1").returncode == 0
    made = as_planned(project)
    assert (made["accepted"], made["excluded"]) == (1, 1)


def test_a_killed_run_adopts_nothing_wrong(project: Project, api: FaultAPI) -> None:
    users(project, 2)
    entity(project)
    project.run()
    rename(project, 1, "other")
    killed = project.cli("run", project.file, process=True, env={"SYNCLEDGER_FAILPOINT": "tracked:1"})
    assert killed.returncode < 0
    made = counts(project.run())
    assert (made["settled"], made["due"]) == (1, 0)
    assert sent(api, 1) == [(1, "other"), (1, "other")]
    assert as_planned(project)["due"] == 0


# The plan


def test_plan_agrees_with_the_run_where_the_sql_asks_for_the_last_success(project: Project, api: FaultAPI) -> None:
    users(project, 3)
    entity(
        project,
        query="SELECT * FROM Users{% if run.last_success %} WHERE Id > 2{% endif %}",
    )
    project.run()
    rename(project, 1, "other")
    as_planned(project)
