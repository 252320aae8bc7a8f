"""Progress of a run without a terminal: log lines, with fields for machines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from engine.observe.logs import Log
from engine.observe.observer import Progress, Wait

_LOG = Log(logging.getLogger(__name__))


class Lines:
    """Logs a line at the start and end of an entity, every few seconds in between, and at once before a retry."""

    wants_rows = False

    def __init__(self, pipeline: str | None = None, every: float = 5.0) -> None:
        """`pipeline` prefixes every line, for several pipelines in one process; `every` is in seconds."""
        self._name = f"{pipeline}: " if pipeline else ""
        self._log = _LOG.bind(pipeline=pipeline) if pipeline else _LOG
        self._every = every
        self._last = 0.0
        self._waits: dict[tuple[str, str], float] = {}
        self._said: dict[str, str] = {}
        """Each error already logged, and the entity that had it first."""
        self._lines: dict[str, Callable[..., None]] = {
            "run_started": self._run_started,
            "entity_started": self._entity_started,
            "progress": self._progress,
            "waiting": self._waiting,
            "entity_done": self._entity_done,
        }

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def hear(self, event: str, /, **fields: Any) -> None:
        """Log the event; some events have no line."""
        if event in self._lines:
            self._lines[event](**fields)

    def _run_started(self, run: str) -> None:
        self._log = self._log.bind(run_id=run)
        self._log.info("%srun %s started", self._name, run)

    def _waiting(self, entity: str, wait: Wait) -> None:
        """Log a wait at once, but the same reason at most once in `every` seconds."""
        key, now = (entity, wait.reason), time.monotonic()
        if now - self._waits.get(key, float("-inf")) >= self._every:
            self._waits[key] = now
            seconds = round(wait.seconds, 3)
            fields = {"entity": entity, "reason": wait.reason, "attempt": wait.number, "wait_seconds": seconds}
            self._log.warning("%s%s: %s", self._name, entity, wait, fields=fields)

    def _entity_started(self, entity: str) -> None:
        self._last = time.monotonic()
        self._log.info("%s%s: started", self._name, entity, fields={"entity": entity})

    def _progress(self, entity: str, counts: Progress) -> None:
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._log.info("%s%s: %s", self._name, entity, words(counts), fields=_fields(entity, counts))

    def _entity_done(self, entity: str, counts: Progress, error: str | None) -> None:
        nothing = "nothing sent" if error else f"nothing new, {counts.excluded:,} delivered before"
        text, fields = words(counts) if counts.due else nothing, _fields(entity, counts)
        if error:
            first = self._said.setdefault(error, entity)
            shown = error if first == entity else f"for the same reason as {first}"
            self._log.error("%s%s: %s; %s", self._name, entity, text, shown, fields={**fields, "error": error})
        else:
            self._log.info("%s%s: done, %s", self._name, entity, text, fields=fields)


def words(counts: Progress) -> str:
    """Return the counts so far as text: delivered, rejected, failed, in doubt."""
    parts = [f"{counts.accepted:,} of {counts.due:,} delivered"]
    parts += [
        f"{value:,} {word}"
        for word, value in (("rejected", counts.rejected), ("failed", counts.failed), ("in doubt", counts.in_doubt))
        if value
    ]
    return ", ".join(parts)


def _fields(name: str, counts: Progress) -> dict[str, object]:
    return {
        "entity": name, "read": counts.read, "excluded": counts.excluded, "due": counts.due, "accepted": counts.accepted,
        "rejected": counts.rejected, "failed": counts.failed, "in_doubt": counts.in_doubt, "calls": counts.calls,
    }  # fmt: skip
