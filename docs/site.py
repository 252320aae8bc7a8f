"""Builds the documentation into a site, in var/site: README.md becomes its first page, docs/adr its list of decisions.

Leaves with 1 where a link leads nowhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def pages(folder: Path) -> None:
    """Copy the pages, with links as the site has them."""
    shutil.copytree(ROOT / "docs", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (folder / "index.md").write_text(readme.replace("](docs/", "](").replace("](adr)", "](adr.md)"), encoding="utf-8")
    decisions = sorted((folder / "adr").glob("*.md"))
    titles = [file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for file in decisions]
    rows = [f"- [{title}](adr/{file.name})" for title, file in zip(titles, decisions, strict=True)]
    (folder / "adr.md").write_text("\n".join(["# Decisions", "", *rows, ""]), encoding="utf-8")
    for page in folder.rglob("*.md"):
        page.write_text(_without_files(page, folder), encoding="utf-8")


def _without_files(page: Path, folder: Path) -> str:
    """A link to a file of the repository that is no page becomes its text: the site does not have it."""

    def seen(found: re.Match[str]) -> str:
        text, target = found[1], found[2].partition("#")[0]
        if not target or "://" in target or (page.parent / target).exists():
            return found[0]
        source = ROOT if page.name in ("index.md", "adr.md") else ROOT / "docs" / page.relative_to(folder).parent
        return text if (source / target).exists() else found[0]

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)]+)\)", seen, page.read_text(encoding="utf-8"))


def main() -> int:
    """Build it."""
    with tempfile.TemporaryDirectory(prefix="syncledger-site-") as name:
        folder = Path(name)
        pages(folder / "docs")
        settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
        listed = {path for section in settings["nav"] for path in re.findall(r"[\w/]+\.md", str(section))}
        settings["docs_dir"], settings["site_dir"] = str(folder / "docs"), str(ROOT / "var" / "site")
        settings["not_in_nav"] = "adr/*"
        absent = [page.name for page in (folder / "docs").glob("*.md") if page.name not in listed]
        if absent:
            print(f"not in mkdocs.yml: {', '.join(absent)}")
            return 1
        (folder / "mkdocs.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(folder / "mkdocs.yml")]
        # The theme speaks of its successor at every build.
        return subprocess.run(command, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main())
