"""Rows of `SchedulerLog`: one per API call, and one per act of a person."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from engine.db.connection import Connection
from engine.runs import whoami
from engine.store.encoding import storable
from engine.sync.model import Attempt

Mask = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Log:
    """The log table of one run: where its rows go and what they all say."""

    db: Connection
    names: dict[str, str]
    application: str
    run: str
    mask: Mask
    codec: str | None = None

    def attempt(self, made: Attempt) -> None:
        """Write one API call. Status is `Success` for a 2xx, else `Failure` with the reason."""
        information = {
            "EndpointUrl": made.url,
            "BatchSize": len(made.batch.ids),
            "HttpResponseCode": made.status,
            "DurationMs": round(made.seconds * 1000),
            "RunId": self.run,
            "BatchId": made.batch.id,
            "Attempt": made.number,
            "IdempotencyKey": made.batch.key,
            "StartedOn": made.started.isoformat(),
            **({"Resent": True} if made.batch.resent else {}),
            **(dict(zip(("Accepted", "Rejected", "Unknown"), made.verdicts, strict=True)) if made.verdicts else {}),
        }
        status = "Success" if made.success else "Failure"
        activity = f"Sync Batch: {made.batch.entity}"
        self._write(made.id, activity, made.batch.entity, status, information, made.error)

    def has(self, made: Attempt) -> bool:
        """True when the row of a call is there already."""
        return bool(self.db.run("ledger/logged.sql.j2", **self.names, id=made.id).scalar())

    def act(self, verb: str, entity: str, information: dict[str, Any]) -> None:
        """Write what a person did: `Forget: Users` with the details."""
        details = {"RunId": self.run, **information}
        self._write(str(uuid.uuid4()), f"{verb}: {entity}", entity, "Success", details, None)

    def _write(
        self, id_: str, activity: str, module: str, status: str, information: dict[str, Any], exception: str | None
    ) -> None:
        self.db.run(
            "ledger/log.sql.j2",
            **self.names,
            id=id_,
            application=self.application,
            log_id=self.run,
            category="Sync",
            activity=activity,
            module=module,
            host=whoami.host(),
            status=status,
            information=as_json(information, self.mask, self.codec),
            user=whoami.user(),
            exception=storable(self.mask(exception), self.codec) if exception else None,
        )


def as_json(document: Any, mask: Mask, codec: str | None = None) -> str:
    """The document as JSON text; its texts are masked one by one, so that it stays JSON. In ASCII for a ledger with a `codec`."""
    masked = _masked(document, mask)
    return orjson.dumps(masked).decode() if codec is None else json.dumps(masked)


def _masked(value: Any, mask: Mask) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner, mask) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, mask) for inner in value]
    return mask(value) if isinstance(value, str) else value
