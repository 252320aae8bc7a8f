"""Loads the project file: where runs are kept, and the connections that all jobs of a folder share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.db import dsn
from engine.errors import Problem, SpecError
from engine.jobs.spec.schema import PROJECT
from engine.observe.secrets import Secrets
from engine.spec import rules
from engine.spec.environment import Interpolated
from engine.spec.load import Kind, look

FILE = "project.yaml"


@dataclass(frozen=True, slots=True)
class Project:
    """What the jobs of a folder share. `file` is None where there is no project file."""

    root: Path
    store: str = field(repr=False)
    connections: Mapping[str, str] = field(repr=False)
    secrets: Secrets
    problems: list[Problem]
    file: Path | None = None


def _secrets(found: Interpolated) -> list[str]:
    data = found.data if isinstance(found.data, dict) else {}
    connections = data.get("connections")
    texts = [data.get("store"), *(connections.values() if isinstance(connections, dict) else ())]
    return [secret for text in texts if isinstance(text, str) for secret in dsn.secrets(text)]


_KIND = Kind(PROJECT, (rules.missing_variables, rules.connections), _secrets)


def find(root: Path) -> Path | None:
    """The nearest project file at or above a folder."""
    return next((folder / FILE for folder in (root, *root.parents) if (folder / FILE).is_file()), None)


def load(root: Path, environment: Mapping[str, str] | None = None) -> Project:
    """Load the project of a folder; without a file the defaults of the schema. Raises `SpecError`."""
    default = str(PROJECT.whole["properties"]["store"]["default"])
    file = find(root)
    if file is None:
        return Project(root, default, {}, Secrets(), [])
    found = look(file, _KIND, environment)
    if found.data is None:
        raise SpecError([error for problem in found.problems if (error := problem.in_the_way())])
    data = found.data
    return Project(
        file.parent, data.get("store", default), data.get("connections") or {}, found.secrets, found.problems, file
    )
