"""Progress of a run on a terminal: live bars."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from engine.observe.masks import masked
from engine.observe.observer import Progress, Wait
from engine.observe.printable import printable
from engine.observe.progress import words

_WIDEST_REASON = 120


class Live:
    """One bar per entity: source rows handled, calls per second, and the current wait."""

    wants_rows = True

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            SpinnerColumn(finished_text=" "),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._shown: dict[str, Callable[..., None]] = {
            "run_started": self._run_started,
            "entity_started": self._entity_started,
            "rows_counted": self._rows_counted,
            "progress": self._progress,
            "waiting": self._waiting,
            "entity_done": self._entity_done,
        }

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def hear(self, event: str, /, **fields: Any) -> None:
        """Show the event; ignore unknown ones."""
        if event in self._shown:
            self._shown[event](**fields)

    def _run_started(self, run: str) -> None:
        """Print the run ID and start the bars; any prompt was answered before."""
        self._bars.start()
        self._bars.console.print(f"Run {run}", highlight=False)

    def _entity_started(self, entity: str) -> None:
        self._began[entity] = time.monotonic()
        self._tasks[entity] = self._bars.add_task(escape(printable(entity).ljust(16)), total=None, text="reading")

    def _rows_counted(self, entity: str, rows: int) -> None:
        self._bars.update(self._tasks[entity], total=rows)

    def _progress(self, entity: str, counts: Progress) -> None:
        over = counts.read - counts.due + counts.accepted + counts.rejected + counts.failed + counts.in_doubt
        seconds = max(time.monotonic() - self._began[entity], 0.001)
        text = f"{counts.accepted:,} delivered, {counts.calls / seconds:.1f} calls/s"
        self._bars.update(self._tasks[entity], completed=over, text=text)

    def _waiting(self, entity: str, wait: Wait) -> None:
        text = printable(masked(str(wait)))
        shown = text if len(text) <= _WIDEST_REASON else f"...{text[-_WIDEST_REASON:]}"
        self._bars.update(self._tasks[entity], text=f"[yellow]{escape(shown)}")

    def _entity_done(self, entity: str, counts: Progress, error: str | None) -> None:
        text = words(counts) if counts.due else f"nothing new ({counts.excluded:,} tracked)"
        total = max(counts.due, 1)
        done = total if error is None else counts.accepted
        self._bars.update(self._tasks[entity], total=total, completed=done, text=text + (" [red]!" if error else ""))
