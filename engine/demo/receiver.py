"""A local API that accepts everything and counts what arrives, by record ID and by idempotency key."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from engine.demo import faults, wire
from engine.http import codings

MAX_BODY = 256 * 1024 * 1024
"""The most bytes of a request body, as received and decompressed."""
_PATIENCE = 60.0
"""Read timeout in seconds: how long a client may pause within a request."""


@dataclass(slots=True)
class Tally:
    """What arrived at one path. `doubled` counts records that arrived more than once under different keys."""

    calls: int = 0
    records: int = 0
    replayed: int = 0
    ids: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, int]:
        """Return the counts as JSON."""
        return {
            "calls": self.calls, "records": self.records, "distinct": len(self.ids),
            "doubled": sum(count - 1 for count in self.ids.values()), "replayed_keys": self.replayed,
        }  # fmt: skip


class Receiver(ThreadingHTTPServer):
    """The API. It honours `Idempotency-Key`: a batch resent under its key is answered, but not stored again."""

    daemon_threads = True

    def __init__(self, port: int = 0, id_field: str = "Id", script: faults.Script | None = None) -> None:
        self.id_field = id_field
        self.script = script or faults.Script({})
        self.stopping = threading.Event()
        self.tallies: dict[str, Tally] = {}
        self._answers: dict[str, bytes] = {}
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def called(self, path: str) -> None:
        """Count a call, whatever its outcome."""
        with self._lock:
            self.tallies.setdefault(path, Tally()).calls += 1

    def store(self, path: str, key: str | None, records: list[Any], body: bytes) -> tuple[int, bytes]:
        """Store a batch; returns the number of records stored and the answer: for a known key 0 and its first answer."""
        with self._lock:
            tally = self.tallies.setdefault(path, Tally())
            if key and key in self._answers:
                tally.replayed += 1
                return 0, self._answers[key]
            tally.records += len(records)
            tally.ids.update(self.ids(records))
            if key:
                self._answers[key] = body
            return len(records), body

    def ids(self, records: list[Any]) -> list[str]:
        """Return the IDs of the records that have one."""
        return [
            str(record[self.id_field]) for record in records if isinstance(record, dict) and self.id_field in record
        ]

    def server_close(self) -> None:
        """Interrupt delayed answers, then close."""
        self.stopping.set()
        super().server_close()

    def as_json(self) -> dict[str, dict[str, int]]:
        """Return the counts by path."""
        with self._lock:
            return {path: tally.as_json() for path, tally in sorted(self.tallies.items())}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the client's acknowledgement of its headers
    server: Receiver

    def do_POST(self) -> None:
        """Store a batch: a JSON array, or an object that holds one."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            self._turn_away(411, "send a Content-Length")
        elif not (length.isascii() and length.isdecimal()):
            self._turn_away(400, f"Content-Length {length[:40]!r} is not a whole number")
        elif len(length) > 18 or int(length) > MAX_BODY:
            self._turn_away(413, f"the body is larger than {MAX_BODY} bytes")
        else:
            body = faults.whole_body(self)
            if body is not None:
                self._take(body)

    def _take(self, body: bytes) -> None:
        try:
            records = orjson.loads(codings.decode(body, self.headers.get("Content-Encoding"), MAX_BODY))
        except codings.TooLarge as failure:
            self._turn_away(413, str(failure))
        except (orjson.JSONDecodeError, codings.BadCoding) as failure:
            self._answer(400, {"error": f"not JSON: {failure}"})
        else:
            if isinstance(records, dict):
                records = next((value for value in records.values() if isinstance(value, list)), [records])
            self._misbehave(self.server.script.next(self.path), records)

    def _turn_away(self, status: int, reason: str) -> None:
        """Refuse a request and close the connection: the end of the body is unknown, or too far away."""
        self.close_connection = True
        self._answer(status, {"error": reason})

    do_PUT = do_PATCH = do_POST  # noqa: N815

    def do_GET(self) -> None:
        """Answer with the counts so far."""
        self._answer(200, self.server.as_json())

    def log_message(self, format: str, *args: Any) -> None:
        """Do nothing: the counts are the log."""

    def _misbehave(self, step: faults.Step, records: list[Any]) -> None:
        """Answer as the script says; without a script every step is `USUAL`."""
        server, ids = self.server, self.server.ids(records)
        if step.refuse is not None and step.refuse.isdisjoint(ids):
            step = faults.USUAL
        kept = records
        if step.verdicts is not None:
            away = {id_ for kind in ("rejected", "busy") for id_ in step.verdicts.get(kind, ())}
            kept = [record for record in records if not away.intersection(server.ids([record]))]
        server.called(self.path)
        body = faults.verdicts(step, ids) if step.verdicts is not None else _body(step, len(kept))
        if step.stores():
            _, body = server.store(self.path, self.headers.get("Idempotency-Key"), kept, body)
        wire.interim(self, step.interim)
        server.stopping.wait(step.delay)
        self._reply(step, body)

    def _reply(self, step: faults.Step, body: bytes) -> None:
        headers = {"Content-Type": "application/json", **step.headers}
        if step.gzip is not None:
            body, headers = wire.packed(body, step.gzip), {**headers, "Content-Encoding": "gzip"}
        self.close_connection = self.close_connection or step.close
        if step.raw is not None:
            wire.raw(self, step.raw, self.server.stopping.wait, close=step.close)
        elif step.cut == "before":
            faults.reset(self)
        elif step.drip is not None:
            faults.drip(self, step.drip, self.server.stopping.wait)
        elif step.cut == "body":
            faults.break_off(self, step.status, b'{"sto', 100)
        elif step.cut is not None:
            wire.cut(self, step.cut)
        else:
            faults.send(self, step.status, body, headers)

    def _answer(self, status: int, document: Any) -> None:
        faults.send(self, status, orjson.dumps(document), {"Content-Type": "application/json"})


def _body(step: faults.Step, stored: int) -> bytes:
    if isinstance(step.body, str):
        return step.body.encode()
    return orjson.dumps({"stored": stored} if step.body is None else step.body)
