"""Who runs this process and where, as logs and leases name them."""

from __future__ import annotations

import getpass
import socket
from functools import cache


@cache
def user() -> str:
    """Return the OS user's name."""
    try:
        return getpass.getuser()[:100]
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


@cache
def host() -> str:
    """Return the host name, cut to the length of its columns."""
    return socket.gethostname()[:255]
