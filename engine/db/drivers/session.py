"""The setup of every session of a database server."""

from __future__ import annotations

import re

from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.db.timeouts import Timeouts
from engine.errors import ConnectionFailed, DatabaseError

_MOST = 2**31 - 1
"""Maximum milliseconds that every server accepts."""


def begin_session(opened: Connection, timeouts: Timeouts) -> Connection:
    """Run the dialect's statements and set the time limits. On failure, closes the connection and raises `ConnectionFailed`."""
    limits = {"{milliseconds}": str(min(int(timeouts.query * 1000), _MOST)), "{seconds}": f"{timeouts.query:g}"}
    try:
        if opened.dialect.driver_timeout:
            opened.limit_in_driver(max(1, round(timeouts.query)))
        for statement in opened.dialect.session:
            text = re.sub(r"\{(milli)?seconds\}", lambda found: limits[found[0]], statement)
            opened.execute(Statement(text, ()))
    except DatabaseError as failure:
        opened.close()
        raise ConnectionFailed(f"the session cannot be set up: {failure}") from failure
    return opened
