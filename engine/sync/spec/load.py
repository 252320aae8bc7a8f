"""The way from a file to a pipeline: read, interpolate, check, lint, build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import Problem, SpecError
from engine.observe import masks
from engine.spec.check import check
from engine.spec.environment import interpolate, variables
from engine.spec.reader import Document, read
from engine.spec.secrets import Secrets, collect
from engine.sync.model import Pipeline
from engine.sync.spec import lint, transport
from engine.sync.spec.build import build


@dataclass(frozen=True, slots=True)
class Loaded:
    """A spec that was read: what is wrong with it, and the pipeline if nothing is."""

    problems: list[Problem]
    pipeline: Pipeline | None
    secrets: Secrets
    document: Document


def project_root(spec: Path) -> Path:
    """The nearest folder at or above the spec that holds `templates/sql/`; else the spec's own folder."""
    folder = spec.absolute().parent
    return next((place for place in (folder, *folder.parents) if (place / "templates" / "sql").is_dir()), folder)


def examine(spec: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """Everything that is wrong with a spec, at once; missing variables are warnings and leave no pipeline."""
    root = project_root(spec)
    try:
        document = read(spec, str(spec))
        found = interpolate(document, variables(root, environment))
    except SpecError as failure:
        return Loaded(failure.problems, None, Secrets(), Document(str(spec)))
    secrets = Secrets(collect(found))
    masks.remember(secrets)
    problems = check(document, found)
    if isinstance(found.data, dict):
        subject = lint.Subject(document, found.data, found, root)
        problems += lint.lint(subject) + transport.check(subject)
    masked = sorted({Problem(p.file, p.line, p.column, secrets.mask(p.message), p.severity) for p in problems})
    sound = not any(problem.severity == "error" for problem in masked) and not found.missing
    pipeline = None
    if sound:
        place = document.keys.get(("entities",), (1, 1))
        pipeline = replace(build(found.data, spec.absolute(), root), shown=str(spec), entities_at=place)
    return Loaded(masked, pipeline, secrets, document)


def load(spec: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """A spec to run: missing variables are errors. Raises `SpecError` with every problem."""
    loaded = examine(spec, environment)
    if loaded.pipeline is None:
        raise SpecError(
            [
                Problem(p.file, p.line, p.column, p.message)
                for p in loaded.problems
                if p.severity == "error" or "environment variable" in p.message
            ]
        )
    return loaded
