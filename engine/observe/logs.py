"""Log lines on stderr, as text or JSON, without secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from engine.observe.printable import printable, printable_json

Mask = Callable[[str], str]
RUN: ContextVar[str | None] = ContextVar("RUN", default=None)
"""The ID of this thread's run; every JSON line carries it."""


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger with structured fields: those bound to it, and `fields=` of each call."""

    def __init__(self, logger: logging.Logger, **bound: object) -> None:
        super().__init__(logger, bound)

    def bind(self, **more: object) -> Log:
        """Return the same logger with more fields."""
        return Log(self.logger, **{**(self.extra or {}), **more})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the fields into the record; called by `logging`."""
        fields = {**(self.extra or {}), **kwargs.pop("fields", {})}
        return msg, {**kwargs, "extra": {"fields": fields}}


class Formatter(logging.Formatter):
    """One line per record, with secrets masked. A traceback follows indented (text) or is part of `event` (JSON)."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__("%(message)s" if as_json else "%(asctime)s %(levelname)s %(message)s")
        self._as_json = as_json
        self.masks: list[Mask] = []

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002 - logging's
        """Return the local time with its UTC offset, ISO 8601."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text or JSON."""
        if not self._as_json:
            return self._as_text(record)
        fields = {key: self._mask(value) for key, value in getattr(record, "fields", {}).items()}
        entry = {
            "time": _iso(record.created),
            "level": record.levelname.lower(),
            "event": self._mask_text(super().format(record)),
            **({"run_id": run} if (run := RUN.get()) else {}),
            **fields,
        }
        return printable_json(orjson.dumps(entry, default=str).decode())

    def _as_text(self, record: logging.LogRecord) -> str:
        """Return the record as text. Traceback lines are indented, so that none can pass for a log line."""
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        lines = [printable(self._mask_text(self.formatMessage(record)))]
        if record.exc_info:
            trace = self._mask_text(self.formatException(record.exc_info))
            lines += [f"  {printable(line)}" for line in trace.split("\n")]
        return "\n".join(lines)

    def _mask(self, value: object) -> object:
        return self._mask_text(value) if isinstance(value, str) else value

    def _mask_text(self, text: str) -> str:
        for mask in self.masks:
            text = mask(text)
        # Escape what UTF-8 cannot encode: a lone surrogate of a broken name.
        return text.encode("utf-8", "backslashreplace").decode()


def setup(*, as_json: bool, quiet: bool, stream: TextIO | None = None) -> Formatter:
    """Send the engine's log records to stderr; with `quiet` only warnings and above."""
    handler = logging.StreamHandler(stream or sys.stderr)
    formatter = Formatter(as_json=as_json)
    handler.setFormatter(formatter)
    logger = logging.getLogger("engine")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    return formatter


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
