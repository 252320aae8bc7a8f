"""The schedule: due times, the nights when clocks change, the loop, and the command as a process."""

from __future__ import annotations

import json
import logging
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import LedgerError, SpecError
from engine.runs.times import Schedule, due_times, latest_missed, next_due
from engine.runtime.schedule import Entry, Loop, Memory
from engine.sync.ledger.states import RunStatus
from engine.sync.spec.load import load
from tests.faultapi import FaultAPI, slow
from tests.inprocess import Engine
from tests.project import Project

BERLIN = ZoneInfo("Europe/Berlin")
JAKARTA = ZoneInfo("Asia/Jakarta")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def every(seconds: float, misfire: str = "once") -> Schedule:
    return Schedule(seconds, None, ZoneInfo("UTC"), misfire)  # type: ignore[arg-type]


def cron(line: str, zone: str = "UTC", misfire: str = "once") -> Schedule:
    return Schedule(None, line, ZoneInfo(zone), misfire)  # type: ignore[arg-type]


def texts(plan: Schedule, after: datetime, count: int) -> list[str]:
    return [due.isoformat() for due in islice(due_times(plan, after), count)]


@pytest.fixture
def engine() -> Engine:
    return Engine()


# Due times


def test_every_counts_elapsed_time() -> None:
    assert texts(every(90), NOON, 3) == [
        "2026-06-01T12:01:30+00:00",
        "2026-06-01T12:03:00+00:00",
        "2026-06-01T12:04:30+00:00",
    ]


def test_every_counts_elapsed_time_through_the_night_when_clocks_change() -> None:
    plan = Schedule(24 * 3600, None, BERLIN, "once")
    before = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
    assert texts(plan, before, 2) == ["2026-03-29T13:00:00+02:00", "2026-03-30T13:00:00+02:00"]


def test_cron_is_read_in_the_zone_of_the_pipeline() -> None:
    assert texts(cron("0 2 * * *", "Asia/Jakarta"), NOON, 2) == [
        "2026-06-02T02:00:00+07:00",
        "2026-06-03T02:00:00+07:00",
    ]
    assert next_due(cron("0 2 * * *", "Asia/Jakarta"), NOON).astimezone(UTC).isoformat() == "2026-06-01T19:00:00+00:00"


def test_a_due_time_is_later_than_after_and_never_equal() -> None:
    assert next_due(cron("0 12 * * *"), NOON) == NOON + timedelta(days=1)
    assert next_due(cron("0 12 * * *"), NOON - timedelta(microseconds=1)) == NOON
    assert next_due(every(60), NOON) == NOON + timedelta(seconds=60)


def test_a_time_inside_the_gap_is_due_once_right_after_the_change() -> None:
    after = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
    assert texts(cron("30 2 * * *", "Europe/Berlin"), after, 3) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
        "2026-03-31T02:30:00+02:00",
    ]


def test_a_time_inside_the_repeated_hour_is_due_once() -> None:
    after = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
    assert texts(cron("30 2 * * *", "Europe/Berlin"), after, 3) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
        "2026-10-27T02:30:00+01:00",
    ]


@pytest.mark.parametrize(
    "day", [datetime(2026, 3, 29, tzinfo=BERLIN), datetime(2026, 10, 25, tzinfo=BERLIN)], ids=["spring", "autumn"]
)
def test_a_time_away_from_the_change_is_due_once_a_day(day: datetime) -> None:
    times = list(islice(due_times(cron("0 5 * * *", "Europe/Berlin"), day - timedelta(days=1)), 3))
    assert [(due.hour, due.minute) for due in times] == [(5, 0)] * 3
    assert len({due.date() for due in times}) == 3


@pytest.mark.parametrize(
    "day", [datetime(2026, 3, 29, tzinfo=BERLIN), datetime(2026, 10, 25, tzinfo=BERLIN)], ids=["spring", "autumn"]
)
@pytest.mark.parametrize(
    ("line", "step"), [("*/15 * * * *", timedelta(minutes=15)), ("*/30 * * * *", timedelta(minutes=30))]
)
def test_a_line_of_every_few_minutes_goes_on_evenly_through_the_change(
    day: datetime, line: str, step: timedelta
) -> None:
    times = [due.astimezone(UTC) for due in islice(due_times(cron(line, "Europe/Berlin"), day), 24)]
    assert {later - earlier for earlier, later in pairwise(times)} == {step}


