"""The JSON Schemas of a job and of a project."""

from __future__ import annotations

from engine.spec.schema import Schema

JOB = Schema("job.schema.json")
PROJECT = Schema("project.schema.json")
