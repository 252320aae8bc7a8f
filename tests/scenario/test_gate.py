"""The suite itself: what it could not do is said, and no test hangs for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT

SKIPPING = """
import pytest
from tests.conftest import absent

def test_one():
    absent("the server of one")

def test_two():
    pytest.skip("a reason of its own")

def test_three():
    pass
"""


def test_the_last_line_counts_every_skipped_test_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1]
    assert last == "2 tests were skipped; not on this machine: a reason of its own; the server of one"


def test_every_test_has_a_time_limit(pytestconfig: pytest.Config) -> None:
    assert 0 < float(pytestconfig.getini("timeout")) <= 600
    assert pytestconfig.pluginmanager.hasplugin("timeout")
