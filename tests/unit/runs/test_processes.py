"""Whether a process is gone: numbers are used again, and clocks are set."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from engine.runs import processes
from tests.project import Project

HERE = os.getpid()


def test_this_process_is_there_and_is_itself() -> None:
    noted = processes.identity()
    assert noted == processes.identity(HERE)
    assert not processes.is_gone(HERE, noted)
    assert not processes.is_gone(HERE, None), "nobody noted it: then its number decides"
    assert not processes.is_gone(HERE, "")


def test_a_process_that_has_ended_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    noted = processes.identity(child.pid)
    assert not processes.is_gone(child.pid, noted)
    child.communicate(b"\n")
    assert processes.is_gone(child.pid, noted)
    assert processes.identity(child.pid) is None


@pytest.mark.parametrize(
    ("created", "boot", "gone"),
    [
        (0.0, 0.0, False),
        (0.5, 0.5, False),
        (-3600.0, 0.0, True),
        (3600.0, 3600.0, False),
        (-86400.0, -86400.0, False),
        (0.0, 3600.0, False),
        (-3600.0, -60.0, True),
    ],
    ids=[
        "the same",
        "rounded",
        "an older one",
        "clock set back",
        "clock set on",
        "only the boot time moved",
        "another age",
    ],
)
def test_a_number_that_was_used_again_is_told_from_a_clock_that_was_set(
    created: float, boot: float, gone: bool
) -> None:
    noted = f"{psutil.Process().create_time() + created:.3f} {psutil.boot_time() + boot:.3f}"
    assert processes.is_gone(HERE, noted) is gone


def test_a_lease_whose_number_another_process_has_by_now_is_taken_over_at_once(project: Project) -> None:
    project.users(2)
    project.entity()
    project.run("--limit", "1")
    lease = "UPDATE TB_R_SYNC_LEASE SET RunId = 'killed', Pid = ?, Process = ?, ExpiresOn = '2999-01-01'"
    project.write_ledger(lease, HERE, processes.identity())
    assert project.run(code=3)["holder"]["run_id"] == "killed"
    earlier = f"{psutil.Process().create_time() - 3600:.3f} {psutil.boot_time():.3f}"
    project.write_ledger(lease, HERE, earlier)
    assert project.run()["entities"][0]["accepted"] == 1
