"""Tells a job from a pipeline, without loading what either needs; the options that `run` and `plan` have for jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

Command = TypeVar("Command", bound=Callable[..., Any])


def is_job(file: Path) -> bool:
    """True for a document that has `steps`: a job. One that cannot be read is none, and is reported by its loader."""
    try:
        data = yaml.load(file.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        return False
    return isinstance(data, dict) and "steps" in data and "entities" not in data


def names_of(text: str | None) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def job_options(command: Command) -> Command:
    """The options that choose what a job does."""
    options = (
        click.option(
            "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Jobs: a parameter; may be repeated."
        ),
        click.option(
            "--parameters", type=click.Path(path_type=Path), metavar="FILE", help="Jobs: parameters as JSON or YAML."
        ),
        click.option("--steps", metavar="A,B", help="Jobs: only these steps."),
        click.option("--item", "items", multiple=True, metavar="KEY", help="Jobs: only this item; may be repeated."),
    )
    for option in reversed(options):
        command = option(command)
    return command
