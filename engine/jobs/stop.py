"""Ends what a connection is doing: by the driver's cancel, and where that does not help by ending its session on the server."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from engine.context import RunContext
from engine.db.connection import Connection
from engine.db.sessions import Session
from engine.errors import SyncLedgerError
from engine.observe.printable import printable

_LOG = logging.getLogger(__name__)
_CANCEL_SECONDS = 5.0
_GONE_SECONDS = 30.0


@contextmanager
def stoppable(
    run: RunContext,
    connection: Connection,
    session: Session | None,
    another: Callable[[], Connection],
    *,
    grace: float,
    timeout: float | None,
) -> Iterator[threading.Event]:
    """Inside, a cancel of the run, or `timeout` seconds, end what the connection does. Yields an event that tells of the timeout.

    `grace` is how long, in seconds, the driver's cancel may take before the session is ended through a connection of `another`.
    """
    over, late = threading.Event(), threading.Event()

    def stop() -> None:
        connection.cancel(min(_CANCEL_SECONDS, grace))
        if not over.wait(grace) and session is not None:
            _end(session, another)

    def on_timeout() -> None:
        late.set()
        stop()

    timer = threading.Timer(timeout, on_timeout) if timeout else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        with run.on_cancel(stop):
            yield late
    finally:
        over.set()
        if timer:
            timer.cancel()


def _end(session: Session, another: Callable[[], Connection]) -> None:
    """End a session, and wait until the server does not have it any more."""
    try:
        with closing(another()) as connection:
            connection.end_session(session)
            end = time.monotonic() + _GONE_SECONDS
            while connection.is_alive(session) and time.monotonic() < end:
                time.sleep(0.05)
    except SyncLedgerError as failure:
        _LOG.warning("the session %s could not be ended: %s", session, printable(str(failure)))
