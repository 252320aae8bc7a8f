"""Fault injection for the local API: a script of steps per path, each a fault of real networks and servers.

The faults are plain functions over a standard-library request handler, so any test server can use them.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from engine.demo.wire import Part
from engine.errors import Problem, SpecError
from engine.spec import durations
from engine.spec.reader import Document, Place, read
from engine.spec.suggest import did_you_mean

ANY = "*"

# In Python `$` also matches before a trailing line break.
_DURATION = {"type": "string", "pattern": durations.PATTERN.replace("$", r"\Z")}
_BYTES = {"type": "string", "pattern": "^[\u0000-\u00ff]*$"}
"""Each character is one byte."""
_PAUSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["pause"],
    "properties": {"pause": _DURATION},
}
_IDS = {"type": "array", "items": {"type": ["string", "integer"]}}
_STEP = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "times": {"type": "integer", "minimum": 1},
        "status": {"type": "integer", "minimum": 200, "maximum": 599},
        "body": {},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "store": {"type": "boolean"},
        "delay": _DURATION,
        "cut": {"enum": ["before", "status", "headers", "body", "chunk"]},
        "drip": _DURATION,
        "interim": {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 199}},
        "gzip": {"enum": ["whole", "cut", "trailing"]},
        "raw": {"oneOf": [_BYTES, {"type": "array", "minItems": 1, "items": {"oneOf": [_BYTES, _PAUSE]}}]},
        "close": {"type": "boolean"},
        "refuse": _IDS,
        "verdicts": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"rejected": _IDS, "busy": _IDS, "left_out": _IDS, "wrong": _IDS},
        },
    },
}
SCHEMA = {"type": "object", "additionalProperties": {"type": "array", "minItems": 1, "items": _STEP}}


@dataclass(frozen=True, slots=True)
class Step:
    """The answer to one call. `raw` is the whole answer, byte by byte.

    `refuse` limits the step to batches with one of these IDs; others get the usual answer.
    """

    times: int = 1
    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    store: bool | None = None
    delay: float = 0.0
    cut: str | None = None
    drip: float | None = None
    interim: tuple[int, ...] = ()
    gzip: str | None = None
    raw: tuple[Part, ...] | None = None
    close: bool = False
    refuse: frozenset[str] | None = None
    verdicts: Mapping[str, frozenset[str]] | None = None

    def stores(self) -> bool:
        """Return True if the records count as stored, whatever the answer says; by default on a 2xx."""
        return 200 <= self.status < 300 if self.store is None else self.store


USUAL = Step()


class Script:
    """The steps of each path, in order; the last one repeats. `*` matches every other path."""

    def __init__(self, steps: Mapping[str, list[Step]]) -> None:
        self._left = {path: [step for step in given for _ in range(step.times)] for path, given in steps.items()}
        self._lock = threading.Lock()

    def next(self, path: str) -> Step:
        """Return the step for the next call of a path."""
        with self._lock:
            left = self._left.get(path, self._left.get(ANY, [USUAL]))
            return left.pop(0) if len(left) > 1 else left[0]


def load(file: Path) -> Script:
    """Load a script from YAML. Raises `SpecError` with all problems and their positions."""
    document = read(file, str(file))
    errors = list(Draft202012Validator(SCHEMA).iter_errors(document.data))
    problems = [problem for error in errors for problem in _problems(document, error)]
    problems += [] if errors else list(_too_long(document, document.data, ()))
    if problems:
        raise SpecError(problems)
    return Script({path: [_step(step) for step in steps] for path, steps in document.data.items()})


def _problems(document: Document, error: Any) -> Iterator[Problem]:
    """Yield the problems of a schema error; an unknown key is reported at the key."""
    place = tuple(error.absolute_path)
    known = error.schema.get("properties", {}) if error.validator == "additionalProperties" else {}
    unknown = [key for key in error.instance if key not in known] if known else []
    for key in unknown:
        yield document.problem((*place, key), f"unknown key {key!r}{did_you_mean(key, known)}", at_key=True)
    if not unknown:
        yield document.problem(place, error.message)


def _too_long(document: Document, data: Any, place: Place) -> Iterator[Problem]:
    """Yield a problem for every duration above the maximum, at any depth."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if key in ("delay", "drip", "pause") and isinstance(value, str):
            problem = durations.too_long(value)
            if problem:
                yield document.problem((*place, key), f"{key!r} {problem}")
        elif isinstance(value, (dict, list)) and key not in ("body", "headers"):
            yield from _too_long(document, value, (*place, key))


def _step(data: dict[str, Any]) -> Step:
    made = dict(data)
    for key in ("delay", "drip"):
        if key in made:
            made[key] = durations.seconds(made[key])
    if "interim" in made:
        made["interim"] = tuple(made["interim"])
    if "raw" in made:
        parts = [made["raw"]] if isinstance(made["raw"], str) else made["raw"]
        made["raw"] = tuple(
            part.encode("latin-1") if isinstance(part, str) else durations.seconds(part["pause"]) for part in parts
        )
    if "refuse" in made:
        made["refuse"] = frozenset(map(str, made["refuse"]))
        made.setdefault("status", 422)
    if "verdicts" in made:
        made["verdicts"] = {kind: frozenset(map(str, ids)) for kind, ids in made["verdicts"].items()}
    return Step(**made)


def whole_body(handler: BaseHTTPRequestHandler) -> bytes | None:
    """Return the body of a request; None if the client disconnected before sending all of it."""
    length = int(handler.headers.get("Content-Length") or 0)
    try:
        body = handler.rfile.read(length)
    except OSError:
        body = b""
    if len(body) == length:
        return body
    handler.close_connection = True
    return None


# The faults


def send(
    handler: BaseHTTPRequestHandler, status: int, content: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Send a whole answer. A Content-Length in `headers` is sent unchanged, and the connection is then closed."""
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    if any(name.lower() == "content-length" for name in headers or ()):
        handler.close_connection = True
    else:
        handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def break_off(handler: BaseHTTPRequestHandler, status: int, content: bytes, promised: int) -> None:
    """Send an answer that ends before its Content-Length."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(promised))
    handler.end_headers()
    handler.wfile.write(content)
    handler.wfile.flush()
    handler.close_connection = True


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Reset the connection instead of answering."""
    # SO_LINGER with 0 seconds sends RST (socket(7)).
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    handler.close_connection = True
    handler.connection.close()


def drip(handler: BaseHTTPRequestHandler, every: float, wait: Callable[[float], bool]) -> None:
    """Send a byte each `every` seconds without end: no single read times out. `wait` sleeps and returns True to stop."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    try:
        while not wait(every):
            handler.wfile.write(b" ")
            handler.wfile.flush()
    except OSError:
        pass  # the client disconnected, as it should
    handler.close_connection = True


def verdicts(step: Step, ids: list[str]) -> bytes:
    """Return an answer with a verdict per record: `{"items": [{"Id", "status", "error"}]}`."""
    kinds = step.verdicts or {}
    items: list[dict[str, Any]] = []
    for id_ in ids:
        if id_ in kinds.get("rejected", ()):
            items.append({"Id": id_, "status": "rejected", "error": "refused by the script"})
        elif id_ in kinds.get("busy", ()):
            items.append({"Id": id_, "status": "busy", "error": "try again later"})
        elif id_ not in kinds.get("left_out", ()):
            items.append({"Id": id_, "status": "ok", "error": None})
    items += [{"Id": id_, "status": "ok", "error": None} for id_ in sorted(kinds.get("wrong", ()))]
    return orjson.dumps({"items": items})