@given(
    st.sampled_from(
        ["30 2 * * *", "0 2 * * *", "0 3 * * *", "*/20 * * * *", "0 */2 * * *", "15 1 * * 0", "0 0 29 3 *"]
    ),
    st.sampled_from(["Europe/Berlin", "Asia/Jakarta", "UTC", "America/New_York"]),
    st.datetimes(datetime(2026, 3, 20), datetime(2026, 11, 5)),
)
def test_due_times_always_move_on(line: str, zone: str, after: datetime) -> None:
    start = after.replace(tzinfo=UTC)
    times = [start, *(due.astimezone(UTC) for due in islice(due_times(cron(line, zone), start), 5))]
    assert all(earlier < later for earlier, later in pairwise(times))


# What was missed


def test_nothing_was_missed_before_the_next_due_time() -> None:
    assert latest_missed(cron("0 2 * * *"), datetime(2026, 6, 1, 2, tzinfo=UTC), NOON) is None
    assert latest_missed(every(60), NOON, NOON + timedelta(seconds=59)) is None


def test_a_due_time_is_missed_at_the_very_moment_it_is_due() -> None:
    last = datetime(2026, 6, 1, 2, tzinfo=UTC)
    assert latest_missed(cron("0 2 * * *"), last, last + timedelta(days=1)) == last + timedelta(days=1)
    assert latest_missed(every(60), NOON, NOON + timedelta(seconds=60)) == NOON + timedelta(seconds=60)


def test_of_years_of_missed_minutes_the_newest_is_found_at_once() -> None:
    now = NOON + timedelta(days=3650, seconds=30)
    began = time.monotonic()
    assert latest_missed(cron("* * * * *"), NOON, now) == now - timedelta(seconds=30)
    assert latest_missed(every(60), NOON, now) == now - timedelta(seconds=30)
    assert time.monotonic() - began < 1


def test_a_clock_that_was_set_back_has_missed_nothing() -> None:
    assert latest_missed(every(60), NOON, NOON - timedelta(hours=1)) is None
    assert latest_missed(cron("0 * * * *"), NOON, NOON - timedelta(hours=1)) is None


@given(
    st.sampled_from(["30 2 * * *", "0 2 * * *", "*/30 * * * *", "0 * * * *", "30 */2 * * *"]),
    st.sampled_from([datetime(2026, 3, 28, 10, tzinfo=UTC), datetime(2026, 10, 24, 10, tzinfo=UTC), NOON]),
    st.integers(0, 48 * 60),
)
def test_the_latest_missed_is_the_last_due_time_until_now(line: str, last: datetime, minutes: int) -> None:
    plan, now = cron(line, "Europe/Berlin"), last + timedelta(minutes=minutes)
    due = list(takewhile(lambda moment: moment <= now, due_times(plan, last)))
    assert latest_missed(plan, last, now) == (due[-1] if due else None)


# The loop


class Bench:
    """A loop with a clock of its own, a memory, and runs that end when they are told."""

    def __init__(self, *plans: Schedule, now: datetime = NOON) -> None:
        self.time = now
        self.remembered: dict[str, datetime] = {}
        self.ran: list[str] = []
        self.fail: dict[str, Exception] = {}
        self.hold: dict[str, threading.Event] = {}
        self.status = "delivered"
        self.memory_fails: dict[str, Exception] = {}
        self.asked = 0
        self.entries = [Entry(Path(f"{name}.yaml"), plan, name) for name, plan in zip("abc", plans, strict=False)]
        self.loop = Loop(self.entries, threading.Event(), lambda: self.time, self.run_once, self)  # type: ignore[arg-type]

    def run_once(self, spec: Path, _cancelled: threading.Event) -> RunStatus:
        self.ran.append(spec.stem)
        if spec.stem in self.hold:
            self.hold[spec.stem].wait(120)
        if spec.stem in self.fail:
            raise self.fail[spec.stem]
        return RunStatus(self.status)

    def last_due(self, entry: Entry) -> datetime | None:
        self.asked += 1
        if entry.name in self.memory_fails:
            raise self.memory_fails[entry.name]
        return self.remembered.get(entry.name)

    def served(self, entry: Entry, due: datetime) -> None:
        self.remembered[entry.name] = due

    def tick(self, seconds: float = 0, *, wait: bool = True) -> list[str]:
        """Move the clock, tick, wait for runs that are not held; gives all that ran so far."""
        self.time += timedelta(seconds=seconds)
        self.loop.tick()
        if wait:
            self.join()
        return self.ran

    def join(self) -> None:
        for entry in self.entries:
            if entry.running and entry.name not in self.hold:
                entry.running.join(120)

    def release(self, name: str) -> None:
        self.hold.pop(name).set()
        self.join()


