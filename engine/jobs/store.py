"""The store of runs: every durable change of a run of a job goes through here, guarded by expected state and fencing token."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from engine import failpoint
from engine.db.connection import Connection, Rows
from engine.db.sessions import Session
from engine.errors import DatabaseError, LedgerError, RunRefused, StoreError
from engine.jobs.states import Consequence, RunState, StepState, check, check_step, words
from engine.runs import processes, whoami
from engine.store.retries import Patience, Result, Retries
from engine.store.tables import Table, ensure, present

SECONDS = 60.0
"""How long a run is believed to be alive after its last sign of life, where its process cannot be asked."""
_TRIES = 20


def _table(name: str, columns: str, *statements: str) -> Table:
    return Table(name, frozenset(columns.casefold().split()), statements, "store")


RUN = _table("TB_R_JOB_RUN", "RunId Number Job State Token", "jobs/create_run", "jobs/create_run_index")
STEP = _table("TB_R_JOB_STEP", "RunId ItemKey Step Attempt State", "jobs/create_step")
MESSAGE = _table("TB_R_JOB_MESSAGE", "RunId Number MessageKey Parts", "jobs/create_message")
AUDIT = _table("TB_R_JOB_AUDIT", "AuditId RunId Act UserName", "jobs/create_audit")
TABLES = (RUN, STEP, MESSAGE, AUDIT)
NAMES: dict[str, Any] = {
    "run_table": RUN.name, "step_table": STEP.name, "message_table": MESSAGE.name, "audit_table": AUDIT.name, **words(),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as the store has it. Times are naive UTC on the database's clock, as its driver returns them."""

    id: str
    number: int
    job: str
    concurrency: str
    spec: str
    digest: str
    state: RunState
    parameters: str
    choice: str
    note: str | None
    user: str
    host: str
    pid: int
    process: str | None
    token: int
    attempt: int
    total: int | None
    started: Any
    ended: Any
    cancelled_by: str | None
    cancelled_why: str | None
    cancelled: Any
    error: str | None
    expired: bool

    @property
    def process_gone(self) -> bool:
        """True when the process that ran it is known to be gone: never by age alone where it can be asked."""
        if self.host == whoami.host():
            return processes.is_gone(self.pid, self.process)
        return self.expired


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One attempt at a step of an item. `session` is the database session that did the work, where there was one."""

    item: str
    label: str
    position: int
    step: str
    attempt: int
    state: StepState
    consequence: Consequence | None
    session: Session | None
    started: Any
    ended: Any
    rows: int | None
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """Something that happened, as data: a key, and the values that its text has places for."""

    number: int
    item: str | None
    step: str | None
    level: str
    key: str
    parts: dict[str, Any]
    time: Any


@dataclass(slots=True)
class JobStore:
    """The tables of one store on one connection, used by one thread. Every method raises `StoreError`."""

    db: Connection
    patience: Patience | None = None
    retries: Retries | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.retries = Retries(self.patience) if self.patience else None

    def prepare(self) -> None:
        """Create the tables that are absent."""
        with self._guard("cannot be prepared"):
            try:
                ensure(self.db, TABLES, NAMES)
            except LedgerError as failure:
                raise StoreError(str(failure)) from failure

    def in_use(self) -> bool:
        """True when a run has made the tables."""
        with self._guard("cannot be read"):
            return present(self.db, RUN)

    # Runs

    def begin(self, values: dict[str, Any]) -> StoredRun:
        """Write a new run under the next number."""
        values = {**_here(), **values, "run": str(uuid.uuid4()), "seconds": SECONDS}

        def write(_again: bool) -> None:
            # Two that begin at once take the same number, and one of them the next.
            for left in reversed(range(_TRIES)):
                try:
                    number = int(self._statement("number").scalar())
                    self._statement("run_new", **values, number=number)
                    return
                except DatabaseError:
                    if self._find(values["run"]):
                        return
                    if not left:
                        raise

        self._write(write)
        found = self.find(values["run"])
        assert found is not None, "it was just written"  # noqa: S101
        return found

    def find(self, wanted: str) -> StoredRun | None:
        """A run by its id, or by its number with or without `#`."""
        return self._read(lambda: self._find(wanted))

    def _find(self, wanted: str) -> StoredRun | None:
        text = wanted.strip().removeprefix("#")
        number = int(text) if text.isdecimal() and len(text) < 10 else None
        rows = self._statement("run", run=wanted, number=number).rows
        return _run(rows[0]) if rows else None

    def runs(self, limit: int, job: str | None = None) -> list[StoredRun]:
        """The latest runs, the newest first."""
        return self._read(lambda: [_run(row) for row in self._statement("runs", limit=limit, job=job).rows])

    def rival(self, run: StoredRun, *, earlier: bool) -> StoredRun | None:
        """Another run that goes on under the same concurrency key; with `earlier` only one with a lower number."""
        values = {
            "job": run.job,
            "concurrency": run.concurrency,
            "run": run.id,
            "before": run.number if earlier else None,
        }
        found = self._read(lambda: [_run(row) for row in self._statement("run_rivals", **values).rows])
        return next((one for one in found if not one.process_gone), None)

    def resume(self, run: StoredRun) -> StoredRun:
        """Take a run up again; what its earlier process still writes is refused from then on. Raises `RunRefused`."""
        check(run.state, RunState.RUNNING)
        values = {**_here(), "run": run.id, "token": run.token, "state": run.state.value, "seconds": SECONDS}
        if self._write(lambda _again: self._statement("run_resume", **values).rowcount) != 1:
            raise RunRefused(f"run #{run.number} has changed meanwhile; look at it again")
        found = self.find(run.id)
        assert found is not None, "it was just written"  # noqa: S101
        return found

    def cancel(self, run: StoredRun, why: str | None) -> bool:
        """Ask for the end of a run; False where it has changed meanwhile."""
        check(run.state, RunState.CANCELLING)
        values = {"run": run.id, "state": run.state.value, "user": whoami.user(), "why": why}
        return bool(self._write(lambda _again: self._statement("run_cancel", **values).rowcount == 1))

    def move(self, run: StoredRun, before: RunState, after: RunState, error: str | None = None) -> bool:
        """Move a run from one state to another; False where it is not there any more, or another process has taken it up."""
        check(before, after)
        over = after not in (RunState.RUNNING, RunState.CANCELLING)
        values = {"run": run.id, "token": run.token, "expected": before.value, "state": after.value}
        return bool(
            self._write(lambda _again: self._statement("run_move", **values, over=over, error=error).rowcount == 1)
        )

    def total(self, run: StoredRun, items: int) -> None:
        """Keep how many items a run has."""
        self._write(lambda _again: self._statement("run_total", run=run.id, token=run.token, total=items))

    def beat(self, run: StoredRun) -> bool:
        """A sign of life; True when the run is to stop: it was cancelled, or another process has taken it up."""

        def write(_again: bool) -> bool:
            if self._statement("run_beat", run=run.id, token=run.token, seconds=SECONDS).rowcount != 1:
                return True
            rows = self._statement("token", run=run.id, token=run.token).rows
            return not rows or rows[0][1] is not None

        return self._write(write)

    # Steps

    def change(self, run: StoredRun, work: Callable[[StepWriter], None]) -> None:
        """End a step and begin the next in one transaction, behind the fence. Raises `StoreError` where the run was taken up elsewhere."""

        def write(again: bool) -> None:
            with self.db.transaction():
                if self._statement("run_beat", run=run.id, token=run.token, seconds=SECONDS).rowcount != 1:
                    raise StoreError(f"run #{run.number} was taken up by another process; this one stops")
                work(StepWriter(self._statement, run.id, again))
            failpoint.reached("step")

        self._write(write)

    def steps(self, run: StoredRun) -> list[StoredStep]:
        """All attempts at steps of a run, by item."""
        return self._read(lambda: [_step(row) for row in self._statement("steps", run=run.id).rows])

    # Messages and acts

    def say(
        self,
        run: StoredRun,
        key: str,
        *,
        level: str = "info",
        item: str | None = None,
        step: str | None = None,
        **parts: Any,
    ) -> None:
        """Write a message. One that cannot be written twice in the same order is written after the last one there is."""
        values = {
            "item": item,
            "step": step,
            "level": level,
            "key": key,
            "parts": orjson.dumps(parts, default=str).decode(),
        }

        def write(_again: bool) -> None:
            number = int(self._statement("message_count", run=run.id).scalar()) + 1
            self._statement("message_new", run=run.id, number=number, **values)

        self._write(write)

    def messages(self, run: StoredRun) -> list[Message]:
        """The messages of a run, in order."""

        def look() -> list[Message]:
            rows = self._statement("messages", run=run.id).rows
            return [
                Message(number, item, step, level, key, orjson.loads(parts), time)
                for number, item, step, level, key, parts, time in rows
            ]

        return self._read(look)

    def act(self, verb: str, run: str | None, why: str | None) -> None:
        """An audit row: what a person did."""
        values = {
            "id": str(uuid.uuid4()),
            "run": run,
            "act": verb,
            "why": why,
            "user": whoami.user(),
            "host": whoami.host(),
        }
        self._write(lambda again: None if again else self._statement("audit_new", **values))

    def _statement(self, name: str, **values: Any) -> Rows:
        return self.db.run(f"jobs/{name}.sql.j2", **NAMES, **values)

    def _read(self, look: Callable[[], Result]) -> Result:
        return self._write(lambda _again: look(), "cannot be read")

    def _write(self, work: Callable[[bool], Result], what: str = "cannot be written") -> Result:
        with self._guard(what):
            return self.retries.run(self.db, work) if self.retries else work(False)

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        try:
            yield
        except DatabaseError as failure:
            raise StoreError(f"the store {self.db.description} {what}: {failure}") from failure


@dataclass(frozen=True, slots=True)
class StepWriter:
    """Writes steps inside the transaction of `JobStore.change`. `again` says that an earlier try may have been committed."""

    statement: Callable[..., Rows]
    run: str
    again: bool

    def begin(self, item: str, label: str, position: int, step: str, attempt: int, session: Session | None) -> None:
        """A step is about to be done, by this session."""
        values = {
            "item": item, "label": label, "position": position, "step": step, "attempt": attempt,
            "session": session.number if session else None, "session_start": session.start if session else None,
        }  # fmt: skip
        if not (self.again and self._there(item, step, attempt)):
            self.statement("step_new", run=self.run, **values)

    def end(
        self,
        item: str,
        step: str,
        attempt: int,
        state: StepState,
        *,
        rows: int | None = None,
        consequence: Consequence | None = None,
        code: str | None = None,
        message: str | None = None,
    ) -> None:
        """A step has ended. Raises `StoreError` where it was not running."""
        check_step(StepState.RUNNING, state)
        values = {
            "item": item, "step": step, "attempt": attempt, "state": state.value, "expected": StepState.RUNNING.value,
            "rows": rows, "consequence": consequence and consequence.value, "code": code, "message": message,
        }  # fmt: skip
        if self.statement("step_move", run=self.run, **values).rowcount != 1 and not self.again:
            raise StoreError(f"the step {step!r} of item {item!r} is not running any more: somebody else has ended it")

    def _there(self, item: str, step: str, attempt: int) -> bool:
        rows = self.statement("steps", run=self.run).rows
        return any((row[0], row[3], int(row[4])) == (item, step, attempt) for row in rows)


def _here() -> dict[str, Any]:
    return {"user": whoami.user(), "host": whoami.host(), "pid": os.getpid(), "process": processes.identity()}


def _run(row: Any) -> StoredRun:
    (
        id_, number, job, concurrency, spec, digest, state, parameters, choice, note, user, host, pid, process, token, attempt, total,
        started, ended, cancelled_by, cancelled_why, cancelled, error, expired,
    ) = row  # fmt: skip
    return StoredRun(
        id_, int(number), job, concurrency, spec, digest, RunState(state), parameters, choice, note, user, host, int(pid), process,
        int(token), int(attempt), None if total is None else int(total), started, ended, cancelled_by, cancelled_why,
        cancelled, error, bool(expired),
    )  # fmt: skip


def _step(row: Any) -> StoredStep:
    item, label, position, step, attempt, state, consequence, session, start, started, ended, rows, code, message = row
    return StoredStep(
        item, label or "", int(position), step, int(attempt), StepState(state), Consequence(consequence) if consequence else None,
        Session(int(session), start) if session is not None else None, started, ended, None if rows is None else int(rows),
        code, message,
    )  # fmt: skip
