"""The soak: the command line runs again and again as a process, while the API, the ledger, the source and the process misbehave.

`python -m tests.soak.dice --seed 7 --rounds 8 --ledger sqlite` is one soak; with `--minutes` it goes on with the next seeds.
At the end the API is well again, one run must deliver all that is left, and then the books are compared: what the API has
stored, what the ledger tracks, what stands in the source. A seed gives the same plan again, not the same timing.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

from engine.demo import faults, wire
from tests import servers
from tests.faultapi import FaultAPI, Handler, Request
from tests.project import Project, check_sums
from tests.trust import Trust

TIMEOUT = 0.4
"""Seconds the spec gives a call while things go wrong."""
LEASE = 1.0
"""Seconds of the short lease."""
PARK = 2
"""Seconds of a Retry-After that is longer than the spec's max_wait, and of the breaker."""
HANGS = 90.0
"""Seconds after which a run counts as hanging."""
STOPPER = """
import os, signal, sys
from engine import failpoint
name, _, number = sys.argv.pop(1).rpartition(":")
left = int(number)
def reached(step):
    global left
    if name in ("", step):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
failpoint.reached = reached
from engine.cli.main import main
main()
"""
"""The command line, which stops itself at a durable step, named as in `engine.failpoint`: inside a transaction, before it sends."""
CODES = {"delivered": 0, "incomplete": 1, "cancelled": 130, "refused": 3, "error": 4}

KNOWN: tuple[re.Pattern[str], ...] = ()
"""Problems that are known (each with a test of its own): they are told, but are no reason to fail."""

RESULTS = {
    "path": "items",
    "id": "Id",
    "accepted": "status == 'ok'",
    "retryable": "status == 'busy'",
    "reason": "error",
}


