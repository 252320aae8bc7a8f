"""Parked endpoints: left alone until a time that the API named or the breaker chose, across runs, and said so."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from engine.db.statement import Statement
from engine.observe.observer import Silent
from engine.runtime import runner
from engine.sync.send import post
from engine.sync.spec.load import load
from tests.builders import open_ledger
from tests.contract.test_ledger_failures import Mount, mount  # noqa: F401 - a fixture
from tests.faultapi import FaultAPI, answer
from tests.project import Project, check_sums

LATER = "3600"
PAST = "2020-01-01 00:00:00"


def ask(project: Project, sql: str) -> list[tuple[Any, ...]]:
    """SQL on the project's ledger, whatever its database."""
    connection = open_ledger("log", project.spec["connections"]["log"], project.folder, create=True)
    try:
        return [tuple(row) for row in connection.execute(Statement(sql, ())).rows]
    finally:
        connection.close()


def pass_time(project: Project) -> None:
    """Let the time come until which anything is parked."""
    ask(project, f"UPDATE TB_R_SYNC_PARK SET Until = '{PAST}'")


def named(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entity["name"]: entity for entity in report["entities"]}


def status(project: Project) -> dict[str, Any]:
    shown = project.cli("status", project.file, "--format", "json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def parked(project: Project) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = status(project)["parked_endpoints"]
    return found


def from_now(moment: str) -> float:
    """Seconds from now to a naive UTC time."""
    return (datetime.fromisoformat(moment).replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()


@pytest.mark.parametrize(("ledger", "in_flight"), [("sqlite", 1), ("sqlite", 4), ("postgresql", 4), ("mysql", 1)])
def test_a_long_retry_after_parks_the_endpoint_across_runs_until_its_time(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str, in_flight: int
) -> None:
    project.spec["connections"]["log"] = database(ledger)
    project.spec["api"]["in_flight"] = in_flight
    project.users(12)
    project.users(3, table="Orgs")
    project.entity(batch_size=2)
    project.entity("Orgs")
    api.script("/users", answer(429, b"", Retry_After=LATER))
    report = project.run(code=1)
    users, orgs = report["entities"]
    assert report["status"] == "incomplete"
    assert users["read"] == users["waiting"] > 0, "parked is not failed"
    assert (users["due"], users["failed"], users["rejected"], users["in_doubt"]) == (0, 0, 0, 0)
    assert "parked until" in users["error"]
    assert orgs["accepted"] == 3, "other endpoints go on"
    check_sums(report)
    assert len(api.of("/users")) <= in_flight, "nothing is sent there after the answer"
    before = len(api.of("/users"))

    (shown,) = parked(project)
    assert shown["endpoint"] == f"{api.url}/users"
    assert 3500 < from_now(shown["until"]) < 3601
    assert "429" in shown["reason"]
    text = project.cli("status", project.file).stdout
    assert shown["until"][:19] in text
    assert f"{api.url}/users" in text

    api.script("/users", answer())
    restarted = project.cli("run", project.file, "--format", "json", process=True)  # a process of its own
    assert restarted.returncode == 1, restarted.stderr
    again = json.loads(restarted.stdout)
    check_sums(again)
    assert again["status"] == "incomplete"
    assert "parked until" in named(again)["Users"]["error"]
    assert shown["until"][:19] in named(again)["Users"]["error"]
    assert len(api.of("/users")) == before, "a run before the time sends nothing there"

    pass_time(project)
    assert parked(project) == []
    after = project.run()
    assert named(after)["Users"]["accepted"] == 12
    sent = [record["Id"] for request in api.of("/users")[before:] for record in request.records]
    assert sorted(sent) == list(range(1, 13))


def test_a_retry_after_that_names_a_date_parks_until_that_date(project: Project, api: FaultAPI) -> None:
    moment = datetime.now(UTC) + timedelta(hours=2)
    project.users(2)
    project.entity()
    api.script("/users", answer(503, b"", Retry_After=format_datetime(moment, usegmt=True)))
    report = project.run(code=1)
    assert (named(report)["Users"]["waiting"], named(report)["Users"]["failed"]) == (2, 0)
    (shown,) = parked(project)
    assert abs(from_now(shown["until"]) - (moment - datetime.now(UTC)).total_seconds()) < 5


def test_a_retry_after_of_just_max_wait_is_waited_for_and_parks_nothing(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    api.script("/users", answer(429, b"", Retry_After="1"), answer())
    assert named(project.run())["Users"]["accepted"] == 2
    assert parked(project) == []


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql", "mysql"])
def test_an_absurd_retry_after_parks_for_a_day_at_most_and_the_reason_says_so(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str
) -> None:
    project.spec["connections"]["log"] = database(ledger)
    project.users(2)
    project.entity()
    api.script("/users", answer(429, b"", Retry_After="Fri, 01 Jan 2100 00:00:00 GMT"))
    report = project.run(code=1)
    (shown,) = parked(project)
    assert 86_000 < from_now(shown["until"]) <= 86_400
    (users,) = report["entities"]
    asked = re.search(r"it asks to wait (\d+) s, longer than max_wait; it is left alone for 24 h", users["error"])
    assert asked
    assert int(asked[1]) > 10**9


def test_a_parked_endpoint_that_asks_again_is_parked_anew(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    api.script("/users", answer(429, b"", Retry_After="60"), answer(429, b"", Retry_After="7200"), answer())
    project.run(code=1)
    pass_time(project)
    project.run(code=1)
    (shown,) = parked(project)
    assert from_now(shown["until"]) > 7000
    assert ask(project, "SELECT COUNT(*) FROM TB_R_SYNC_PARK") == [(1,)]


def test_retry_lifts_the_parking_and_the_next_run_sends(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.users(2, table="Orgs")
    project.entity()
    project.entity("Orgs")
    api.script("/users", answer(429, b"", Retry_After=LATER), answer())
    api.script("/orgs", answer(429, b"", Retry_After=LATER), answer())
    project.run(code=1)
    lifted = project.cli("retry", project.file, "Users", "--format", "json")
    assert lifted.returncode == 0
    assert json.loads(lifted.stdout)["endpoint_was_parked"] is True
    assert [park["endpoint"] for park in parked(project)] == [f"{api.url}/orgs"], "the other one stays parked"
    report = named(project.run(code=1))
    assert (report["Users"]["accepted"], report["Orgs"]["accepted"]) == (2, 0)
    shown = project.cli("retry", project.file, "Orgs")
    assert shown.returncode == 0
    assert "not parked any more" in shown.stdout
    again = project.cli("retry", project.file, "Orgs", "--format", "json")
    assert json.loads(again.stdout)["endpoint_was_parked"] is False
    assert named(project.run())["Orgs"]["accepted"] == 2


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql", "mysql"])
def test_a_long_url_with_a_password_is_parked_shown_masked_and_lifted(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str
) -> None:
    path = "/users/" + "x" * 450
    project.spec["connections"]["log"] = database(ledger)
    project.spec["api"]["base_url"] = api.url.replace("http://", "http://hr:sesam-open-quux@")
    project.users(2)
    project.entity(endpoint=path)
    api.script(path, answer(429, b"", Retry_After=LATER), answer())
    project.run(code=1)
    project.run(code=1)
    assert len(api.of(path)) == 1
    (shown,) = parked(project)
    assert "/users/xxx" in shown["endpoint"]
    assert "sesam-open-quux" not in json.dumps(ask(project, "SELECT Endpoint, Reason FROM TB_R_SYNC_PARK"))
    lifted = project.cli("retry", project.file, "Users", "--format", "json")
    assert json.loads(lifted.stdout)["endpoint_was_parked"] is True
    assert named(project.run())["Users"]["accepted"] == 2


def test_plan_shows_until_when_an_endpoint_is_parked_and_of_which_entity(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.users(2, table="Orgs")
    project.entity()
    project.entity("Orgs")
    api.script("/users", answer(429, b"", Retry_After=LATER))
    project.run(code=1)
    (shown,) = parked(project)
    planned = project.cli("plan", project.file, "--format", "json")
    assert planned.returncode == 0, planned.stderr
    users, orgs = json.loads(planned.stdout)["entities"]
    assert users["parked_until"] == shown["until"]
    assert users["due"] == 2
    assert orgs["parked_until"] is None
    text = project.cli("plan", project.file).stdout
    assert f"Users: the endpoint is parked until {shown['until'][:19]} UTC" in text
    assert "Orgs: the endpoint" not in text
    pass_time(project)
    over = project.cli("plan", project.file)
    assert over.returncode == 0, over.stderr
    assert "Users" in over.stdout
    assert "parked" not in over.stdout


@pytest.mark.parametrize("run", ["the run that parks", "a later run"])
def test_a_parked_endpoint_of_several_entities_is_said_once(project: Project, api: FaultAPI, run: str) -> None:
    project.users(6)
    project.entity(batch_size=1)
    project.entity("Others", query="SELECT * FROM Users", endpoint="/users")
    project.write()
    api.script("/users", answer(429, b"", Retry_After=LATER))
    shown = project.cli("run", project.file, "--quiet")
    if run == "a later run":
        shown = project.cli("run", project.file, "--quiet")
    assert shown.returncode == 1
    assert shown.stdout.count("parked until") == 1, shown.stdout
    assert "failed" not in shown.stdout.casefold()
    assert len(api.of("/users")) == 1


def test_the_source_of_an_entity_whose_endpoint_is_parked_is_not_read(project: Project, api: FaultAPI) -> None:
    project.users(2)
    entity = project.entity()
    api.script("/users", answer(429, b"", Retry_After=LATER))
    project.run(code=1)
    entity["query"] = "SELECT * FROM NoSuchTable"
    found = named(project.run(code=1))["Users"]
    assert "parked until" in found["error"]
    assert "NoSuchTable" not in found["error"]
    assert (found["read"], found["calls"]) == (0, 0)


def test_an_entity_whose_endpoint_another_one_parked_sends_nothing(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    project.entity("Others", query="SELECT * FROM Users", endpoint="/users/")
    project.entity("Same", query="SELECT * FROM Users", endpoint="users")
    api.script("/users", answer(429, b"", Retry_After=LATER))
    report = project.run(code=1)
    found = named(report)
    assert found["Same"]["calls"] == 0, "the same URL in another spelling"
    assert found["Same"]["failed"] == 0
    assert found["Others"]["accepted"] == 2, "another URL"
    check_sums(report)


def test_with_a_limit_a_parked_endpoint_leaves_the_sums_right(project: Project, api: FaultAPI) -> None:
    project.users(9)
    project.entity(batch_size=2, page_size=2)
    api.script("/users", answer(), answer(429, b"", Retry_After=LATER))
    report = project.run("--limit", "5", code=1)
    users = named(report)["Users"]
    check_sums(report)
    assert (users["accepted"], users["failed"], users["due"]) == (2, 0, 2)
    assert users["waiting"] > 0
    assert len(api.of("/users")) == 2


def test_a_batch_in_doubt_whose_answer_parks_is_settled_after_the_time_with_its_key(
    project: Project, api: FaultAPI
) -> None:
    project.users(4)
    project.entity(batch_size=2)
    api.script("/users", answer(502, b"", Retry_After=LATER), answer())
    report = project.run(code=1)
    users = named(report)["Users"]
    check_sums(report)
    assert (users["in_doubt"], users["failed"]) == (2, 0), "it may have been processed"
    project.run(code=1)
    assert len(api.of("/users")) == 1
    assert ask(project, "SELECT State FROM TB_R_SYNC_BATCH WHERE State <> 'failed'") == [("in_doubt",)]
    pass_time(project)
    after = project.run()
    assert (named(after)["Users"]["settled"], named(after)["Users"]["accepted"]) == (2, 2)
    first, second, _ = api.of("/users")
    assert (first.body, first.headers["idempotency-key"]) == (second.body, second.headers["idempotency-key"])


def test_a_batch_of_an_earlier_run_may_park_the_endpoint_too(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity(batch_size=2)
    project.spec["api"]["retry"]["attempts"] = 1
    api.script("/users", answer(500), answer(500), answer(429, b"", Retry_After=LATER), answer())
    assert named(project.run(code=1))["Users"]["in_doubt"] == 4
    report = project.run(code=1)
    check_sums(report)
    assert len(api.of("/users")) == 3, "the second batch in doubt waits as well"
    assert "parked until" in named(report)["Users"]["error"]
    assert named(report)["Users"]["failed"] == 0
    assert len(parked(project)) == 1
    pass_time(project)
    assert named(project.run())["Users"]["settled"] == 4


def test_pieces_of_a_refused_batch_wait_where_the_endpoint_gets_parked(project: Project, api: FaultAPI) -> None:
    project.users(8)
    project.entity(batch_size=8)
    api.script("/users", answer(422), answer(429, b"", Retry_After=LATER), answer())
    report = project.run(code=1)
    users = named(report)["Users"]
    check_sums(report)
    assert (users["waiting"], users["failed"], users["rejected"]) == (8, 0, 0)
    pass_time(project)
    assert named(project.run())["Users"]["accepted"] == 8


def test_a_parking_that_cannot_be_written_ends_the_entity_and_the_sums_hold(project: Project, api: FaultAPI) -> None:
    project.users(4)
    project.entity(batch_size=2)
    project.run("--limit", "1")
    ask(
        project,
        "CREATE TRIGGER no_park BEFORE INSERT ON TB_R_SYNC_PARK BEGIN SELECT RAISE(ABORT, 'no parking here'); END",
    )
    api.script("/users", answer(429, b"", Retry_After=LATER))
    report = project.run(code=4)
    assert "no parking here" in named(report)["Users"]["error"]
    check_sums(report)


def test_a_batch_that_is_stopped_before_the_parking_answer_is_settled_waits_too(
    project: Project, api: FaultAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = post.Post.deliver

    def slowly(self: post.Post, batch: Any, report: Any) -> Any:
        outcome = original(self, batch, report)
        if outcome.park:
            time.sleep(0.5)  # what the scheduler of any machine may do here
        return outcome

    monkeypatch.setattr(post.Post, "deliver", slowly)
    project.spec["api"]["in_flight"] = 4
    project.users(60)
    project.entity(batch_size=1)
    api.script("/users", answer(), answer(), answer(429, b"", Retry_After=LATER))
    report = runner.run_pipeline(load(project.write()), Silent()).as_json()
    check_sums(report)
    assert named(report)["Users"]["failed"] == 0, "parked is not failed"


# The breaker


@pytest.mark.parametrize("in_flight", [1, 4])
def test_the_breaker_parks_an_endpoint_after_so_many_failed_batches_in_a_row(
    project: Project, api: FaultAPI, in_flight: int
) -> None:
    project.spec["api"].update(breaker={"after": 3, "for": "10m"}, in_flight=in_flight)
    project.users(20)
    project.users(2, table="Orgs")
    project.entity(batch_size=1)
    project.entity("Orgs")
    api.script("/users", answer(501))
    report = project.run(code=1)
    users = named(report)["Users"]
    check_sums(report)
    assert 3 <= len(api.of("/users")) < 3 + in_flight
    assert users["failed"] <= len(api.of("/users")), "what was not sent waits"
    assert users["waiting"] == users["read"] - users["failed"] > 0
    assert "parked until" in users["error"]
    assert named(report)["Orgs"]["accepted"] == 2
    (shown,) = parked(project)
    assert 590 < from_now(shown["until"]) < 601
    assert "3 batches in a row" in shown["reason"]
    assert "501" in shown["reason"]

    before = len(api.of("/users"))
    api.script("/users", answer())
    project.run(code=1)
    assert len(api.of("/users")) == before
    pass_time(project)
    assert named(project.run())["Users"]["accepted"] == 20


def test_a_success_in_between_resets_the_count_of_the_breaker(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["breaker"] = {"after": 2, "for": "10m"}
    project.users(6)
    project.entity(batch_size=1)
    api.script("/users", answer(501), answer(), answer(501), answer(), answer(501), answer())
    report = project.run(code=1)
    users = named(report)["Users"]
    assert (users["accepted"], users["failed"], users["waiting"]) == (3, 3, 0)
    assert parked(project) == []


def test_a_refused_record_is_an_answer_and_no_failure_for_the_breaker(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["breaker"] = {"after": 2, "for": "10m"}
    project.users(6)
    project.entity(batch_size=1)
    api.script("/users", answer(501), answer(422), answer(501), answer(422), answer(501), answer())
    users = named(project.run(code=1))["Users"]
    assert (users["accepted"], users["rejected"], users["failed"], users["waiting"]) == (1, 2, 3, 0)
    assert parked(project) == []


def test_the_breaker_counts_an_endpoint_over_all_of_its_entities(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["breaker"] = {"after": 2, "for": "10m"}
    project.users(1)
    for name in ("First", "Second", "Third"):
        project.entity(name, query="SELECT * FROM Users", endpoint="/users")
    api.script("/users", answer(501))
    report = project.run(code=1)
    check_sums(report)
    assert len(api.of("/users")) == 2
    assert named(report)["Third"]["calls"] == 0
    assert len(parked(project)) == 1


def test_an_api_that_nobody_listens_for_is_called_by_one_batch_only(project: Project) -> None:
    project.spec["api"].update(base_url="http://127.0.0.1:9", breaker={"after": 2, "for": "10m"})
    project.users(6)
    project.entity(batch_size=1)
    report = project.run(code=1)
    users = named(report)["Users"]
    check_sums(report)
    assert (users["calls"], users["failed"]) == (2, 1), "nobody listens: one batch of two attempts tells"
    assert users["waiting"] > 0
    assert parked(project) == []


def test_without_a_breaker_every_batch_is_offered(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["breaker"] = None
    project.users(12)
    project.entity(batch_size=1)
    api.script("/users", answer(501))
    users = named(project.run(code=1))["Users"]
    assert (users["failed"], users["waiting"], len(api.of("/users"))) == (12, 0, 12)
    assert parked(project) == []


def test_an_empty_breaker_has_the_defaults_five_and_ten_minutes(project: Project, api: FaultAPI) -> None:
    project.spec["api"]["breaker"] = {}
    project.users(12)
    project.entity(batch_size=1)
    api.script("/users", answer(501))
    project.run(code=1)
    assert len(api.of("/users")) == 5
    (shown,) = parked(project)
    assert 590 < from_now(shown["until"]) < 601


# The look at it


def test_status_before_any_run_creates_nothing(project: Project) -> None:
    project.users(1)
    project.entity()
    project.write()
    shown = project.cli("status", project.file, "--format", "json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["parked_endpoints"] == []
    assert not (project.folder / "log.db").exists()


@pytest.mark.parametrize("ledger", ["postgresql", "mysql"])
def test_status_before_any_run_creates_no_table(project: Project, database: Callable[[str], str], ledger: str) -> None:
    project.spec["connections"]["log"] = database(ledger)
    project.users(1)
    project.entity()
    project.write()
    assert project.cli("status", project.file).returncode == 0
    schema = "'public'" if ledger == "postgresql" else "DATABASE()"
    tables = ask(project, f"SELECT table_name FROM information_schema.tables WHERE table_schema = {schema}")
    assert tables == []


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql", "mysql"])
def test_each_act_and_each_look_keeps_a_row_with_who_what_and_when(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str
) -> None:
    project.spec["connections"]["log"] = database(ledger)
    project.spec["api"]["in_doubt"] = "hold"
    project.users(3)
    project.entity(batch_size=2)
    api.script("/users", answer(500), answer())
    project.run(code=1)
    ((batch,),) = ask(project, "SELECT BatchId FROM TB_R_SYNC_BATCH WHERE State = 'held'")
    ask(
        project,
        "UPDATE TB_R_SYNC_LEASE SET RunId = 'somebody', Host = 'elsewhere', ExpiresOn = '2999-01-01 00:00:00'",
    )
    acts = [
        (["status"], "Status: sync"),
        (["resolve", batch, "accepted"], "Resolve: Users"),
        (["retry", "Users"], "Retry: Users"),
        (["forget", "Users", "1"], "Forget: Users"),
        (["unlock", "--yes"], "Unlock: sync"),
    ]
    for (verb, *rest), _ in acts:
        done = project.cli(verb, project.file, *rest)
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
    rows = ask(
        project,
        "SELECT Activity, CreatedBy, CreatedOn, Status FROM SchedulerLog WHERE Activity NOT LIKE 'Sync Batch:%'",
    )
    assert sorted(row[0] for row in rows) == sorted(activity for _, activity in acts)
    me = project.cli("run", project.file)  # a run is no act of a person
    assert me.returncode == 0, me.stderr
    for activity, who, moment, result in rows:
        assert who, activity
        assert abs(from_now(str(moment))) < 60, activity
        assert result == "Success"
    assert len({who for _, who, _, _ in rows}) == 1
    calls = ask(project, "SELECT CreatedBy FROM SchedulerLog WHERE Activity LIKE 'Sync Batch:%'")
    assert {row[0] for row in calls} == {rows[0][1]}, "the same person"


def test_resend_of_a_batch_in_doubt_keeps_a_row_too(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    project.spec["api"]["retry"]["attempts"] = 1
    api.script("/users", answer(500))
    project.run(code=1)
    ((batch,),) = project.ledger("SELECT BatchId FROM TB_R_SYNC_BATCH WHERE State = 'in_doubt'")
    done = project.cli("resolve", project.file, batch, "resend", "--format", "json")
    assert done.returncode == 0
    assert project.ledger("SELECT Activity FROM SchedulerLog WHERE Activity LIKE 'Resolve%'") == [("Resolve: Users",)]
    assert json.loads(done.stdout)["resolved"] == "resend"


@pytest.mark.parametrize("why", ["too old", "hold"])
def test_resend_of_a_batch_in_doubt_is_obeyed_whatever_its_age_and_the_rule(
    project: Project, api: FaultAPI, why: str
) -> None:
    project.users(2)
    project.entity()
    project.spec["api"]["retry"]["attempts"] = 1
    api.script("/users", answer(500), answer())
    project.run(code=1)
    if why == "hold":
        project.spec["api"]["in_doubt"] = "hold"
        project.write()
    else:
        ask(project, f"UPDATE TB_R_SYNC_BATCH SET CreatedOn = '{PAST}'")
    ((batch,),) = project.ledger("SELECT BatchId FROM TB_R_SYNC_BATCH WHERE State = 'in_doubt'")
    assert project.cli("resolve", project.file, batch, "resend").returncode == 0
    report = project.run(code=None)
    assert (named(report)["Users"]["settled"], len(api.of("/users"))) == (2, 2)


@pytest.mark.parametrize("ledger", ["postgresql", "mysql"])
def test_status_on_a_ledger_that_may_only_be_read_still_shows_everything(
    project: Project, api: FaultAPI, database: Callable[[str], str], ledger: str
) -> None:
    text = project.spec["connections"]["log"] = database(ledger)
    project.users(2)
    project.entity()
    api.script("/users", answer(429, b"", Retry_After=LATER))
    project.run(code=1)
    before = ask(project, "SELECT COUNT(*) FROM SchedulerLog")
    name = text.partition("Database=")[2].partition(";")[0]
    if ledger == "postgresql":
        ask(project, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        ask(project, "SELECT 1")
    else:
        ask(project, f"GRANT SELECT ON {name}.* TO '{name}'@'%' IDENTIFIED BY 'sesam-reader'")
        project.spec["connections"]["log"] = text.replace("UID=root;", f"UID={name};PWD=sesam-reader;")
        project.write()
    shown = project.cli("status", project.file, "--format", "json")
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert [park["endpoint"] for park in document["parked_endpoints"]] == [f"{api.url}/users"]
    assert len(document["runs"]) == 1
    assert "no audit row" in shown.stderr
    assert "sesam" not in shown.stdout + shown.stderr, "the password of either server"
    project.spec["connections"]["log"] = text
    assert ask(project, "SELECT COUNT(*) FROM SchedulerLog") == before


def test_status_on_a_read_only_file_shows_everything_and_says_that_it_kept_no_row(
    project: Project,
    api: FaultAPI,
    mount: Mount,  # noqa: F811 - the fixture
) -> None:
    file = mount("rw,size=1m") / "log.db"
    project.spec["connections"]["log"] = f"sqlite:///{file}"
    project.users(2)
    project.entity()
    project.run()
    mount("ro,size=1m")
    shown = project.cli("status", project.file, "--format", "json")
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert (document["entities"][0]["tracked"], len(document["runs"])) == (2, 1)
    assert "no audit row" in shown.stderr
    assert ask(project, "SELECT COUNT(*) FROM SchedulerLog WHERE Activity LIKE 'Status%'") == [(0,)]


def test_the_parking_holds_for_a_run_that_begins_while_the_time_runs_out(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    project.spec["api"]["retry"]["max_wait"] = "1s"
    api.script("/users", answer(429, b"", Retry_After="4"), answer())
    began = time.monotonic()
    project.run(code=1)
    project.run(code=1)
    assert len(api.of("/users")) == 1
    time.sleep(max(0.0, began + 5.5 - time.monotonic()))
    assert named(project.run())["Users"]["accepted"] == 2
    assert api.of("/users")[1].time - api.of("/users")[0].time >= 4


def test_only_the_endpoint_of_the_spec_is_shown_parked(project: Project, api: FaultAPI) -> None:
    project.users(2)
    project.entity()
    api.script("/users", answer(429, b"", Retry_After=LATER))
    project.run(code=1)
    project.spec["entities"][0]["endpoint"] = "/people"
    assert named(project.run())["Users"]["accepted"] == 2, "a new URL is not parked"
    assert parked(project) == []
