"""Identifies a process on this host, whose PID may have been reused."""

from __future__ import annotations

import os

import psutil

_SECONDS = 2.0
"""Two readings of one process's start differ by less than this."""


def identity(pid: int | None = None) -> str | None:
    """Return when a process (by default this one) was created and when the host was started, in seconds.

    None if there is no such process, empty if it cannot be read. Both times, since a change of the clock moves both of them
    on some systems and only one on others.
    """
    try:
        return f"{psutil.Process(pid or os.getpid()).create_time():.3f} {psutil.boot_time():.3f}"
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return ""


def is_gone(pid: int, was: str | None) -> bool:
    """True if the process with this PID no longer exists, or is not the one it `was` (None if that was not recorded)."""
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
