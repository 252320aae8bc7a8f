"""Builds the frozen pipeline from data that passed every check. Defaults come from the schema only."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from engine.db.timeouts import Timeouts
from engine.http.settings import Api, Auth, BasicAuth, BearerAuth, Breaker, HeaderAuth, OAuth2, Retry
from engine.runs.times import Schedule
from engine.spec.durations import SECONDS, seconds
from engine.sync.model import ChangedSince, Entity, Field, Guard, LedgerSpec, Operation, Pipeline, Results
from engine.sync.spec.schema import SCHEMA
from engine.sync.spec.subject import merge


def build(data: dict[str, Any], file: Path, root: Path) -> Pipeline:
    """Return the pipeline that the data describes."""
    full = _with_defaults({key: value for key, value in data.items() if key != "defaults"}, SCHEMA.whole)
    entity_schema = SCHEMA.whole["$defs"]["entity"]
    merged = [merge(data.get("defaults") or {}, entity) for entity in data["entities"]]
    return Pipeline(
        name=full["name"],
        description=full["description"],
        file=file,
        root=root,
        connections=full["connections"],
        schedule=_schedule(full["schedule"]),
        ledger=LedgerSpec(**{**full["ledger"], "wait": seconds(full["ledger"]["wait"])}),
        lease_expires=seconds(full["lease"]["expires"]),
        api=_api(full["api"], root),
        entities=tuple(_entity(_with_defaults(entity, entity_schema)) for entity in merged),
        timeouts=_timeouts(full["timeouts"]),
    )


def default_timeouts() -> Timeouts:
    """Return the time limits of a spec that has none, for commands that need no spec."""
    return _timeouts(_with_defaults({"timeouts": {}}, SCHEMA.whole)["timeouts"])


def _timeouts(data: dict[str, Any]) -> Timeouts:
    return Timeouts(**{key: seconds(value) for key, value in data.items()})


def _with_defaults(data: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    full = dict(data)
    for key, inner in part["properties"].items():
        if key not in full and "default" in inner:
            full[key] = inner["default"]
        if isinstance(full.get(key), dict) and "properties" in inner:
            full[key] = _with_defaults(full[key], inner)
    return full


def _entity(data: dict[str, Any]) -> Entity:
    fields = data["fields"]
    return Entity(
        name=data["name"],
        connection=data["connection"],
        template=data.get("sql"),
        query=data.get("query"),
        id=tuple([data["id"]] if isinstance(data["id"], str) else data["id"]),
        endpoint=data["endpoint"],
        method=data["method"],
        batch_size=data["batch_size"],
        page_size=data["page_size"],
        transform=_transform(data["transform"]),
        fields=tuple(Field(name, kind.rstrip("?"), kind.endswith("?")) for name, kind in fields.items())
        if fields
        else None,
        wrap=data["body"]["wrap"],
        results=Results(**data["results"]) if data["results"] else None,
        isolate=tuple(data["isolate"]),
        isolate_calls=data["isolate_calls"],
        reject_delay=seconds(data["reject_delay"]),
        reject_after=data["reject_after"],
        resend=data["resend"],
        max_bytes=data["max_bytes"],
        exclude=data["exclude"],
        partitions=data["partitions"],
        changed_since=_changed_since(data["changed_since"]),
        guard=_guard(data["guard"]),
    )


def _guard(data: dict[str, Any] | None) -> Guard | None:
    if data is None:
        return None
    share = data.get("max_share")
    return Guard(data.get("max_records"), float(share.rstrip("%")) / 100 if share else None)


def _changed_since(data: dict[str, Any] | None) -> ChangedSince | None:
    if data is None:
        return None
    overlap, counted = data["overlap"], isinstance(data["overlap"], int)
    return ChangedSince(
        data["column"], float(overlap) if counted else seconds(overlap), counted, seconds(data["full_check_every"])
    )


def _api(data: dict[str, Any], root: Path) -> Api:
    retry = data["retry"]
    verify = data["verify"]
    return Api(
        base_url=data["base_url"],
        auth=_auth(data["auth"]),
        headers=data["headers"],
        timeout=seconds(data["timeout"]),
        retry=Retry(
            retry["attempts"], seconds(retry["wait"]), seconds(retry["max_wait"]), frozenset(retry["statuses"])
        ),
        in_flight=data["in_flight"],
        idempotency_header=data["idempotency_header"],
        in_doubt=data["in_doubt"],
        in_doubt_statuses=frozenset(data["in_doubt_statuses"]),
        idempotency_max_age=seconds(data["idempotency_max_age"]),
        idempotency_quoted=data["idempotency_quoted"],
        pause=_pause(data["rate_limit"]),
        breaker=Breaker(data["breaker"]["after"], seconds(data["breaker"]["for"])) if data["breaker"] else None,
        proxy=data["proxy"],
        verify=root / verify if isinstance(verify, str) else verify,
        cert=root / data["cert"] if data["cert"] else None,
        cert_key=root / data["cert_key"] if data["cert_key"] else None,
        gzip=data["gzip"],
        expect=data["expect"],
        check=_check(data["check"]),
    )


def _check(text: str | None) -> tuple[str, str] | None:
    """Split `GET /health` into method and path."""
    if text is None:
        return None
    method, path = text.split(" ", 1)
    return method, path


def _pause(rate: str | None) -> float:
    """Return the seconds between calls for a rate such as `10/s`."""
    if rate is None:
        return 0.0
    calls, unit = rate.split("/")
    return SECONDS[unit] / int(calls)


def _auth(data: dict[str, Any] | None) -> Auth | None:
    match data:
        case {"bearer": token}:
            return BearerAuth(token)
        case {"basic": basic}:
            return BasicAuth(**basic)
        case {"header": header}:
            return HeaderAuth(**header)
        case {"oauth2": oauth2}:
            return OAuth2(**oauth2)
    return None


def _schedule(data: dict[str, Any] | None) -> Schedule | None:
    if data is None:
        return None
    cron = data.get("cron")
    if "daily_at" in data:
        hour, minute = data["daily_at"].split(":")
        cron = f"{int(minute)} {int(hour)} * * *"
    every = seconds(data["every"]) if "every" in data else None
    return Schedule(every, cron, ZoneInfo(data["timezone"]), data["misfire"])


def _transform(steps: list[dict[str, Any]]) -> tuple[Operation, ...]:
    if not steps:
        return ()
    from engine.sync.shape import operations  # noqa: PLC0415 - petl only for a spec that has a `transform`

    return tuple(operations.make(name, argument) for step in steps for name, argument in step.items())
