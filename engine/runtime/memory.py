"""How often the garbage collector runs in this process."""

from __future__ import annotations

import gc

_OBJECTS = 50_000


def collect_rarely() -> None:
    """Look for cycles of references after 50,000 new objects, not after 700: records make many objects and no cycles.

    For a process that is ours alone, at its start: the setting is the interpreter's.
    """
    gc.set_threshold(_OBJECTS, 20, 20)
