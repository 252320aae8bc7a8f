"""A local API that accepts everything and counts what arrives, by record ID and by idempotency key."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson


@dataclass(slots=True)
class Tally:
    """What arrived at one path. `doubled` counts records that arrived more than once under different keys."""

    calls: int = 0
    records: int = 0
    replayed: int = 0
    ids: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, int]:
        """The numbers."""
        return {
            "calls": self.calls, "records": self.records, "distinct": len(self.ids),
            "doubled": sum(count - 1 for count in self.ids.values()), "replayed_keys": self.replayed,
        }  # fmt: skip


class Receiver(ThreadingHTTPServer):
    """The API. It honours `Idempotency-Key`: a batch that comes again under its key is answered, but not stored again."""

    daemon_threads = True

    def __init__(self, port: int = 0, id_field: str = "Id") -> None:
        self.id_field = id_field
        self.tallies: dict[str, Tally] = {}
        self._keys: set[str] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def store(self, path: str, key: str | None, records: list[Any]) -> int:
        """Count a batch; gives the number of records that were new here."""
        with self._lock:
            tally = self.tallies.setdefault(path, Tally())
            tally.calls += 1
            if key and key in self._keys:
                tally.replayed += 1
                return 0
            if key:
                self._keys.add(key)
            tally.records += len(records)
            tally.ids.update(
                str(record[self.id_field]) for record in records if isinstance(record, dict) and self.id_field in record
            )
            return len(records)

    def as_json(self) -> dict[str, dict[str, int]]:
        """What arrived, by path."""
        with self._lock:
            return {path: tally.as_json() for path, tally in sorted(self.tallies.items())}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        """Store a batch: a JSON array, or an object that holds one."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            records = orjson.loads(body)
        except (orjson.JSONDecodeError, OSError, EOFError) as failure:
            self._answer(400, {"error": f"not JSON: {failure}"})
            return
        if isinstance(records, dict):
            records = next((value for value in records.values() if isinstance(value, list)), [records])
        self._answer(200, {"stored": self.server.store(self.path, self.headers.get("Idempotency-Key"), records)})

    do_PUT = do_PATCH = do_POST  # noqa: N815

    def do_GET(self) -> None:
        """What arrived so far."""
        self._answer(200, self.server.as_json())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the numbers are the log."""

    def _answer(self, status: int, document: Any) -> None:
        body = orjson.dumps(document)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