def test_on_the_first_start_every_runs_at_once_and_cron_waits_for_its_time() -> None:
    bench = Bench(every(3600), cron("0 13 * * *"))
    assert bench.tick() == ["a"]
    assert bench.tick(3599) == ["a"]
    assert sorted(bench.tick(1)) == ["a", "a", "b"]
    assert bench.remembered == {"a": NOON + timedelta(hours=1), "b": NOON + timedelta(hours=1)}


def test_a_due_time_runs_once_however_often_the_loop_ticks() -> None:
    bench = Bench(every(60))
    for _ in range(5):
        bench.tick(1)
    assert bench.ran == ["a"]


@pytest.mark.parametrize(("misfire", "ran"), [("once", ["a"]), ("skip", [])])
def test_after_a_restart_the_missed_times_are_one_run_or_none(misfire: str, ran: list[str]) -> None:
    bench = Bench(cron("0 2 * * *", misfire=misfire))
    bench.remembered["a"] = datetime(2026, 5, 20, 2, tzinfo=UTC)
    assert bench.tick() == ran
    assert bench.remembered["a"] == datetime(2026, 6, 1, 2, tzinfo=UTC)
    assert bench.tick(60) == ran
    assert bench.tick(14 * 3600) == [*ran, "a"]


@pytest.mark.parametrize("plan", [every(3600), cron("0 * * * *")], ids=["every", "cron"])
def test_after_a_restart_that_missed_nothing_the_next_time_is_kept(plan: Schedule) -> None:
    bench = Bench(plan)
    bench.remembered["a"] = NOON
    bench.time = NOON + timedelta(minutes=30)
    assert bench.tick() == []
    assert bench.tick(1799) == []
    assert bench.tick(1) == ["a"]


@pytest.mark.parametrize("plan", [every(60), cron("* * * * *")], ids=["every", "cron"])
def test_times_that_pass_during_a_long_run_are_one_run(plan: Schedule) -> None:
    bench = Bench(plan)
    bench.remembered["a"] = NOON - timedelta(seconds=60)
    bench.hold["a"] = threading.Event()
    bench.tick(wait=False)
    for _ in range(10):
        bench.tick(60, wait=False)
    until(lambda: bench.ran != [])
    assert bench.ran == ["a"], "two runs of one pipeline at a time"
    bench.release("a")
    assert bench.tick() == ["a", "a"]
    assert bench.tick(30) == ["a", "a"]
    assert bench.tick(30) == ["a", "a", "a"]
    assert bench.remembered["a"] == NOON + timedelta(seconds=660)


def test_a_long_run_holds_up_no_other_pipeline() -> None:
    bench = Bench(every(60), every(60))
    bench.hold["a"] = threading.Event()
    bench.tick()  # waits for the run of b; a is held
    bench.tick(60)
    assert bench.ran.count("a") == 1
    assert bench.ran.count("b") == 2
    bench.release("a")


@pytest.mark.parametrize(
    "failure",
    [LedgerError("away"), SpecError([]), RuntimeError("a bug"), MemoryError()],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failing_run_stops_neither_the_loop_nor_other_pipelines(failure: Exception) -> None:
    bench = Bench(every(60), every(60))
    bench.fail["a"] = failure
    bench.tick()
    assert sorted(bench.tick(60)) == ["a", "a", "b", "b"]


@pytest.mark.parametrize(("status", "level"), [("delivered", "INFO"), ("incomplete", "ERROR"), ("error", "ERROR")])
def test_only_a_run_that_delivered_not_everything_is_logged_as_an_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, status: str, level: str
) -> None:
    monkeypatch.setattr(logging.getLogger("engine"), "propagate", True)
    bench = Bench(every(60))
    bench.status = status
    with caplog.at_level(logging.INFO, "engine.runtime.schedule"):
        bench.tick()
    found = [(record.levelname, record.getMessage()) for record in caplog.records if "run of" in record.getMessage()]
    assert [(name, text.endswith(f": {status}")) for name, text in found] == [(level, True)]


