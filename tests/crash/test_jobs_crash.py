"""A run of a job is killed at every durable step, and resumed: every step has its effect exactly once, or a person is asked."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs import EFFECT, JobProject, rows

AGAIN = "DELETE FROM EFFECT WHERE Item = {{ item.Id }} AND Step = 'again'; " + EFFECT % "again"
EVERY = {"sqlite": 1, "postgresql": 4, "mysql": 4}
"""On servers every fourth point, beginning with another one each."""


@pytest.mark.parametrize(
    ("dialect", "first"),
    [
        pytest.param("sqlite", 1),
        pytest.param("postgresql", 1, marks=pytest.mark.odbc),
        pytest.param("postgresql", 3, marks=pytest.mark.odbc),
        pytest.param("mysql", 2, marks=pytest.mark.odbc),
        pytest.param("mysql", 4, marks=pytest.mark.odbc),
    ],
)
@pytest.mark.timeout(600)
def test_killed_at_any_step_a_run_is_lost_and_resumed_with_every_effect_once(
    tmp_path: Path, database: Callable[[str], str], dialect: str, first: int
) -> None:
    point, doubts, killed = first, 0, 0
    while True:
        job = JobProject(tmp_path / f"p{point}", database(dialect), database(dialect), items=2)
        job.spec["steps"] = [
            {"name": "again", "sql": AGAIN, "repeatable": True},
            {"name": "once", "sql": EFFECT % "once"},
        ]
        done = job.cli("run", job.write(), process=True, env={"SYNCLEDGER_FAILPOINT": str(point)})
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
        told = job.cli("runs", "--format", "json")
        runs = json.loads(told.stdout)["runs"] if told.returncode == 0 else []
        if not runs:  # killed before the run had its row: nothing was done
            assert job.effects() == Counter()
            point += EVERY[dialect]
            continue
        lost = json.loads(job.cli("show", "1", "--format", "json").stdout)
        if lost["status"] == "lost":
            doubts += finish(job)
        else:
            assert lost["status"] == "succeeded", "only its end was cut off"
        assert job.effects() == Counter({(item, step): 1 for item in (1, 2) for step in ("again", "once")}), point
        assert job.document("show", "1")["status"] == "succeeded"
        point += EVERY[dialect]
    assert killed >= 30 // EVERY[dialect] - 1
    if dialect == "sqlite":
        assert doubts, "a step that is not repeatable was cut off, and a person was asked"


def finish(job: JobProject) -> int:
    """Resume, as a person would: whether the step in doubt was done is seen in the target. Returns how often that was asked."""
    before = job.effects()
    done = job.cli("resume", "1", "--format", "json")
    if done.returncode == 0:
        return 0
    assert done.returncode == 5, done.stderr
    assert "the step 'once' of C" in done.stderr
    assert job.effects() == before, "nothing is done before a person has said what is known"
    (doubtful,) = rows(job.store, "SELECT ItemKey FROM TB_R_JOB_STEP WHERE State = 'running'")
    was_done = before[int(doubtful[0]), "once"] == 1
    done = job.cli("resume", "1", "--skip" if was_done else "--redo", "--format", "json")
    assert done.returncode == 0, done.stderr
    return 1


def test_a_run_that_goes_on_is_not_resumed_beside_itself(tmp_path: Path, database: Callable[[str], str]) -> None:
    job = JobProject(tmp_path / "project", database("sqlite"))
    slow = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000000) SELECT COUNT(*) FROM n"
    )
    job.spec["steps"] = [{"name": "long", "query": slow}]
    process = job.popen("run", job.write(), "--format", "json")
    try:
        end = time.monotonic() + 60
        while "long" not in job.cli("show", "1").stdout:
            assert time.monotonic() < end
            time.sleep(0.1)
        refused = job.cli("resume", "1")
        assert refused.returncode == 3
        assert "run #1 goes on: " in refused.stderr
        assert f"process {process.pid}" in refused.stderr
    finally:
        process.kill()
        process.communicate()
    assert json.loads(job.cli("show", "1", "--format", "json").stdout)["status"] == "lost"
