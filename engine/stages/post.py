"""Delivers one batch: attempts until the API has decided, waits between them, and the outcome of it all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_exponential_jitter

from engine import failpoint
from engine.context import RunContext
from engine.endpoint import verdict
from engine.endpoint.session import Answer, Caller, NoAnswer
from engine.model import Api, Attempt, Batch, Entity, Outcome

Report = Callable[[Attempt], None]

_CLOSING = frozenset({401, 403, 404, 405, 407})
"""Every other batch of the endpoint would meet the same answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One attempt's meaning. `again` asks for another one, after `wait` seconds if the API named them."""

    kind: Literal["answered", "failed", "decided", "in_doubt"]
    reason: str | None
    again: bool
    wait: float | None = None
    closes: bool = False
    answer: Answer | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How batches of one entity are delivered."""

    entity: Entity
    api: Api
    caller: Caller
    run: RunContext
    closed: threading.Event
    mask: Callable[[str], str] = field(default=lambda text: text)
    may_send: Callable[[], bool] = field(default=lambda: True)

    def deliver(self, batch: Batch, report: Report) -> Outcome:
        """Send a batch with one key and the same bytes in every attempt; `report` hears of each attempt.

        Never raises for what the network or the API does: that is the outcome.
        """
        replies: list[Reply] = []

        def attempt() -> Reply:
            if replies and (self.run.cancelled.is_set() or self.closed.is_set() or not self.may_send()):
                return _last(replies)
            replies.append(self._attempt(batch, len(replies) + 1, report))
            return replies[-1]

        if not self.may_send():
            return unsent(batch, "not sent: the lease of this run is lost")
        if self.closed.is_set():
            return unsent(batch, "not sent: the endpoint is closed for this run")
        retrying = Retrying(
            stop=stop_after_attempt(self.api.retry.attempts),
            wait=self._wait,
            retry=retry_if_result(lambda reply: reply.again),
            sleep=self.run.sleep,
            retry_error_callback=lambda _: replies[-1],
        )
        retrying(attempt)
        outcome = conclude(batch, replies, self.entity, keyed=self.api.idempotency_header is not None)
        if outcome.closes_endpoint:
            self.closed.set()
        return outcome

    def _attempt(self, batch: Batch, number: int, report: Report) -> Reply:
        started = self.run.now()
        url = self.caller.url(self.entity.endpoint)
        failpoint.reached("send")
        answer = self.caller.call(self.entity.method, url, batch.payload, batch.key)
        failpoint.reached("answered")
        reply = replace(self._sort(answer, number, url), status=answer.status)
        report(Attempt(batch, number, url, answer.status, answer.seconds, reply.reason, started))
        return reply

    def _sort(self, answer: Answer | NoAnswer, number: int, url: str) -> Reply:
        """What an answer, or its absence, means for the batch and for the next attempt."""
        repeatable = self.api.idempotency_header is not None and self.api.in_doubt == "resend"
        if isinstance(answer, NoAnswer):
            return Reply(
                "in_doubt" if answer.sent else "failed",
                f"{answer.reason} ({self.entity.method} {url})",
                repeatable or not answer.sent,
            )
        status, retry = answer.status, self.api.retry
        if 200 <= status < 300:
            return Reply("answered", None, again=False, answer=answer)
        reason = _describe(answer, self.mask)
        if status == 401 and number == 1 and self.caller.renew():
            return Reply("failed", reason, again=True, wait=0.0)
        if status in _CLOSING:
            hint = " (check api.auth)" if status in (401, 403, 407) else " (check api.base_url and the endpoint)"
            return Reply("decided", reason + hint, again=False, closes=True)
        if status in retry.statuses:
            kind: Literal["in_doubt", "failed"] = "in_doubt" if status in self.api.in_doubt_statuses else "failed"
            wait = retry_after(answer, self.run)
            if wait is not None and wait > retry.max_wait:
                return Reply(
                    kind, f"{reason}; it asks to wait {wait:.0f} s, longer than max_wait", again=False, closes=True
                )
            return Reply(kind, reason, again=kind == "failed" or repeatable, wait=wait)
        if status in self.api.in_doubt_statuses:
            return Reply("in_doubt", reason, again=False)
        return Reply("decided" if 400 <= status < 500 else "failed", reason, again=False)

    def _wait(self, state: RetryCallState) -> float:
        reply: Reply = state.outcome.result()  # type: ignore[union-attr]  # there is one between two attempts
        if reply.wait is not None:
            return reply.wait
        retry = self.api.retry
        return wait_exponential_jitter(initial=retry.wait, max=retry.max_wait, jitter=retry.wait)(state)


def conclude(batch: Batch, replies: list[Reply], entity: Entity, *, keyed: bool) -> Outcome:
    """The outcome of a batch from all of its attempts.

    An accepted answer decides. A refusal decides too, where the key tells the API that it is the same batch; otherwise
    one attempt in doubt leaves the batch in doubt.
    """
    last = replies[-1]
    attempts, status = len(replies), last.status
    if last.answer is not None:
        found = verdict.read(entity.results, batch.ids, last.answer.status, last.answer.body)
        return Outcome(
            batch,
            found.accepted,
            found.rejected,
            in_doubt=found.unknown,
            reason=found.remark,
            answered=True,
            attempts=attempts,
            status=status,
        )
    doubtful = batch.resent or any(reply.kind == "in_doubt" for reply in replies)
    # Being turned away at the door says nothing of what an earlier attempt did inside.
    decided = last.kind == "decided" and keyed and not last.closes
    if doubtful and not decided:
        return Outcome(
            batch, in_doubt=batch.ids, reason=last.reason, closes_endpoint=last.closes, attempts=attempts, status=status
        )
    return Outcome(
        batch, failed=batch.ids, reason=last.reason, closes_endpoint=last.closes, attempts=attempts, status=status
    )


def unsent(batch: Batch, reason: str) -> Outcome:
    """The outcome of a batch of which nothing was sent now: one of an earlier run stays as much in doubt as it was."""
    if batch.resent:
        return Outcome(batch, in_doubt=batch.ids, reason=reason)
    return Outcome(batch, failed=batch.ids, reason=reason)


def retry_after(answer: Answer, run: RunContext) -> float | None:
    """Seconds that Retry-After asks for, in either form of RFC 9110 section 10.2.3; None where it is absent or unreadable."""
    text = (answer.headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - run.now()).total_seconds())


def _last(replies: list[Reply]) -> Reply:
    """The last reply again, without asking for more."""
    reply = replies[-1]
    return replace(reply, again=False)


def _describe(answer: Answer, mask: Callable[[str], str]) -> str:
    """The status and the beginning of the answer; masked before it is cut, or half a secret would be left."""
    try:
        phrase = f" {HTTPStatus(answer.status).phrase}"
    except ValueError:
        phrase = ""
    where = (
        f" to {answer.headers.get('Location')}" if 300 <= answer.status < 400 and answer.headers.get("Location") else ""
    )
    text = " ".join(mask(answer.body[:65536].decode("utf-8", "replace")).split())
    return f"HTTP {answer.status}{phrase}{where}{': ' + text[:300] if text else ''}"
