"""Which process on this host somebody was, though its number may belong to another one by now."""

from __future__ import annotations

import os

import psutil

_SECONDS = 2.0
"""Two readings of one process's start differ by less."""


def identity(pid: int | None = None) -> str | None:
    """When a process (this one without `pid`) was created, and when the host was started, in seconds; None when there is none.

    Both, since a clock that is set anew moves them together on some systems and only one of them on others.
    """
    try:
        return f"{psutil.Process(pid or os.getpid()).create_time():.3f} {psutil.boot_time():.3f}"
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return ""


def is_gone(pid: int, was: str | None) -> bool:
    """True when the process with this number is not there any more, or is another one than it `was` (None where nobody noted it)."""
    if not psutil.pid_exists(pid):
        return True
    now = identity(pid)
    if now is None:
        return True
    if not was or not now:
        return False
    (created, boot), (created_now, boot_now) = map(_numbers, (was, now))
    same_clock = abs(created - created_now) < _SECONDS
    same_age = abs((created - boot) - (created_now - boot_now)) < _SECONDS
    return not (same_clock or same_age)


def _numbers(text: str) -> tuple[float, float]:
    created, _, boot = text.partition(" ")
    return float(created), float(boot)
