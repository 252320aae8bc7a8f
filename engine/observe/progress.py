"""Progress of a run where there is no terminal: plain lines, records for machines."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from engine.observe.observer import Progress, Wait

_LOG = logging.getLogger(__name__)


class Lines:
    """A line when an entity begins and ends, every few seconds between, and at once where a call is tried again."""

    wants_rows = False

    def __init__(self, pipeline: str | None = None, every: float = 5.0) -> None:
        """`pipeline` is named in every line where several run in one process."""
        self._name = f"{pipeline}: " if pipeline else ""
        self._fields: dict[str, object] = {"pipeline": pipeline} if pipeline else {}
        self._every = every
        self._last = 0.0
        self._waits: dict[tuple[str, str], float] = {}
        self._said: dict[str, str] = {}
        """Each error that was said, and the entity that had it first."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def run_started(self, run: str) -> None:
        """Every line says which run it is of."""
        self._fields["run_id"] = run
        _LOG.info("%srun %s started", self._name, run, extra={"fields": self._fields})

    def rows_counted(self, name: str, rows: int) -> None:
        """Nothing: a line has no end to reach."""

    def waiting(self, name: str, wait: Wait) -> None:
        """Say at once what is waited for; the same reason again now and then."""
        key, now = (name, wait.reason), time.monotonic()
        if now - self._waits.get(key, float("-inf")) >= self._every:
            self._waits[key] = now
            fields = {
                "entity": name,
                "reason": wait.reason,
                "attempt": wait.number,
                "wait_seconds": round(wait.seconds, 3),
            }
            _LOG.warning("%s%s: %s", self._name, name, wait, extra={"fields": {**self._fields, **fields}})

    def entity_started(self, name: str) -> None:
        """Say so."""
        self._last = time.monotonic()
        _LOG.info("%s%s: started", self._name, name, extra={"fields": {**self._fields, "entity": name}})

    def progress(self, name: str, counts: Progress) -> None:
        """Say how far it is, now and then."""
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            _LOG.info(
                "%s%s: %s",
                self._name,
                name,
                words(counts),
                extra={"fields": {**self._fields, **_fields(name, counts)}},
            )

    def entity_done(self, name: str, counts: Progress, error: str | None) -> None:
        """Say how it ended."""
        nothing = "nothing sent" if error else f"nothing new, {counts.excluded:,} delivered before"
        text = words(counts) if counts.due else nothing
        fields = {**self._fields, **_fields(name, counts)}
        if error:
            first = self._said.setdefault(error, name)
            shown = error if first == name else f"for the same reason as {first}"
            _LOG.error("%s%s: %s; %s", self._name, name, text, shown, extra={"fields": {**fields, "error": error}})
        else:
            _LOG.info("%s%s: done, %s", self._name, name, text, extra={"fields": fields})


def words(counts: Progress) -> str:
    """What became of the records so far."""
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
