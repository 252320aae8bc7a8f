"""Finds the files that ship with the engine: schema, SQL templates and the five-entity pipeline."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The shipped folder `schema`, `templates` or `pipelines`, in a wheel or in a checkout."""
    packaged = _PACKAGE / "_assets" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name
