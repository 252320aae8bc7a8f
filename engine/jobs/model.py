"""What a job file describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.jobs.states import Consequence


@dataclass(frozen=True, slots=True)
class Parameter:
    """One typed parameter. `kind` is the type without `list[]` and `?`; `least` and `most` bound numbers, and lengths of texts and lists."""

    name: str
    kind: str
    many: bool
    nullable: bool
    required: bool
    title: str
    description: str
    default: Any
    choices: tuple[Any, ...] | None
    pattern: str | None
    least: float | None
    most: float | None
    secret: bool


@dataclass(frozen=True, slots=True)
class Locked:
    """How an item tells that somebody has locked it; `skip` leaves it out, otherwise nothing of the run begins."""

    when: str
    by: str | None
    since: str | None
    skip: bool


@dataclass(frozen=True, slots=True)
class ForEach:
    """Where the items of a job come from: the rows of a `query`, or an expression that is a list."""

    query: str | None
    items: str | None
    connection: str | None
    where: str | None
    key: str
    label: str | None
    noun: str
    locked: Locked | None


@dataclass(frozen=True, slots=True)
class Errors:
    """Where a procedure reports its errors: in an `output`, as text, or as XML whose elements `xml` finds, with `code` and `message` in each."""

    output: str
    xml: str | None
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a failed step is tried, the first time included, after how many seconds, and after which errors (None: all)."""

    attempts: int
    wait: float
    when: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its kind, and the text of its statements, the name of their template, or the name of a procedure. `timeout` is seconds."""

    name: str
    title: str
    kind: str
    text: str
    arguments: Mapping[str, Any]
    errors: Errors | None
    connection: str | None
    when: str | None
    timeout: float | None
    retry: Retry | None
    repeatable: bool
    selectable: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from an error in whose code or message `match` stands; None matches every error."""

    match: str | None
    then: Consequence


@dataclass(frozen=True, slots=True)
class Job:
    """A job file. `timeout` and `cancel_grace` are seconds; `digest` is the file's SHA-256."""

    name: str
    title: str
    file: Path
    shown: str
    root: Path
    digest: str
    connections: Mapping[str, str] = field(repr=False)
    parameters: tuple[Parameter, ...]
    timeout: float | None
    concurrency: str | None
    for_each: ForEach | None
    steps: tuple[Step, ...]
    rules: tuple[Rule, ...]
    cancel_grace: float
