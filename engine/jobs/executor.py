"""Runs the steps of a job for each of its items, one after the other; what is done is in the store before the next step begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engine import failpoint
from engine.context import RunContext
from engine.db.connection import Connection
from engine.db.sessions import Session
from engine.errors import ConnectionFailed, DatabaseError
from engine.jobs import kinds
from engine.jobs.items import Item
from engine.jobs.kinds import Cancelled, Output, Work
from engine.jobs.model import Job, Rule, Step
from engine.jobs.states import Consequence, StepState
from engine.jobs.stop import stoppable
from engine.jobs.store import JobStore, StepWriter, StoredRun, StoredStep
from engine.spec import expressions

Connect = Callable[[str | None], Connection]
"""Opens the connection of an alias; None is the only one there is."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step has failed: the code of the database, where it has one, and its words."""

    code: str | None
    message: str


@dataclass(slots=True)
class Executor:
    """One run's way through items and steps. All methods belong to one thread."""

    job: Job
    store: JobStore
    stored: StoredRun
    run: RunContext
    connect: Connect
    another: Connect
    """Opens one more connection of an alias, whose session ends another one; who asks for it closes it."""
    mask: Callable[[str], str]
    steps: Sequence[Step]
    known: Mapping[str, Any]
    """What every expression and statement sees: `params`, `run`."""
    before: Mapping[tuple[str, str], StoredStep] = field(default_factory=dict)
    """The latest attempt at each step of each item, in a run that is resumed."""
    skip: bool = False
    """True where a person has said that the step in doubt is done."""
    stopped: bool = field(default=False, init=False)
    late: bool = field(default=False, init=False)
    """True when the run's own time limit has passed."""
    _ending: Callable[[StepWriter], None] | None = field(default=None, init=False)
    _sessions: dict[int, Session | None] = field(default_factory=dict, init=False)

    def execute(self, items: Sequence[Item]) -> None:
        """Every step of every item, until all is done, a rule stops the run, or it is cancelled. Raises `StoreError`."""
        noun = self.job.for_each.noun if self.job.for_each else ""
        try:
            for index, item in enumerate(items):
                if self.stopped or self.run.cancelled.is_set() or self._too_late():
                    break
                self.run.tell("item_started", noun=noun, label=item.label, number=index + 1, of=len(items))
                if item.locked:
                    self._leave_out(item, index)
                else:
                    self._item(item, index, len(items))
        finally:
            self._flush()

    def _item(self, item: Item, index: int, count: int) -> None:
        outputs: dict[str, Mapping[str, Any]] = {}
        context = {**self.known, "item": item.values, "index": index, "count": count, "steps": outputs}
        for step in self.steps:
            if self.run.cancelled.is_set() or self._too_late():
                return
            if self._is_done(item, step):
                outputs[step.name] = self._kept(item, step)
                continue
            consequence = self._step(item, index, step, context, outputs)
            if consequence is Consequence.STOP:
                self.stopped = True
            if consequence not in (None, Consequence.CONTINUE):
                return

    def _too_late(self) -> bool:
        """True, and the run stops, when its own time limit has passed."""
        if self.run.left() == 0:
            self.stopped = self.late = True
        return self.late

    def _limit(self, step: Step) -> float | None:
        """Seconds that a step may take: its own limit, and what is left of the run's."""
        limits = [limit for limit in (step.timeout, self.run.left()) if limit is not None]
        return max(0.001, min(limits)) if limits else None

    def _leave_out(self, item: Item, index: int) -> None:
        """An item that somebody has locked is skipped: its first step says why."""
        step, last = self.steps[0], self.before.get((item.key, self.steps[0].name))
        attempt = last.attempt + 1 if last else 1
        self._change(lambda writer: writer.begin(item.key, item.label, index, step.name, attempt, None))
        self._ending = lambda writer: writer.end(
            item.key,
            step.name,
            attempt,
            StepState.FAILED,
            consequence=Consequence.SKIP_ITEM,
            code="locked",
            message=item.locked,
        )
        self._flush()
        self.store.say(self.stored, "item.locked", level="warning", item=item.key, reason=item.locked)
        self.run.tell("item_locked", reason=item.locked)

    def _is_done(self, item: Item, step: Step) -> bool:
        last = self.before.get((item.key, step.name))
        if last is None:
            return False
        if last.state is StepState.RUNNING:
            self._end_cut_off(last)
            return self.skip and not step.repeatable
        # A query changes nothing: what later steps see of it is read again.
        return last.state is StepState.SKIPPED or (
            last.state is StepState.DONE and (step.kind != "query" or self._all_done(item))
        )

    def _all_done(self, item: Item) -> bool:
        over = (StepState.DONE, StepState.SKIPPED)
        return all((last := self.before.get((item.key, step.name))) and last.state in over for step in self.steps)

    def _kept(self, item: Item, step: Step) -> Mapping[str, Any]:
        """What later steps see of one that an earlier attempt at the run has done: of its outputs the store has the number of rows."""
        return MappingProxyType({"rowcount": self.before[item.key, step.name].rows})

    def _end_cut_off(self, last: StoredStep) -> None:
        """The attempt that a crash has cut off: a person has said what it counts for, or it may be repeated."""
        state = StepState.SKIPPED if self.skip else StepState.FAILED
        note = "a person said that it is done" if self.skip else "cut off with its process"
        self._change(lambda writer: writer.end(last.item, last.step, last.attempt, state, message=note))

    def _step(
        self, item: Item, index: int, step: Step, context: Mapping[str, Any], outputs: dict[str, Mapping[str, Any]]
    ) -> Consequence | None:
        """One step; the consequence where it has failed."""
        last = self.before.get((item.key, step.name))
        attempt = last.attempt + 1 if last else 1
        failure, wanted, connection = None, True, None
        try:
            wanted = step.when is None or expressions.compile_condition(step.when)(context)
            connection = self.connect(step.connection) if wanted else None
            session = self._session(connection) if connection else None
        except (expressions.ExpressionError, ConnectionFailed, DatabaseError) as failed:
            failure, session = Failure(getattr(failed, "sqlstate", None), self.mask(str(failed))), None
        tried = 1
        while True:
            self._begin(item, index, step, attempt, session)
            if failure is None and not wanted:
                outputs[step.name] = MappingProxyType({"skipped": True})
                self._end(item, step, attempt, StepState.SKIPPED)
                return None
            if failure is None and connection is not None:
                done = self._do(step, connection, session, context)
                if isinstance(done, Output):
                    outputs[step.name] = done.values
                    self._end(item, step, attempt, StepState.DONE, rows=done.rows)
                    return None
                failure = done
            if failure is None or not self._again(step, failure, tried):
                return self._failed(item, step, attempt, failure)
            self._end(
                item, step, attempt, StepState.FAILED, code=failure.code and failure.code[:100], message=failure.message
            )
            self._flush()
            self._wait(item, step, failure)
            failure, tried, attempt = None, tried + 1, attempt + 1
            session = self._session(connection) if connection else None

    def _begin(self, item: Item, index: int, step: Step, attempt: int, session: Session | None) -> None:
        self._change(lambda writer: writer.begin(item.key, item.label, index, step.name, attempt, session))
        failpoint.reached("step begun")
        self.run.tell("step_started", step=step.title)

    def _end(self, item: Item, step: Step, attempt: int, state: StepState, **what: Any) -> None:
        """A step has ended; the store has it together with the beginning of the next."""
        self._ending = lambda writer: writer.end(item.key, step.name, attempt, state, **what)

    def _again(self, step: Step, failure: Failure, tried: int) -> bool:
        """True when a failed step is to be tried once more."""
        retry = step.retry
        if retry is None or tried >= retry.attempts or self.run.cancelled.is_set() or self._too_late():
            return False
        return retry.when is None or retry.when in (failure.code or "") or retry.when in failure.message

    def _wait(self, item: Item, step: Step, failure: Failure) -> None:
        """Before a step is tried again; a cancel or the run's time limit ends the wait, and the attempt after it finds that."""
        wait = step.retry.wait if step.retry else 0.0
        named = self._named(item, step)
        self.store.say(
            self.stored,
            "step.retried",
            level="warning",
            item=item.key,
            step=step.name,
            **named,
            reason=failure.message,
            seconds=f"{wait:g}",
        )
        self.run.tell("step_retried", step=step.title, reason=failure.message, seconds=wait)
        self.run.sleep(wait)

    def _do(
        self, step: Step, connection: Connection, session: Session | None, context: Mapping[str, Any]
    ) -> Output | Failure | None:
        """The work of a step; None where it was cancelled."""
        watched = stoppable(
            self.run,
            connection,
            session,
            lambda: self.another(step.connection),
            grace=self.job.cancel_grace,
            timeout=self._limit(step),
        )
        late = None
        try:
            with watched as late:
                done = kinds.KINDS[step.kind](Work(connection, step, context, self.run))
            failpoint.reached("step done")
            return done
        except Cancelled:
            return None
        except DatabaseError as failed:
            if failed.lost:
                self._sessions.pop(id(connection), None)
                connection.reconnect()
            if self.run.cancelled.is_set():
                return None
            if late is not None and late.is_set():
                return Failure("timeout", self._late_words(step))
            return Failure(failed.sqlstate, self.mask(str(failed)))

    def _late_words(self, step: Step) -> str:
        if self._too_late():
            return f"the run took longer than its timeout of {self.job.timeout:g} s and was stopped"
        return f"the step took longer than its timeout of {step.timeout:g} s and was stopped"

    def _failed(self, item: Item, step: Step, attempt: int, failure: Failure | None) -> Consequence:
        if failure is None:
            self._end(item, step, attempt, StepState.CANCELLED, message="cancelled")
            return Consequence.STOP
        # No rule goes on with a run that has no time left.
        then = Consequence.STOP if self.late else consequence(self.job.rules, failure)
        code = failure.code and failure.code[:100]
        self._end(item, step, attempt, StepState.FAILED, consequence=then, code=code, message=failure.message)
        self._flush()
        self.store.say(
            self.stored,
            "step.failed",
            level="error",
            item=item.key,
            step=step.name,
            **self._named(item, step),
            reason=failure.message,
        )
        if then is Consequence.SKIP_ITEM:
            self.store.say(self.stored, "item.skipped", level="warning", item=item.key, **self._named(item, step))
        self.run.tell("step_failed", step=step.title, reason=failure.message, then=then)
        return then

    def _named(self, item: Item, step: Step) -> dict[str, str]:
        """An item and a step as messages name them."""
        noun = self.job.for_each.noun if self.job.for_each else ""
        return {"label": f"{noun} {item.label}" if noun else "", "name": step.title}

    def _change(self, begin: Callable[[StepWriter], None]) -> None:
        """The end of the step before and the beginning of the next are one transaction."""
        ending = self._ending

        def work(writer: StepWriter) -> None:
            if ending:
                ending(writer)
            begin(writer)

        self.store.change(self.stored, work)
        self._ending = None

    def _flush(self) -> None:
        if self._ending:
            self._change(lambda _writer: None)

    def _session(self, connection: Connection) -> Session | None:
        """The session of a connection, asked once."""
        if id(connection) not in self._sessions:
            self._sessions[id(connection)] = connection.session()
        return self._sessions[id(connection)]


def consequence(rules: Sequence[Rule], failure: Failure) -> Consequence:
    """What follows from a failure: the first rule whose text stands in its code or message; `stop` without one."""
    for rule in rules:
        if rule.match is None or rule.match in (failure.code or "") or rule.match in failure.message:
            return rule.then
    return Consequence.STOP
