"""The JSON Schema of a pipeline."""

from __future__ import annotations

from engine.spec.schema import Schema

SCHEMA = Schema("pipeline.schema.json")
