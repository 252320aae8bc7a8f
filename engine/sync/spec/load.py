"""Loads the spec of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import Problem, SpecError
from engine.observe.secrets import Secrets
from engine.spec.load import Kind, look
from engine.spec.reader import Document
from engine.sync.model import Pipeline
from engine.sync.spec.build import build
from engine.sync.spec.lint import RULES
from engine.sync.spec.schema import SCHEMA
from engine.sync.spec.secrets import collect

KIND = Kind(SCHEMA, RULES, collect)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid spec; its `problems` are warnings."""

    pipeline: Pipeline
    secrets: Secrets
    document: Document
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class Examined:
    """A checked spec; `loaded` is None if it cannot run."""

    problems: list[Problem]
    loaded: Loaded | None
    document: Document
    secrets: Secrets


def examine(spec: Path, environment: Mapping[str, str] | None = None) -> Examined:
    """Check a spec and return all its problems. Missing variables are warnings, but `loaded` is then None."""
    found = look(spec, KIND, environment)
    loaded = None
    if found.data is not None:
        place = found.document.keys.get(("entities",), (1, 1))
        pipeline = replace(build(found.data, spec.absolute(), found.root), shown=str(spec), entities_at=place)
        loaded = Loaded(pipeline, found.secrets, found.document, found.problems)
    return Examined(found.problems, loaded, found.document, found.secrets)


def load(spec: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """Load a spec to run; missing variables are errors. Raises `SpecError` with every problem."""
    found = examine(spec, environment)
    if found.loaded is None:
        raise SpecError([error for problem in found.problems if (error := problem.in_the_way())])
    return found.loaded
