"""When a pipeline is due: cron lines and intervals in a time zone, and the handling of misfires at a start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a pipeline is due. Exactly one of `every` (seconds) and `cron` is set; `daily_at` has become a cron line."""

    every: float | None
    cron: str | None
    timezone: ZoneInfo
    misfire: Literal["once", "skip"]


def due_times(plan: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the due times later than `after` (aware), in the pipeline's zone.

    A cron time that a clock change skips is due right after the change; one that occurs twice is due once, as in Debian's
    cron (cronsim). `every` counts elapsed time.
    """
    if plan.every is not None:
        moment = after.astimezone(UTC)
        while True:
            moment += timedelta(seconds=plan.every)
            yield moment.astimezone(plan.timezone)
    assert plan.cron is not None, "the schema asks for one of the two"  # noqa: S101
    yield from CronSim(plan.cron, after.astimezone(plan.timezone))


def next_due(plan: Schedule, after: datetime) -> datetime:
    """Return the first due time later than `after`."""
    return next(due_times(plan, after))


def latest_missed(plan: Schedule, last: datetime, now: datetime) -> datetime | None:
    """Return the latest due time after `last` and not after `now`; None if none was missed."""
    # Python compares two times of one zone by wall clock, which is wrong in the hour that occurs twice.
    last, now = last.astimezone(UTC), now.astimezone(UTC)
    if plan.every is not None:
        steps = int((now - last).total_seconds() // plan.every)
        return last + timedelta(seconds=plan.every * steps) if steps > 0 else None
    assert plan.cron is not None  # noqa: S101 - as above
    # Backwards from now to a rough start, so that years of missed minutes cost nothing; then forwards, since only that
    # direction is right when clocks change.
    rough = next(iter(CronSim(plan.cron, now.astimezone(plan.timezone), reverse=True)))
    newest = None
    for due in due_times(plan, max(last, rough - timedelta(days=1))):
        if due > now:
            return newest
        newest = due
    return newest


@dataclass(frozen=True, slots=True)
class Start:
    """When a pipeline is first due after a start of the loop, and why. `skipped` is a missed time that is not served."""

    due: datetime
    why: str
    skipped: datetime | None = None


def at_start(plan: Schedule, last: datetime | None, now: datetime) -> Start:
    """Return the first due time after a start at `now`, by the last time served (None before the first) and the misfire rule."""
    if last is None:
        if plan.every is not None:
            return Start(now, "nothing was served yet, so that `every` begins at once")
        return Start(next_due(plan, now), "the first time of the schedule; nothing was served yet")
    missed = latest_missed(plan, last, now)
    if missed is None:
        return Start(next_due(plan, last), f"the next after {as_text(last)}, the last one served")
    if plan.misfire == "once":
        return Start(missed, f"missed {as_text(missed)}; `misfire: once` serves it at once")
    return Start(next_due(plan, missed), f"missed {as_text(missed)}; `misfire: skip` leaves it out", missed)


def as_text(moment: datetime) -> str:
    """Format a time to the second, with its zone's offset (ISO 8601)."""
    return moment.isoformat(timespec="seconds")
