"""Loads a job file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.db import dsn
from engine.errors import Problem, SpecError
from engine.jobs.model import Job
from engine.jobs.spec import project
from engine.jobs.spec.build import build
from engine.jobs.spec.lint import RULES
from engine.jobs.spec.project import Project
from engine.jobs.spec.schema import JOB
from engine.observe.secrets import Secrets
from engine.spec.environment import Interpolated
from engine.spec.load import Kind, look
from engine.spec.reader import Document


def _secrets(found: Interpolated) -> list[str]:
    data = found.data if isinstance(found.data, dict) else {}
    connections = data.get("connections")
    texts = connections.values() if isinstance(connections, dict) else ()
    return [secret for text in texts if isinstance(text, str) for secret in dsn.secrets(text)]


KIND = Kind(JOB, RULES, _secrets)


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """A valid job with its project; its `problems` are warnings."""

    job: Job
    project: Project
    secrets: Secrets
    document: Document
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class ExaminedJob:
    """A checked job; `loaded` is None if it cannot run."""

    problems: list[Problem]
    loaded: LoadedJob | None
    document: Document


def examine(spec: Path, environment: Mapping[str, str] | None = None) -> ExaminedJob:
    """Check a job and its project file, and return all their problems."""
    found = look(spec, KIND, environment)
    try:
        around = project.load(found.root, environment)
    except SpecError as failure:
        return ExaminedJob([*found.problems, *failure.problems], None, found.document)
    loaded = None
    if found.data is not None:
        job = build(found.data, spec.absolute(), str(spec), found.root, around.connections)
        around.secrets.tell(found.secrets)
        loaded = LoadedJob(job, around, found.secrets, found.document, found.problems)
    return ExaminedJob([*found.problems, *around.problems], loaded, found.document)


def load(spec: Path, environment: Mapping[str, str] | None = None) -> LoadedJob:
    """Load a job to run; missing variables are errors. Raises `SpecError` with every problem."""
    found = examine(spec, environment)
    if found.loaded is None:
        raise SpecError([error for problem in found.problems if (error := problem.in_the_way())])
    return found.loaded