@dataclass(frozen=True)
class Plan:
    """What a seed decides before anything runs."""

    seed: int
    entities: int
    records: int
    batch: int
    page: int
    in_flight: int
    attempts: int
    results: bool
    resend: str
    wrap: str | None
    trouble: float
    bad: int
    too_large: int | None
    long_lease: bool
    asks: bool
    """`in_doubt: hold`: a person looks into the API's books and says what became of each batch."""
    keys: bool
    """The API knows idempotency keys. Without them only a person can tell, so there the batches are held."""
    token: float | None
    """Seconds for which a token of OAuth 2 is good; None without any."""
    workers: int

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The plan of a seed."""
        dice = random.Random(f"plan {seed}")
        entities = dice.choice((1, 1, 2))
        ways = random.Random(f"ways {seed}")
        asks, keys = ways.random() < 0.35, ways.random() < 0.5
        return cls(
            seed=seed,
            entities=entities,
            records=dice.randint(60, 150) // entities,
            batch=dice.choice((5, 7, 7, 11)),
            page=dice.choice((4, 16, 50, 1000)),
            in_flight=dice.randint(1, 4),
            attempts=dice.randint(1, 3),
            results=dice.random() < 0.6 and not asks,  # who asks the API's books gets one word for a whole batch
            resend=dice.choice(("once", "once", "changed")),
            wrap=dice.choice((None, "items")),
            trouble=dice.uniform(0.05, 0.45),
            bad=dice.choice((0, 1, 3)),
            too_large=dice.choice((None, None, None, 4)),
            long_lease=dice.random() < 0.5,
            asks=asks,
            keys=keys or not asks,
            token=ways.choice((None, None, 0.3, 1.0)),
            workers=ways.choice((0, 0, 2)),
        )


# The API


@dataclass
class Call:
    """One call that arrived: what it met and which of its records were stored by it."""

    at: float
    path: str
    key: str
    ids: list[int]
    met: str
    body: str
    """The SHA-256 of its body."""
    stored: list[int] = field(default_factory=list)


@dataclass
class Known:
    """A key the API has seen: `answer` is None while its first call is being processed."""

    answer: tuple[int, bytes] | None = None
    unknown: bool = False
    """True when the answer leaves some records without a readable verdict."""


_BEFORE = ("reset before", "500 before", "503", "429", "429 long", "401")
_AROUND = ("reset after", "500 after", "slow after", "half", "closes", "1xx", "cut status", "cut headers", "cut chunk")
_WEIGHTS = {
    "reset before": 6, "500 before": 4, "503": 4, "429": 5, "429 long": 0.3, "401": 0.7,
    "reset after": 6, "500 after": 5, "slow after": 3, "half": 5, "closes": 5, "late": 3,
    "1xx": 5, "cut status": 2, "cut headers": 2, "cut chunk": 2,
}  # fmt: skip


class Partner:
    """An API that honours its idempotency key: it processes a key once, keeps the answer and gives it again.

    It stores exactly the records that its answer calls accepted. What happens to a call on the wire is another matter.
    """

    def __init__(self, plan: Plan, began: float) -> None:
        self.plan, self.began = plan, began
        self.dice = random.Random(f"api {plan.seed}")
        self.bad: set[tuple[str, int]] = set()
        self.well = False
        self.contents: Counter[tuple[str, int, str]] = Counter()
        self.ids: Counter[tuple[str, int]] = Counter()
        self.last: dict[tuple[str, int], str] = {}
        self.calls: list[Call] = []
        self.replayed_unknown = 0
        self._keys: dict[str, Known] = {}
        self._tokens: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """True while a call is being processed."""
        with self._lock:
            return any(known.answer is None for known in self._keys.values())

    def behave(self, handler: Handler, request: Request) -> None:
        """One call."""
        records = request.records
        with self._lock:
            key = request.headers["idempotency-key"] if self.plan.keys else str(uuid.uuid4())
            known = self._keys.get(key)
            met = self._meets(known) if self._lets_in(request) else "401 token"
            body = hashlib.sha256(request.body).hexdigest()
            call = Call(time.monotonic() - self.began, request.path, key, [r["Id"] for r in records], met, body)
            self.calls.append(call)
            if known is not None and known.answer is not None and known.unknown:
                self.replayed_unknown += 1
            if met == "late":
                self._keys[key] = Known()
        if met == "late":
            handler.server.pause.wait(TIMEOUT + self.dice.uniform(0.1, 0.6))
        if met in (*_BEFORE, "409", "401 token"):
            self._turn_away(handler, met)
            return
        with self._lock:
            status, body = self._process(call, records)
        self._answer(handler, met, status, body)

    def give_token(self, handler: Handler, _: Request) -> None:
        """A token endpoint that is in trouble now and then."""
        with self._lock:
            token, met = str(uuid.uuid4()), "usual"
            if not self.well and self.dice.random() < self.plan.trouble / 2:
                met = self.dice.choice(("500", "reset", "slow", "no token"))
            seconds = 3600.0 if self.well else self.plan.token or 0.0
            self._tokens[token] = time.monotonic() + seconds
        if met == "reset":
            faults.reset(handler)
        elif met == "500":
            faults.send(handler, 500, b"{}")
        elif met == "no token":
            faults.send(handler, 200, b'{"access_token": null}')
        else:
            handler.server.pause.wait(TIMEOUT + 0.2 if met == "slow" else 0.0)
            faults.send(handler, 200, json.dumps({"access_token": token, "expires_in": seconds}).encode())

    def _lets_in(self, request: Request) -> bool:
        if self.plan.token is None:
            return True
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return self._tokens.get(token, 0.0) > time.monotonic()

    def has(self, path: str, body: str) -> bool:
        """What a person finds in the API's books: whether it stored the records of a body."""
        with self._lock:
            return any(call.stored for call in self.calls if call.path == path and call.body == body)

    def _meets(self, known: Known | None) -> str:
        if known is not None and known.answer is None:
            return "409"
        if self.well or self.dice.random() > self.plan.trouble:
            return "usual"
        met = self.dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        return "slow after" if met == "late" and known else met

    def _process(self, call: Call, records: list[dict[str, Any]]) -> tuple[int, bytes]:
        """Process a key once; a key that was processed gives its answer again."""
        known = self._keys.get(call.key)
        if known is not None and known.answer is not None:
            return known.answer
        refused = self._refused(call)
        if refused:
            # Nothing was processed, so the key is free again.
            self._keys.pop(call.key, None)
            return refused
        made = Known()
        self._keys[call.key] = made
        if not self.plan.results:
            self._store(call, records)
            made.answer = (200, b"{}")
        else:
            made.answer, made.unknown = self._verdicts(call, records)
        return made.answer

    def _refused(self, call: Call) -> tuple[int, bytes] | None:
        if self.well:
            return None
        if self.plan.too_large and len(call.ids) > self.plan.too_large:
            call.met += " -> 413"
            return 413, b'{"error": "too many"}'
        if any((call.path, id_) in self.bad for id_ in call.ids):
            call.met += " -> 422"
            return 422, b'{"error": "one of these is bad"}'
        return None

    def _verdicts(self, call: Call, records: list[dict[str, Any]]) -> tuple[tuple[int, bytes], bool]:
        dice, calm = self.dice, self.well
        if not calm and dice.random() < 0.03:
            call.met += " -> unreadable"
            return (200, dice.choice((b"<html>ok</html>", b'{"items": null}', b""))), True
        items: list[dict[str, Any]] = []
        kept, unknown = [], False
        for record in records:
            id_ = record["Id"]
            kinds = ("ok", "twice", "rejected", "busy", "left out", "both")
            kind = "ok" if calm else dice.choices(kinds, (86, 4, 4, 3, 2, 1))[0]
            fine = {"Id": dice.choice((id_, str(id_))), "status": "ok", "error": None}
            no = {"Id": id_, "status": "rejected", "error": "refused"}
            items += {
                "ok": [fine], "twice": [fine, fine], "rejected": [no], "both": [fine, no], "left out": [],
                "busy": [{"Id": id_, "status": "busy", "error": "later"}],
            }[kind]  # fmt: skip
            unknown |= kind in ("left out", "both")
            if kind in ("ok", "twice"):
                kept.append(record)
        if not calm and dice.random() < 0.1:
            items.append({"Id": 10**9 + dice.randrange(100), "status": "ok", "error": None})
            dice.shuffle(items)
        self._store(call, kept)
        return (dice.choice((200, 200, 201, 207)), json.dumps({"items": items}).encode()), unknown

    def _store(self, call: Call, records: list[dict[str, Any]]) -> None:
        for record in records:
            name = (call.path, record["Id"])
            self.ids[name] += 1
            self.contents[(*name, record["Name"])] += 1
            self.last[name] = record["Name"]
            call.stored.append(record["Id"])

    def _turn_away(self, handler: Handler, met: str) -> None:
        """An answer, or none, without processing anything."""
        if met == "reset before":
            faults.reset(handler)
            return
        status = int(met[:3])
        headers = {}
        if met == "429 long":
            headers = {"Retry-After": str(PARK)}
        elif status in (429, 409, 503):
            moment = formatdate(time.time() + 1, usegmt=True)
            wait = self.dice.choice(("0", "0", "0", "1", moment, "soon", None))
            headers = {"Retry-After": wait} if wait else {}
        faults.send(handler, status, b'{"error": "not now"}', headers)

    def _answer(self, handler: Handler, met: str, status: int, body: bytes) -> None:
        """Bring the answer of a processed call home, or not."""
        if met == "reset after":
            faults.reset(handler)
        elif met == "half":
            faults.break_off(handler, status, body[: len(body) // 2], len(body) + 20)
        elif met == "500 after":
            faults.send(handler, 500, b'{"error": "lost"}')
        elif met.startswith("cut "):
            wire.cut(handler, met.removeprefix("cut "))
        else:
            if met == "1xx":
                wire.interim(handler, self.dice.choices((100, 102, 103), k=2))
                handler.server.pause.wait(self.dice.uniform(0.0, 0.3))
            if met == "slow after":
                handler.server.pause.wait(TIMEOUT + self.dice.uniform(0.0, 0.4))
            faults.send(handler, status, body)
            if met == "closes":
                handler.close_connection = True


# The ledger's database


@dataclass
class Database:
    """The ledger as the driver sees it: looks into it, and gets in its way."""

    kind: str
    string: str
    folder: Path

    def connect(self) -> Any:
        """A connection of the driver's own, each statement committed by itself."""
        if self.kind == "sqlite":
            file = self.folder / self.string.removeprefix("sqlite:///")
            return sqlite3.connect(file, isolation_level=None, timeout=20)
        import pyodbc

        return pyodbc.connect(self.string, autocommit=True)

    @property
    def errors(self) -> type[Exception]:
        """What its driver raises."""
        if self.kind == "sqlite":
            return sqlite3.Error
        import pyodbc

        return pyodbc.Error

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query gives; nothing where the tables are not there yet."""
        connection = self.connect()
        try:
            return [tuple(row) for row in connection.cursor().execute(sql).fetchall()]
        finally:
            connection.close()

    def has_run(self) -> bool:
        """True when a run has made the tables."""
        try:
            self.rows("SELECT COUNT(*) FROM TB_R_SYNC_BATCH")
        except self.errors:
            return False
        return True

    def lock(self, seconds: float) -> None:
        """Hold everybody else up for a while, where there are tables to lock already."""
        begin, end = {
            "sqlite": (["BEGIN EXCLUSIVE"], "ROLLBACK"),
            "postgresql": (
                ["BEGIN", "LOCK TABLE TB_R_SYNC_BATCH, TB_R_SYNC_LEASE IN ACCESS EXCLUSIVE MODE"],
                "ROLLBACK",
            ),
            "mysql": (["LOCK TABLES TB_R_SYNC_BATCH WRITE, TB_R_SYNC_LEASE WRITE"], "UNLOCK TABLES"),
        }[self.kind]
        connection = self.connect()
        with contextlib.closing(connection), contextlib.suppress(self.errors):
            for statement in begin:
                connection.execute(statement)
            time.sleep(seconds)
            connection.execute(end)

    def cut(self) -> None:
        """Break every connection but the driver's. SQLite has none to break."""
        if self.kind == "sqlite":
            return
        connection = self.connect()
        try:
            if self.kind == "postgresql":
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid()"
                ).fetchall()
                return
            name = connection.execute("SELECT DATABASE()").fetchone()[0]
            mine = connection.execute("SELECT CONNECTION_ID()").fetchone()[0]
            for number, database in connection.execute("SELECT ID, DB FROM information_schema.PROCESSLIST").fetchall():
                if database == name and number != mine:
                    with contextlib.suppress(self.errors):
                        connection.execute(f"KILL {int(number)}")
        finally:
            connection.close()


# The driver


@dataclass
class Started:
    """A run in the background. `harmed` tells that its ledger may be out of reach for it through no fault of its own."""

    process: subprocess.Popen[str]
    label: str
    harmed: bool = False


class Soak:
    """One soak of one seed in one folder. `problems` is empty when every promise was kept."""

    def __init__(self, plan: Plan, folder: Path, ledger: str = "sqlite", string: str | None = None) -> None:
        self.plan, self.folder = plan, folder
        self.began = time.monotonic()
        self.dice = random.Random(f"driver {plan.seed}")
        self.partner = Partner(plan, self.began)
        self.project = Project(folder)
        self.api = Trust(self.project).server() if plan.token is not None else FaultAPI()
        self.database = Database(ledger, string or "sqlite:///log.db", folder)
        self.entities = [f"Users{number}" for number in range(1, plan.entities + 1)]
        self.problems: list[str] = []
        self.known: list[str] = []
        self.story: list[str] = []
        self.runs: Counter[str] = Counter()
        self.versions: Counter[tuple[str, int]] = Counter()
        self.rounds = 0
        self._processes: list[subprocess.Popen[str]] = []
        self._cutting = False
        self._prepare()

    # What happens

    def soak(self, rounds: int) -> list[str]:
        """Go through the rounds, heal, and compare the books. Gives the problems."""
        self.rounds = rounds
        try:
            for number in range(1, rounds + 1):
                self.dice = random.Random(f"driver {self.plan.seed} {number}")
                kind = self.dice.choice(list(self._kinds()))
                self.tell(f"round {number}: {kind}")
                self._round(kind)
                if self.plan.asks and self.dice.random() < 0.5:
                    self._say_what_became_of_them()
            self._heal()
            self._compare()
        finally:
            for process in self._processes:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
            self.api.stop()
        return self.problems

    def tell(self, event: str) -> None:
        """One more line of the story."""
        self.story.append(f"{time.monotonic() - self.began:7.3f} {event}")

    def problem(self, text: str) -> bool:
        """A promise was broken; True when it is known that it is."""
        known = any(pattern.search(text) for pattern in KNOWN)
        (self.known if known else self.problems).append(text)
        self.tell(f"{'KNOWN ' if known else ''}PROBLEM {text}")
        return known

    def _prepare(self) -> None:
        plan, spec = self.plan, self.project.spec
        spec["connections"]["log"] = self.database.string
        spec["api"] |= {"base_url": self.api.url, "in_doubt": "hold" if plan.asks else "resend"}
        if not plan.keys:
            spec["api"]["idempotency_header"] = None
        if plan.token is not None:
            oauth2 = {"token_url": f"{self.api.url}/token", "client_id": "soak", "client_secret": "of-the-soak"}
            spec["api"] |= {"verify": "ca.pem", "auth": {"oauth2": oauth2}}
            self.api.script("/token", self.partner.give_token)
        for name in self.entities:
            self.project.fill(
                name,
                "Id INTEGER PRIMARY KEY, Name TEXT",
                ((number * 10, f"{number * 10} v0") for number in range(1, plan.records + 1)),
            )
            self.api.script(f"/{name.lower()}", self.partner.behave)
            self.project.entity(
                name,
                batch_size=plan.batch,
                page_size=plan.page,
                reject_delay="0s",
                reject_after=1000,
                resend=plan.resend,
                **({"body": {"wrap": plan.wrap}} if plan.wrap else {}),
                **({"results": RESULTS} if plan.results else {}),
            )
            for number in self.dice.sample(range(1, plan.records + 1), plan.bad):
                self.partner.bad.add((f"/{name.lower()}", number * 10))
        spec["api"] |= {"in_flight": plan.in_flight, "timeout": f"{TIMEOUT}s", "breaker": {"for": f"{PARK}s"}}
        spec["api"]["retry"] = {"attempts": plan.attempts, "wait": "10ms", "max_wait": "1s"}
        spec["lease"] = {"expires": f"{LEASE}s"}

    def _kinds(self) -> dict[str, Callable[[], None]]:
        return {
            "whole": self._whole,
            "killed": self._killed,
            "failpoint": self._failpoint,
            "failpoint again": self._failpoint,
            "terminated": self._terminated,
            "stopped": self._stopped,
            "stopped at a step": self._stopped_at_a_step,
            "two at once": self._two,
            "nobody listens": self._nobody,
        }

    def _round(self, kind: str) -> None:
        short = not self.plan.long_lease or kind.startswith("stopped")
        self.project.spec["lease"] = {"expires": f"{LEASE}s" if short else "60s"}
        self.project.write()
        meanwhile = [self._change_source]
        if self.dice.random() < 0.4:
            meanwhile.append(self._lock)
        self._cutting = self.database.kind != "sqlite" and self.dice.random() < 0.3
        if self._cutting:
            meanwhile.append(self._cut)
        threads = [threading.Thread(target=work, args=(random.Random(self.dice.random()),)) for work in meanwhile]
        for thread in threads:
            thread.start()
        try:
            self._kinds()[kind]()
        finally:
            for thread in threads:
                thread.join()

    # Rounds

    def _whole(self) -> None:
        more = self.dice.choice(([], [], ["--limit", "25"], ["--entity", self.entities[-1]]))
        self._finish(self._start("run", *more))

    def _killed(self) -> None:
        run = self._start("killed")
        self._until_busy(run)
        self._signal(run, signal.SIGKILL)
        self._finish(run)

    def _failpoint(self) -> None:
        step = self.dice.choice(
            (
                str(self.dice.randint(1, 150)),
                str(self.dice.randint(1, 30)),
                f"{self.dice.choice(('send', 'answer began', 'answered', 'settle', 'tracked'))}:{self.dice.randint(1, 8)}",
            )
        )
        # Each worker that takes over dies there too.
        harmed = bool(self.plan.workers)
        self._finish(self._start(f"failpoint {step}", env={"SYNCLEDGER_FAILPOINT": step}, harmed=harmed))

    def _terminated(self) -> None:
        run = self._start("terminated")
        self._until_busy(run)
        self._signal(run, self.dice.choice((signal.SIGTERM, signal.SIGINT)))
        if self.dice.random() < 0.3:
            self._wait(run, self.dice.uniform(0.0, 0.3))
            self._signal(run, signal.SIGTERM)
        self._finish(run)

    def _stopped(self) -> None:
        first = self._start("stopped", harmed=True)
        self._until_busy(first)
        self._signal(first, signal.SIGSTOP)
        self._overtaken(first)

    def _stopped_at_a_step(self) -> None:
        step = self.dice.choice((self.dice.randint(1, 20), self.dice.randint(1, 120)))
        first = self._start(f"stopped at step {step}", stop_at=str(step), harmed=True)
        wait_until_stopped(first.process)
        self._overtaken(first)

    def _overtaken(self, first: Started) -> None:
        """Another run starts when the lease of one that stands still has expired; then the first goes on."""
        time.sleep(LEASE + self.dice.uniform(0.1, 0.4))
        second = self._start("second", harmed=True)
        self._wait(second, self.dice.choice((0.0, self.dice.uniform(0.2, 1.0), 3.0)))
        self._signal(first, signal.SIGCONT)
        self._finish(first)
        self._finish(second)

    def _two(self) -> None:
        runs = [self._start("one of two"), self._start("other of two")]
        for run in runs:
            self._finish(run)

    def _nobody(self) -> None:
        url, self.project.spec["api"]["base_url"] = self.api.url, "http://127.0.0.1:9"
        self.project.write()
        self._finish(self._start("nobody listens"))
        self.project.spec["api"]["base_url"] = url
        self.project.write()

    # Meanwhile

    def _lock(self, dice: random.Random) -> None:
        time.sleep(dice.uniform(0.0, 0.8))
        seconds = dice.uniform(0.1, 0.9)
        self.tell(f"the ledger is locked for {seconds:.2f} s")
        self.database.lock(seconds)

    def _cut(self, dice: random.Random) -> None:
        time.sleep(dice.uniform(0.0, 0.8))
        self.tell("the ledger's connections are cut")
        self.database.cut()

    def _change_source(self, dice: random.Random) -> None:
        time.sleep(dice.uniform(0.0, 0.8))
        with contextlib.closing(sqlite3.connect(self.folder / "source.db", timeout=20)) as source, source:
            for name in self.entities:
                here = [row[0] for row in source.execute(f"SELECT Id FROM {name} ORDER BY Id")]
                for id_ in dice.sample(here, min(len(here), 3)):
                    source.execute(f"DELETE FROM {name} WHERE Id = ?", (id_,))
                for id_ in dice.sample(here, min(len(here), 6)):
                    self.versions[(name, id_)] += 1
                    content = f"{id_} v{self.versions[(name, id_)]}"
                    source.execute(f"UPDATE {name} SET Name = ? WHERE Id = ?", (content, id_))
                for _ in range(40 // len(self.entities)):
                    # Between the others, never an ID that was there before, and some beyond the end.
                    id_ = dice.choice((dice.randrange(1, here[-1]) // 10 * 10 + dice.randint(1, 9), here[-1] + 10))
                    if self.versions[(name, id_)] == 0:
                        self.versions[(name, id_)] = 1
                        source.execute(f"INSERT OR IGNORE INTO {name} VALUES (?, ?)", (id_, f"{id_} v1"))
        self.tell("the source has changed")

    # Processes

    def _start(
        self,
        label: str,
        *more: str,
        env: dict[str, str] | None = None,
        harmed: bool = False,
        stop_at: str | None = None,
    ) -> Started:
        if self.plan.workers and stop_at is None and "--limit" not in more:
            more = (*more, "--workers", str(self.plan.workers))
        arguments = ["run", self.project.file, "--format", "json", "--quiet", *more]
        if stop_at is None:
            process = self.project.popen(*arguments, env=env)
        else:
            process = stopping(self.project, stop_at, *arguments)
        self.tell(f"started {label} {' '.join(more)} as {process.pid}")
        self._processes.append(process)
        return Started(process, label, harmed or self._cutting)

    def _until_busy(self, run: Started) -> None:
        """Let it come as far as some call, and a little further; or wherever it is after some time."""
        wanted = len(self.partner.calls) + self.dice.randint(1, 8)
        until = time.monotonic() + (3.0 if self.dice.random() < 0.8 else self.dice.uniform(0.3, 1.0))
        while len(self.partner.calls) < wanted and time.monotonic() < until and run.process.poll() is None:
            time.sleep(0.002)
        self._wait(run, self.dice.choice((0.0, self.dice.uniform(0.0, 0.02), self.dice.uniform(0.0, 0.3))))

    def _wait(self, run: Started, seconds: float) -> None:
        """Let it run for so long at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(seconds)

    def _signal(self, run: Started, number: signal.Signals) -> None:
        if run.process.poll() is None:
            self.tell(f"{number.name} to {run.process.pid}")
            run.process.send_signal(number)

    def _finish(self, run: Started) -> dict[str, Any] | None:
        """Wait for its end and look at what it says; gives its document if it has one."""
        try:
            output, errors = run.process.communicate(timeout=HANGS)
        except subprocess.TimeoutExpired:
            run.process.kill()
            output, errors = run.process.communicate()
            self.problem(f"HANGS: {run.label} did not end in {HANGS:g} s")
        code = run.process.returncode
        document = json.loads(output) if output.strip() else None
        words = words_of(document)
        self.tell(f"ended {run.label} {run.process.pid}: exit {code}, {words}")
        self.runs[f"exit {code}"] += 1
        if code not in (*CODES.values(), -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
            self.problem(f"EXIT {code} of {run.label}: {errors[-3000:]}")
        elif code == 4 and not run.harmed and "lease of this run is lost" not in words:
            self.problem(f"EXIT 4 of {run.label} though its ledger was only slow: {words} {errors[-1000:]}")
        if document and "entities" in document:
            self._check(run, code, document)
        elif code in (0, 1, 3):
            self.problem(f"no document of {run.label} with exit {code}: {output!r} {errors[-1000:]}")
        return document

    def _check(self, run: Started, code: int, document: dict[str, Any]) -> None:
        try:
            check_sums(document)
        except AssertionError as failure:
            self.problem(f"SUMS of {run.label} {document['run_id']} (exit {code}): {failure}")
        # A first signal may still meet a process that has said everything; after a cancelled run no signal changes the code.
        late = code == -signal.SIGKILL or (
            code in (-signal.SIGTERM, -signal.SIGINT) and document["status"] != "cancelled"
        )
        if CODES[document["status"]] != code and not late:
            self.problem(f"{run.label} ends with {code} and says {document['status']}")
        if code in (0, 1, 130):
            sql = f"SELECT COUNT(*) FROM SchedulerLog WHERE LogID = '{document['run_id']}' AND Activity LIKE 'Sync Batch:%'"
            ((rows,),) = self.database.rows(sql)
            calls = sum(entity["calls"] for entity in document["entities"])
            # What a worker that died has called is in the log; nobody is left to tell it to the run.
            if rows < calls or (rows > calls and not self.plan.workers):
                self.problem(f"CALLS of {run.label} {document['run_id']}: {rows} rows in the log: {words_of(document)}")

    # The end

    def _heal(self) -> None:
        """All is well again: the next run delivers what is left. One more where the API could only replay an odd answer."""
        while self.partner.busy:
            time.sleep(0.05)
        time.sleep(PARK + 0.2)  # whether the API asked for it or the breaker opened
        self.partner.well, self.partner.replayed_unknown, self._cutting = True, 0, False
        self.project.spec["lease"] = {"expires": "60s"}
        self.project.spec["api"] |= {"timeout": "20s"}
        self.project.write()
        self.tell("all is well again")
        document = self._finish(self._start("healing"))
        if document and document["status"] == "refused":
            self.problem(f"the healing run was refused, though nobody runs: {document['holder']}")
            return
        for _ in range(3):
            if self.plan.asks and self._say_what_became_of_them():
                document = self._finish(self._start("healing after what a person said"))
        if document and document["status"] != "delivered" and self.partner.replayed_unknown:
            self.tell(f"{self.partner.replayed_unknown} replayed answers left records unknown")
            document = self._finish(self._start("healing again"))
        if not document or document["status"] != "delivered":
            self.problem(f"NOT HEALED: {words_of(document)}")
        document = self._finish(self._start("idle"))
        if document and any(entity["calls"] for entity in document["entities"]):
            self.problem(f"NOT IDLE: a run with nothing to do made calls: {words_of(document)}")

    def _say_what_became_of_them(self) -> int:
        """A person looks into the API's books and settles every batch that is held; gives how many."""
        while self.partner.busy:
            time.sleep(0.05)
        if not self.database.has_run():
            return 0
        held = self.database.rows(
            "SELECT BatchId, EntityType, PayloadSha256 FROM TB_R_SYNC_BATCH WHERE State IN ('held', 'in_doubt')"
        )
        for batch, entity, body in held:
            there = self.partner.has(f"/{entity.lower()}", body)
            how = "accepted" if there else self.dice.choice(("drop", "drop", "resend"))
            said = self.project.cli("resolve", self.project.file, batch, how)
            self.tell(f"a person says {how} of {batch} of {entity}: exit {said.returncode}")
            if said.returncode:
                self.problem(f"RESOLVE {how} of {batch} ends with {said.returncode}: {said.stdout}{said.stderr}")
        return len(held)

    def _compare(self) -> None:
        """The books: source, API and ledger."""
        for name in self.entities:
            self._compare_entity(name, f"/{name.lower()}")
        sql = "SELECT BatchId, State, Reason, IdempotencyKey, CASE WHEN Payload IS NULL THEN 0 ELSE 1 END FROM TB_R_SYNC_BATCH"
        journal = self.database.rows(sql)
        for batch, state, reason, _, payload in journal:
            if state not in ("settled", "failed"):
                self.problem(f"OPEN: batch {batch} is {state}: {reason}")
            elif payload:
                self.problem(f"PAYLOAD: batch {batch} is {state} and still has its bytes")
        strange = {call.key for call in self.partner.calls if self.plan.keys} - {row[3] for row in journal}
        if strange:
            self.problem(f"UNEXPLAINED: the API saw keys that the journal does not have: {sorted(strange)}")

    def _compare_entity(self, name: str, path: str) -> None:
        with contextlib.closing(sqlite3.connect(self.folder / "source.db")) as source:
            here = dict(source.execute(f"SELECT Id, Name FROM {name}"))
        tracking = f"SELECT EntityId FROM TB_R_SYNC_TRACKING WHERE EntityType = '{name}'"
        tracked = [int(row[0]) for row in self.database.rows(tracking)]
        stored = {id_ for at, id_ in self.partner.ids if at == path}
        journal = f"SELECT RecordIds FROM TB_R_SYNC_BATCH WHERE State = 'settled' AND EntityType = '{name}'"
        refused = self.database.rows(f"SELECT EntityId FROM TB_R_SYNC_REJECT WHERE EntityType = '{name}'")
        settled = {int(id_) for (ids,) in self.database.rows(journal) for id_ in json.loads(ids)}
        for what, ids in {
            "LOST: in the source, not stored by the API": set(here) - stored,
            "LOST: in the source, not tracked": set(here) - set(tracked),
            "LOST: tracked, never stored": set(tracked) - stored,
            "UNEXPLAINED: stored, not tracked": stored - set(tracked),
            "UNEXPLAINED: tracked, in no settled batch": set(tracked) - settled,
            # With `resend: changed` a record may be refused for what it became after its delivery, and then be deleted.
            "REFUSED though tracked": {int(row[0]) for row in refused} & set(tracked) & set(here),
            "TRACKED TWICE": {id_ for id_, count in Counter(tracked).items() if count > 1},
            "DOUBLED": self._doubled(path),
            "STALE: the API holds an older content": self._stale(path, here),
        }.items():
            if ids:
                known = self.problem(f"{what}: {name} {sorted(ids)}")
                if not known:
                    self._tell_lives(name, path, sorted(ids)[:3])

    def _doubled(self, path: str) -> set[int]:
        if self.plan.resend == "once":
            return {id_ for (at, id_), count in self.partner.ids.items() if at == path and count > 1}
        return {id_ for (at, id_, _), count in self.partner.contents.items() if at == path and count > 1}

    def _stale(self, path: str, here: dict[int, str]) -> set[int]:
        if self.plan.resend == "once":
            return set()
        return {id_ for id_, content in here.items() if self.partner.last.get((path, id_), content) != content}

    def _tell_lives(self, name: str, path: str, ids: list[int]) -> None:
        for id_ in ids:
            said = self.project.cli("why", self.project.file, name, str(id_))
            self.problems.append(f"why {name} {id_}:\n{said.stdout}{said.stderr}")
            calls = [call for call in self.partner.calls if call.path == path and id_ in call.ids]
            self.problems += [f"  the API saw {id_}: {asdict(call)}" for call in calls]

    def report(self) -> str:
        """Everything that is needed to look into a failure."""
        log = self.folder / "soak.log"
        calls = [f"{c.at:7.3f} API {c.path} {c.key} {c.ids} met {c.met}, stored {c.stored}" for c in self.partner.calls]
        log.write_text("\n".join(sorted(self.story + calls, key=lambda line: float(line.split()[0]))))
        again = (
            f"python -m tests.soak.dice --seed {self.plan.seed} --rounds {self.rounds} --ledger {self.database.kind}"
        )
        return "\n".join([f"{again}\n{self.plan}\nfolder {self.folder}, story {log}", *self.problems])


def words_of(document: dict[str, Any] | None) -> str:
    """A run's document in one line."""
    if not document or "entities" not in document:
        return str(document)
    keys = "read excluded waiting due accepted rejected failed in_doubt settled calls error"
    parts = [f"{document['status']} {document['run_id'][:8]} {document['error'] or ''} {document['holder'] or ''}"]
    for entity in document["entities"]:
        parts.append(f"{entity['name']}: " + " ".join(f"{key}={entity[key]}" for key in keys.split() if entity[key]))
    return "; ".join(parts)


def stopping(project: Project, step: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """The command line in the background, which stops itself at a step."""
    return subprocess.Popen(
        [sys.executable, "-c", STOPPER, step, *map(str, arguments)],
        cwd=project.folder, env=project.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip


def wait_until_stopped(process: subprocess.Popen[str], seconds: float = 10.0) -> None:
    """Wait until a process stands still (on Linux), or has ended, or for so long."""
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError):
            if "State:\tT" in Path(f"/proc/{process.pid}/status").read_text():
                return
        time.sleep(0.01)


@contextmanager
def ledger(kind: str) -> Iterator[Callable[[], str | None]]:
    """Makes empty ledgers of a kind; a private server is started where one is needed. Raises `servers.Absent`."""
    if kind == "sqlite":
        yield lambda: None
        return
    with {"postgresql": servers.postgresql, "mysql": servers.mariadb}[kind]() as server:
        yield lambda: server.database(f"s{uuid.uuid4().hex[:12]}")


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.dice", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--ledger", choices=("sqlite", "postgresql", "mysql"), default="sqlite")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on with the next seeds for so long")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a soak that went well, too")
    chosen = parser.parse_args(arguments)
    # A shell's background jobs ignore it, and so would the runs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    until, seed, failed = time.monotonic() + chosen.minutes * 60, chosen.seed, 0
    with ledger(chosen.ledger) as make:
        while True:
            plan = Plan.of(seed)
            print(f"seed {seed}: {plan}", flush=True)
            folder = Path(tempfile.mkdtemp(prefix=f"soak-{seed}-"))
            soak = Soak(plan, folder / "project", chosen.ledger, make())
            problems = soak.soak(chosen.rounds)
            calls, stored = len(soak.partner.calls), sum(soak.partner.ids.values())
            seconds = time.monotonic() - soak.began
            print(
                f"seed {seed}: {calls} calls, {stored} stored, {dict(soak.runs)}, {seconds:.0f} s, known: {soak.known}",
                flush=True,
            )
            report = soak.report()
            if problems:
                failed += 1
                print(f"FAILED\n{report}", flush=True)
            elif not chosen.keep:
                shutil.rmtree(folder, ignore_errors=True)
            seed += 1
            if time.monotonic() >= until:
                print(f"{seed - chosen.seed} seeds, {failed} failed", flush=True)
                return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
