"""Builds a job from data that passed every check. Defaults come from the schema only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.jobs.model import Errors, ForEach, Job, Locked, Parameter, Retry, Rule, Step
from engine.jobs.spec.schema import JOB
from engine.jobs.states import Consequence
from engine.spec.durations import seconds

KINDS = ("sql", "query", "procedure")
"""The keys of a step that say what it does."""


def build(data: dict[str, Any], file: Path, shown: str, root: Path, inherited: Mapping[str, str]) -> Job:
    """Return the job that the data describes. `inherited` are the connections of the project."""
    properties = JOB.whole["properties"]
    each = data.get("for_each")
    return Job(
        name=data["name"],
        title=data.get("title") or data["name"],
        file=file,
        shown=shown,
        root=root,
        digest=hashlib.sha256(file.read_bytes()).hexdigest(),
        connections={**inherited, **data.get("connections", {})},
        parameters=tuple(_parameter(name, one) for name, one in data.get("parameters", {}).items()),
        timeout=seconds(data["timeout"]) if "timeout" in data else None,
        concurrency=data["concurrency"]["key"] if "concurrency" in data else None,
        for_each=_for_each(each) if each is not None else None,
        steps=tuple(_step({**data.get("defaults", {}), **one}) for one in data["steps"]),
        rules=tuple(Rule(one.get("match"), Consequence(one["then"])) for one in data.get("on_error", ())),
        cancel_grace=seconds(data.get("cancel_grace", properties["cancel_grace"]["default"])),
    )


def _parameter(name: str, data: dict[str, Any]) -> Parameter:
    kind = data["type"].removesuffix("?")
    many, nullable = kind.startswith("list["), data["type"].endswith("?")
    return Parameter(
        name,
        kind[len("list[") : -1] if many else kind,
        many,
        nullable,
        "default" not in data and not nullable,
        data.get("title") or name,
        data.get("description", ""),
        data.get("default"),
        tuple(data["choices"]) if "choices" in data else None,
        data.get("pattern"),
        data.get("min"),
        data.get("max"),
        bool(data.get("secret", False)),
    )


def _for_each(data: dict[str, Any]) -> ForEach:
    known = JOB.whole["properties"]["for_each"]["properties"]
    return ForEach(
        data.get("query"),
        data.get("items"),
        data.get("connection"),
        data.get("where"),
        data.get("key", known["key"]["default"]),
        data.get("label"),
        data.get("noun", known["noun"]["default"]),
        _locked(data.get("locked"), known["locked"]["properties"]["then"]["default"]),
    )


def _retry(data: dict[str, Any], wait: str) -> Retry:
    return Retry(data["attempts"], seconds(data.get("wait", wait)), data.get("when"))


def _locked(data: dict[str, Any] | None, default: str) -> Locked | None:
    if data is None:
        return None
    return Locked(data["when"], data.get("by"), data.get("since"), data.get("then", default) == "skip")


def _step(data: dict[str, Any]) -> Step:
    known = JOB.whole["$defs"]["step"]["properties"]
    (kind,) = [kind for kind in KINDS if kind in data]
    return Step(
        data["name"],
        data.get("title") or data["name"],
        kind,
        data[kind],
        data.get("arguments", {}),
        Errors(**{key: data["errors"].get(key) for key in ("output", "xml", "code", "message")})
        if "errors" in data
        else None,
        data.get("connection"),
        data.get("when"),
        seconds(data["timeout"]) if "timeout" in data else None,
        _retry(data["retry"], known["retry"]["properties"]["wait"]["default"]) if "retry" in data else None,
        bool(data.get("repeatable", known["repeatable"]["default"])),
        bool(data.get("selectable", known["selectable"]["default"])),
    )
