"""Progress of a run for people: live bars on a terminal, plain lines elsewhere, records for machines."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from engine.observe.observer import Progress

_LOG = logging.getLogger(__name__)


class Live:
    """One bar per entity: moving while it is read and sent, full when everything that was due is delivered."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            SpinnerColumn(finished_text=" "),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Live:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def entity_started(self, name: str) -> None:
        """A bar without an end yet."""
        self._tasks[name] = self._bars.add_task(escape(name.ljust(16)), total=None, text="reading")

    def progress(self, name: str, counts: Progress) -> None:
        """Move the bar."""
        # How much there is to come is not known before the source was read to its end.
        self._bars.update(self._tasks[name], text=f"{counts.accepted:,} delivered, {counts.read:,} read")

    def entity_done(self, name: str, counts: Progress, error: str | None) -> None:
        """Fill the bar."""
        text = _words(counts) if counts.due else f"nothing new ({counts.excluded:,} tracked)"
        total = max(counts.due, 1)
        done = total if error is None else counts.accepted
        self._bars.update(self._tasks[name], total=total, completed=done, text=text + (" [red]!" if error else ""))


class Lines:
    """A line when an entity begins and ends, and every few seconds between."""

    def __init__(self, pipeline: str | None = None, every: float = 5.0) -> None:
        """`pipeline` is named in every line where several run in one process."""
        self._name = f"{pipeline}: " if pipeline else ""
        self._fields: dict[str, object] = {"pipeline": pipeline} if pipeline else {}
        self._every = every
        self._last = 0.0

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

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
                _words(counts),
                extra={"fields": {**self._fields, **_fields(name, counts)}},
            )

    def entity_done(self, name: str, counts: Progress, error: str | None) -> None:
        """Say how it ended."""
        nothing = "nothing sent" if error else f"nothing new, {counts.excluded:,} delivered before"
        words = _words(counts) if counts.due else nothing
        fields = {**self._fields, **_fields(name, counts)}
        if error:
            _LOG.error("%s%s: %s; %s", self._name, name, words, error, extra={"fields": {**fields, "error": error}})
        else:
            _LOG.info("%s%s: done, %s", self._name, name, words, extra={"fields": fields})


def _words(counts: Progress) -> str:
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
