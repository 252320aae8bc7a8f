"""Progress of a run on a terminal: live bars."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from engine.observe.observer import Progress
from engine.observe.printable import printable
from engine.observe.progress import words


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
        self._tasks[name] = self._bars.add_task(escape(printable(name).ljust(16)), total=None, text="reading")

    def progress(self, name: str, counts: Progress) -> None:
        """Move the bar."""
        # How much there is to come is not known before the source was read to its end.
        self._bars.update(self._tasks[name], text=f"{counts.accepted:,} delivered, {counts.read:,} read")

    def entity_done(self, name: str, counts: Progress, error: str | None) -> None:
        """Fill the bar."""
        text = words(counts) if counts.due else f"nothing new ({counts.excluded:,} tracked)"
        total = max(counts.due, 1)
        done = total if error is None else counts.accepted
        self._bars.update(self._tasks[name], total=total, completed=done, text=text + (" [red]!" if error else ""))
