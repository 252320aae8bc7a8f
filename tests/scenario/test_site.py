"""The documentation builds into a site that fetches nothing, and every command of the README works as it stands there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.project import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_site_builds_with_every_page_and_fetches_nothing() -> None:
    done = subprocess.run([sys.executable, "docs/site.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first = (ROOT / "var" / "site" / "index.html").read_text(encoding="utf-8")
    assert "nothing is lost, nothing is sent twice" in first
    for page in (ROOT / "docs").glob("*.md"):
        assert (ROOT / "var" / "site" / page.stem / "index.html").is_file(), page.name
    for tag in re.findall(r"<(?:script|link|img)[^>]*>", first):
        assert not re.search(r"(src|href)=\"?(https?:)?//", tag), tag


def test_a_page_that_no_menu_has_is_an_error() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert {f"{page.stem}.md" for page in (ROOT / "docs").glob("*.md")} <= set(re.findall(r"[a-z]+\.md", str(nav)))


def test_every_command_of_the_five_minutes_works_as_it_stands_there(tmp_path: Path) -> None:
    section = README.split("## Five minutes", 1)[1].split("\n## ", 1)[0]
    lines = [
        line.split("  #")[0].strip()
        for block in re.findall(r"```\n(.*?)```", section, re.DOTALL)
        for line in block.splitlines()
    ]
    commands = [line for line in lines if line and not line.startswith(". ")]
    assert [line.split()[1] for line in commands if line.startswith("syncledger")] == [
        "init", "validate", "plan", "receive", "run", "run", "status",
    ]  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    folder, background = tmp_path, None
    said = []
    try:
        for line in commands:
            if line.startswith("cd "):
                subprocess.run(line.partition("&& ")[2], shell=True, cwd=(folder := folder / "my-project"), check=True)
                file = folder / ".env"
                file.write_text(file.read_text(encoding="utf-8").replace("8900", str(port)), encoding="utf-8")
            elif " receive " in line:
                background = subprocess.Popen(
                    line.replace("8900", str(port)).split(), cwd=folder, env=env, stdout=subprocess.DEVNULL
                )
                _listens(port)
            else:
                done = subprocess.run(line.split(), cwd=folder, env=env, capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                said.append(done.stdout)
    finally:
        if background:
            background.terminate()
            background.wait()
    assert "error" not in said[1]
    first, second = said[3:5]
    assert first != second, "the second run has nothing new to send"


def _listens(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.05)
