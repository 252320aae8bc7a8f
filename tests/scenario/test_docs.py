"""Docs, schema and command line are held against each other."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from click.testing import CliRunner

from engine.cli.main import COMMANDS, cli
from engine.sync.ledger.tables import Tables
from tests.builders import ledger_spec

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_the_schema(generator: ModuleType) -> None:
    assert generator.reference() in REFERENCE, "run python docs/generate.py reference"


def test_every_key_of_the_schema_is_in_the_reference(generator: ModuleType) -> None:
    text = generator.reference()
    schema = json.loads((ROOT / "schema" / "pipeline.schema.json").read_text(encoding="utf-8"))
    for name in schema["$defs"]["entity"]["properties"]:
        assert f"`entities[].{name}`" in text
    for name in schema["$defs"]["operation"]["properties"]:
        assert f"`entities[].transform[].{name}`" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_and_its_help_has_an_example(name: str) -> None:
    assert re.search(rf"`{name}[ `]", README)
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert "Examples:" in shown.output
    assert f"syncledger {name}" in shown.output


def test_the_readme_is_short_and_names_one_command() -> None:
    assert len(README.splitlines()) < 250
    assert README.count("python -m engine") == 1, "as another way to call `syncledger`, once"


def test_every_option_the_readme_names_exists() -> None:
    helps = "".join(CliRunner().invoke(cli, [name, "--help"]).output for name in COMMANDS)
    for option in set(re.findall(r"--[a-z][a-z-]+", README + REFERENCE)):
        assert option in helps, option


def test_the_examples_of_every_help_name_options_that_exist() -> None:
    for name in COMMANDS:
        shown = CliRunner().invoke(cli, [name, "--help"]).output
        options, examples = shown.split("Examples:")
        mine = "\n".join(line for line in examples.splitlines() if f"syncledger {name}" in line)
        for option in re.findall(r"--[a-z][a-z-]+", mine):
            assert option in options, f"{name} {option}"


def test_links_of_the_documents_lead_to_files() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "bench" / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert "://" in target or (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_ledger_guide_names_every_table_and_column() -> None:
    guide = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8").casefold()
    for table in Tables.of(ledger_spec(application="x")).all():
        for word in (table.name, *table.columns):
            assert word.casefold() in guide, word


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "adr" / "0002-dependencies.md").read_text(encoding="utf-8")
    block = re.search(r"\ndependencies = \[(.*?)\n\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.DOTALL)
    assert block
    for name in re.findall(r'"([A-Za-z0-9-]+)[>=]', block[1]):
        assert name in reasons, name


def test_the_pre_commit_hook_calls_a_command_that_exists() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    program, command = hook["entry"].split()
    assert program == "syncledger"
    assert command in COMMANDS
    assert re.search(hook["files"], "pipelines/sync.yaml")


def test_constraints_hold_no_addresses() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s/]+", line) for line in text.splitlines())