def test_a_run_that_was_cancelled_is_not_remembered_as_served() -> None:
    bench = Bench(every(60))
    bench.status = "cancelled"
    bench.tick()
    assert bench.remembered == {}


def test_a_run_that_delivered_not_everything_is_served_all_the_same() -> None:
    bench = Bench(every(60))
    bench.status = "incomplete"
    bench.tick()
    assert bench.remembered == {"a": NOON}


@pytest.mark.parametrize(
    "failure", [LedgerError("away"), RuntimeError("a bug"), OSError("disk")], ids=lambda failure: type(failure).__name__
)
def test_a_ledger_that_cannot_be_read_is_asked_again_and_stops_no_other_pipeline(failure: Exception) -> None:
    bench = Bench(every(3600), every(3600))
    bench.memory_fails["a"] = failure
    assert bench.tick() == ["b"]
    assert bench.tick(1) == ["b"]
    del bench.memory_fails["a"]
    assert bench.tick(300) == ["b", "a"]


def test_a_ledger_that_cannot_be_read_is_not_asked_with_every_tick() -> None:
    bench = Bench(every(3600))
    bench.memory_fails["a"] = LedgerError("away")
    for _ in range(20):
        bench.tick(1)
    assert bench.asked == 1


def test_a_cancelled_loop_waits_for_the_run_that_is_on_its_way() -> None:
    bench = Bench(every(60))
    bench.hold["a"] = threading.Event()
    thread = threading.Thread(target=bench.loop.run)
    thread.start()
    until(lambda: bench.ran == ["a"])
    bench.loop.cancelled.set()
    thread.join(1.2)
    assert thread.is_alive()
    bench.release("a")
    thread.join(10)
    assert not thread.is_alive()
    assert bench.ran == ["a"]


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


# As a process


def test_the_coming_times_are_printed_merged_in_order(project: Project, tmp_path: Path) -> None:
    project.entity()
    project.spec["schedule"] = {"daily_at": "02:00", "timezone": "Asia/Jakarta"}
    first = project.write()
    project.spec.update(name="hourly", schedule={"cron": "30 */6 * * *", "timezone": "Europe/Berlin"})
    second = first.with_name("hourly.yaml")
    second.write_text(json.dumps(project.spec), encoding="utf-8")
    finished = project.cli("schedule", first, second, "--next", "10", "--format", "json")
    assert finished.returncode == 0, finished.stderr
    times = json.loads(finished.stdout)
    moments = [datetime.fromisoformat(time["due"]) for time in times]
    assert len(times) == 10
    assert moments == sorted(moments)
    assert all(moment > datetime.now(UTC) - timedelta(minutes=5) for moment in moments)
    daily = [moment for moment, time in zip(moments, times, strict=True) if time["pipeline"] == "sync"]
    assert {(moment.hour, moment.utcoffset()) for moment in daily} == {(2, timedelta(hours=7))}
    assert {time["pipeline"] for time in times} == {"sync", "hourly"}
    text = project.cli("schedule", first, "--next", "10")
    lines = text.stdout.splitlines()
    assert len(lines) == 10
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT02:00:00\+07:00  sync  the first time of the schedule.*", lines[0])
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT02:00:00\+07:00  sync", line) for line in lines[1:])
    assert not (project.folder / "log.db").exists()


@pytest.mark.parametrize(
    ("schedule", "served", "first"),
    [
        ({"every": "15m"}, None, "now: nothing was served yet"),
        ({"every": "15m"}, timedelta(minutes=10), "the next after"),
        ({"every": "15m"}, timedelta(hours=5, minutes=7), "now: missed"),
        ({"cron": "0 2 * * *", "misfire": "skip"}, timedelta(days=3), "missed"),
        ({"cron": "0 2 * * *", "misfire": "once"}, timedelta(days=3), "now: missed"),
    ],
)
def test_the_coming_times_are_those_of_the_loop(
    project: Project, engine: Engine, schedule: dict[str, str], served: timedelta | None, first: str
) -> None:
    """`--next` says what a start now does: at once on a new ledger, by the times the ledger remembers on another. It writes nothing."""
    project.entity()
    project.spec["schedule"] = schedule
    file = project.write()
    if served is not None:
        remember(file, datetime.now(UTC) - served)
    before = (project.folder / "log.db").read_bytes() if served else None
    text = engine("schedule", file, "--next", "3").splitlines()
    assert text[0].split("  ")[2].startswith(first)
    shown = [datetime.fromisoformat(line.split("  ")[0]) for line in text]
    assert ((project.folder / "log.db").read_bytes() if served else None) == before
    assert served or not (project.folder / "log.db").exists()
    # The loop itself, with a clock of its own, from the same memory.
    bench = Bench(schedule_of(file), now=datetime.now(UTC))
    if served is not None:
        bench.remembered["a"] = datetime.now(UTC) - served
    assert (bench.tick() == ["a"]) == ("now" in text[0])
    following = bench.entries[0].due
    assert following is not None
    assert abs(following - shown[1 if "now" in text[0] else 0]) < timedelta(minutes=1)


