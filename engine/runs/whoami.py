"""Who runs this process, as logs and leases name them."""

from __future__ import annotations

import getpass
from functools import cache


@cache
def user() -> str:
    """The OS user's name."""
    try:
        return getpass.getuser()[:100]
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
