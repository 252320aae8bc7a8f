"""What a spec makes, with the schema's defaults, for tests that need only a part of it; and connections with its time limits."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from engine.db import connect
from engine.db.connection import Connection
from engine.db.timeouts import Timeouts
from engine.http.settings import Api
from engine.sync.model import Entity, LedgerSpec, Pipeline
from engine.sync.spec.build import build

ROOT = Path(__file__).parent.parent


@cache
def pipeline() -> Pipeline:
    """One entity, and nothing that has a default."""
    data: dict[str, Any] = {
        "version": 1,
        "name": "sync",
        "connections": {"default": "sqlite:///source.db", "log": "sqlite:///log.db"},
        "api": {"base_url": "http://127.0.0.1:9"},
        "entities": [{"name": "Users", "query": "SELECT 1", "endpoint": "/users"}],
    }
    return build(data, ROOT / "pipelines" / "test.yaml", ROOT)


def entity(**changed: Any) -> Entity:
    """An entity called Users."""
    return replace(pipeline().entities[0], **changed)


def api_settings(**changed: Any) -> Api:
    """How an API is called."""
    return replace(pipeline().api, **changed)


def ledger_spec(
    tracking: str = "TB_R_SYNC_TRACKING", log: str = "SchedulerLog", application: str = "TAMHR"
) -> LedgerSpec:
    """Where a ledger stands."""
    return replace(pipeline().ledger, tracking_table=tracking, log_table=log, application=application)


def timeouts(**changed: float) -> Timeouts:
    """Time limits of a database, in seconds."""
    return replace(pipeline().timeouts, **changed)


def open_ledger(alias: str, text: str, root: Path, limits: Timeouts | None = None, *, create: bool) -> Connection:
    """A ledger's connection."""
    return connect.open_ledger(alias, text, root, limits or timeouts(), create=create)


def open_source(alias: str, text: str, root: Path, limits: Timeouts | None = None) -> Connection:
    """A source's connection."""
    return connect.open_source(alias, text, root, limits or timeouts())