def test_a_ledger_that_cannot_be_read_is_said_and_the_other_pipelines_are_shown(
    project: Project, engine: Engine
) -> None:
    project.entity()
    project.spec["schedule"] = {"every": "15m"}
    first = project.write()
    project.spec.update(name="other", connections={**project.spec["connections"], "log": "sqlite:///broken.db"})
    second = first.with_name("other.yaml")
    second.write_text(json.dumps(project.spec), encoding="utf-8")
    (project.folder / "broken.db").write_bytes(b"no database at all" * 100)
    assert [time["pipeline"] for time in engine.json("schedule", first, second, "--next", "2", code=4)] == ["sync"] * 2
    assert "error: other: the table TB_R_SYNC_SCHEDULE" in engine.err


def remember(file: Path, due: datetime) -> None:
    loaded = load(file)
    entry = Entry(file, schedule_of(file), "sync")
    Memory({file: loaded}).served(entry, due)


def schedule_of(file: Path) -> Schedule:
    pipeline = load(file).pipeline
    assert pipeline.schedule is not None
    return pipeline.schedule


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_nothing_runs_is_a_clean_end(project: Project, number: int) -> None:
    """A service that is stopped between two runs ends with 0: 130 is for a run that was cut short."""
    project.entity()
    project.spec["schedule"] = {"cron": "0 0 1 1 *"}
    process = project.popen("schedule", project.write())
    try:
        assert process.stderr is not None
        assert "first time of the schedule" in process.stderr.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, errors


def test_a_spec_without_a_schedule_is_wrong_usage(project: Project) -> None:
    project.entity()
    finished = project.cli("schedule", project.write(), "--next", "1", "--format", "json")
    assert finished.returncode == 2
    (problem,) = json.loads(finished.stdout)["problems"]
    assert "schedule" in problem["message"]


def test_every_second_really_runs_and_sigterm_settles_what_is_on_the_wire(project: Project, api: FaultAPI) -> None:
    project.users(1)
    project.entity(batch_size=1)
    project.spec["schedule"] = {"every": "1s"}
    process = project.popen("schedule", project.write(), "--log-format", "json")
    try:
        until(lambda: len(api.of("/users")) == 1)
        until(lambda: _rows(project, "SELECT Pipeline, LastDue FROM TB_R_SYNC_SCHEDULE") != [])
        ((pipeline, last),) = _rows(project, "SELECT Pipeline, LastDue FROM TB_R_SYNC_SCHEDULE")
        assert pipeline == "sync"
        assert abs(datetime.fromisoformat(last) - datetime.now(UTC)) < timedelta(minutes=1)
        # A record that comes later goes with a later run, and is on the wire when the signal comes.
        api.script("/users", slow(1.0))
        project.fill("Users", "Id INTEGER PRIMARY KEY, Name TEXT", [(number, "late") for number in range(2, 10)])
        until(lambda: len(api.of("/users")) == 2)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {"time", "level", "event"} <= set.intersection(*(set(line) for line in lines))
    statuses = [(line["level"], line["status"]) for line in lines if "status" in line]
    assert statuses[0] == ("info", "delivered")
    assert statuses[-1] == ("error", "cancelled")
    sent = [record["Id"] for request in api.of("/users") for record in request.records]
    assert sent == [1, 2], "no new batch after the signal"
    assert project.tracked() == ["1", "2"]


def _rows(project: Project, sql: str) -> list[tuple[str, ...]]:
    try:
        return project.ledger(sql)
    except sqlite3.OperationalError:
        return []
