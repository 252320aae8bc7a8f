"""Turns a file of any kind of document into valid data: read, interpolate, check, lint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import Problem, SpecError
from engine.observe import masks
from engine.observe.secrets import Secrets
from engine.spec.check import check
from engine.spec.environment import Interpolated, interpolate, variables
from engine.spec.reader import Document, read
from engine.spec.rules import Rule
from engine.spec.schema import Schema
from engine.spec.subject import Subject


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document: its schema, its semantic checks, and which of its values are secrets."""

    schema: Schema
    rules: Sequence[Rule]
    secrets: Callable[[Interpolated], list[str]]


@dataclass(frozen=True, slots=True)
class Checked:
    """A checked document. `data` is None if it is invalid or one of its variables is not set."""

    document: Document
    root: Path
    problems: list[Problem]
    secrets: Secrets
    data: dict[str, Any] | None


def project_root(file: Path) -> Path:
    """Return the nearest folder at or above a document that holds `templates/sql/`, else the document's own folder."""
    folder = file.absolute().parent
    return next((place for place in (folder, *folder.parents) if (place / "templates" / "sql").is_dir()), folder)


def look(file: Path, kind: Kind, environment: Mapping[str, str] | None = None) -> Checked:
    """Check a document and collect all of its problems, with secrets masked."""
    root = project_root(file)
    try:
        document = read(file, str(file))
        found = interpolate(document, variables(root, environment))
    except SpecError as failure:
        return Checked(Document(str(file)), root, failure.problems, Secrets(), None)
    secrets = Secrets(kind.secrets(found))
    masks.remember(secrets)
    problems = check(document, found, kind.schema)
    if isinstance(found.data, dict):
        subject = Subject(document, found.data, found, root)
        problems += [problem for rule in kind.rules for problem in rule(subject)]
    masked = sorted({replace(problem, message=secrets.mask(problem.message)) for problem in problems})
    sound = not any(problem.is_error for problem in masked) and not found.missing
    return Checked(document, root, masked, secrets, found.data if sound else None)
