"""Tells a job from a pipeline, without loading what either needs."""

from __future__ import annotations

from pathlib import Path

import yaml


def is_job(file: Path) -> bool:
    """True for a document that has `steps`: a job. One that cannot be read is none, and is reported by its loader."""
    try:
        data = yaml.load(file.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        return False
    return isinstance(data, dict) and "steps" in data and "entities" not in data
