"""What a wheel holds: one top-level package, with the schema, the templates and the pipeline inside it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_a_wheel_has_one_package_with_its_assets_and_finds_them(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"engine"}
    for name in (
        "schema/pipeline.schema.json",
        "templates/sql/page.sql.j2",
        "templates/sql/mssql/dialect.yaml",
        "pipelines/sync.yaml",
    ):
        assert f"engine/_assets/{name}" in names
    # As installed, away from the checkout: a project that `init` writes is valid.
    work = tmp_path / "work"
    work.mkdir()
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin"}
    for arguments in (["init", "project"], ["validate", "project/pipelines/customers.yaml"], ["demo", "--rows", "20"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "engine", *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "Delivered" in done.stdout
