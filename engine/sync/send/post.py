"""Delivers one batch: attempts until the API has decided, waits between them, and the outcome of it all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from engine import failpoint
from engine.context import RunContext
from engine.http import page
from engine.http.session import Answer, Caller, NoAnswer
from engine.http.settings import Api
from engine.sync.model import Attempt, Batch, Entity, Outcome, Pause
from engine.sync.send import verdict
from engine.sync.send.conclusion import Reply, conclude, doubtful, unsent
from engine.sync.send.pace import Pace

if TYPE_CHECKING:
    from tenacity import RetryCallState

Report = Callable[[Attempt | Pause], None]

_CLOSING = frozenset({401, 403, 404, 405, 407})
"""Every other batch of the endpoint would meet the same answer."""
_CONFLICT = 409
MAX_PARK = 24 * 3600.0
"""Seconds for which an endpoint is parked at most, whatever Retry-After asks for: a wrong date must not stop a pipeline for years."""
_LOOKED_AT = 65536
"""Bytes of a refusal that are searched for secrets."""
_TAIL = 16384
"""Characters at the end of those that are not shown: they may be the beginning of a secret, in whatever encoding."""


@dataclass(frozen=True, slots=True)
class Post:
    """How batches of one entity are sent."""

    entity: Entity
    api: Api
    caller: Caller
    run: RunContext
    closed: threading.Event
    mask: Callable[[str], str] = field(default=lambda text: text)
    may_send: Callable[[], bool] = field(default=lambda: True)
    pace: Pace = field(default_factory=Pace)

    def deliver(self, batch: Batch, report: Report) -> Outcome:
        """Send a batch with one key and the same bytes in every attempt. `report` is called with each attempt that is not the last, and each wait.

        Never raises for what the network or the API does: that is the outcome, which has the last attempt.
        """
        self.pace.wait()
        if self.pace.limited and self.run.cancelled.is_set():
            return unsent(batch, "not sent: the run was cancelled")
        if not self.may_send():
            return unsent(batch, "not sent: the lease of this run is lost")
        if self.closed.is_set():
            return unsent(batch, "not sent: the endpoint is closed for this run")
        replies = [self._attempt(batch, [])]
        if replies[0].again:
            self._try_again(batch, replies, report)
        outcome = replace(conclude(batch, replies, keyed=self._keyed), last=replies[-1].made)
        if outcome.closes_endpoint:
            self.closed.set()
        return outcome

    def _try_again(self, batch: Batch, replies: list[Reply], report: Report) -> None:
        """More attempts after the first one, with waits between them, until the API has decided or they are used up."""
        # Most runs need no second attempt, and tenacity, which loads asyncio, is a tenth of the start of a process.
        from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_exponential, wait_random  # noqa: PLC0415

        retry = self.api.retry
        growing = wait_exponential(multiplier=retry.wait, max=retry.max_wait) + wait_random(0, retry.wait)

        def wait(state: RetryCallState) -> float:
            asked = replies[-1].wait
            return min(growing(state), retry.max_wait) if asked is None else asked

        def attempt(number: int) -> Reply:
            if number == 1:
                return replies[0]
            self.pace.wait()
            if self.run.cancelled.is_set() or self.closed.is_set() or not self.may_send():
                return replace(replies[-1], again=False)
            replies.append(self._attempt(batch, replies))
            return replies[-1]

        def waits(state: RetryCallState) -> None:
            # What failed is in the log table before the wait, which may be long.
            if replies[-1].made:
                report(replies[-1].made)
                replies[-1] = replace(replies[-1], made=None)
            seconds = state.next_action.sleep if state.next_action else 0.0
            report(Pause(batch, len(replies), retry.attempts, seconds, replies[-1].reason or ""))

        for trying in Retrying(
            stop=stop_after_attempt(retry.attempts),
            wait=wait,
            retry=retry_if_result(lambda reply: reply.again),
            sleep=self.run.sleep,
            before_sleep=waits,
            retry_error_callback=lambda _: None,
        ):
            state = trying.retry_state
            state.set_result(attempt(state.attempt_number))

    @property
    def _keyed(self) -> bool:
        return self.api.idempotency_header is not None

    @property
    def _repeatable(self) -> bool:
        """True when an attempt in doubt may be made again within the run."""
        return self._keyed and self.api.in_doubt == "resend"

    def _attempt(self, batch: Batch, before: list[Reply]) -> Reply:
        started = self.run.now()
        url = self.caller.url(self.entity.endpoint)
        failpoint.reached("send")
        answer = self.caller.call(self.entity.method, url, batch.payload, batch.key)
        failpoint.reached("answered")
        number = len(before) + 1
        if isinstance(answer, NoAnswer):
            reply = self._unanswered(answer, url)
        elif 200 <= answer.status < 300:
            reply = self._good(answer, batch)
        else:
            reply = self._not_accepted(answer, number, doubtful(batch, before))
        counts = reply.found.counts if reply.found else None
        made = Attempt(batch, number, url, answer.status, answer.seconds, reply.reason, started, counts)
        return replace(reply, status=answer.status, made=made)

    def _good(self, answer: Answer, batch: Batch) -> Reply:
        """A 2xx and its verdicts. Where the spec expects JSON and something else came, nothing is known of the records."""
        title = page.title(answer.body)
        what = page.shown(self.mask(title)) if title is not None else None
        problem = verdict.not_json(answer.status, answer.body) if self.api.expect == "json" else None
        if problem:
            reason = f"HTTP {answer.status} with {what or problem} where JSON was expected (api.expect)"
            return Reply("in_doubt", reason, self._repeatable, closes=True)
        found = verdict.read(self.entity.results, batch.ids, answer.status, answer.body)
        if what:
            remark = (
                f"HTTP {answer.status} with {what} where JSON was expected; `api.expect: json` makes that a failure"
            )
            found = replace(found, remark="; ".join(filter(None, (remark, found.remark))))
        return Reply("answered", None, again=False, found=found)

    def _unanswered(self, answer: NoAnswer, url: str) -> Reply:
        kind: Literal["in_doubt", "failed"] = "in_doubt" if answer.sent else "failed"
        reason = f"{answer.reason} ({self.entity.method} {url})"
        return Reply(kind, reason, self._repeatable or not answer.sent, unreachable=answer.refused)

    def _not_accepted(self, answer: Answer, number: int, doubtful: bool) -> Reply:
        """What an answer that accepts nothing means for the batch and for the next attempt."""
        status, retry = answer.status, self.api.retry
        reason = _describe(answer, self.mask)
        if status == 401 and number == 1 and self.caller.renew():
            return Reply("failed", reason, again=True, wait=0.0)
        if status in self.entity.isolate and not (status == _CONFLICT and doubtful and self._keyed):
            return Reply("decided", reason, again=False, refused=True)
        if status in _CLOSING:
            hint = " (check api.auth)" if status in (401, 403, 407) else " (check api.base_url and the endpoint)"
            return Reply("decided", reason + hint, again=False, closes=True)
        if status == _CONFLICT and self._keyed:
            return self._conflict(answer, reason, doubtful)
        if status in retry.statuses:
            return self._passing(answer, reason)
        if status in self.api.in_doubt_statuses:
            return Reply("in_doubt", reason, again=False)
        return Reply("decided" if 400 <= status < 500 else "failed", reason, again=False)

    def _conflict(self, answer: Answer, reason: str, doubtful: bool) -> Reply:
        """409 to a key: an earlier attempt with it is still being processed (draft-ietf-httpapi-idempotency-key-header, 2.6)."""
        kind: Literal["in_doubt", "failed"] = "in_doubt" if doubtful else "failed"
        wait = retry_after(answer, self.run)
        too_long = wait is not None and wait > self.api.retry.max_wait
        # Where conflicts are refusals of records, one that does not pass is taken for one.
        return Reply(kind, reason, again=not too_long, wait=wait, refused=_CONFLICT in self.entity.isolate)

    def _passing(self, answer: Answer, reason: str) -> Reply:
        """A status that may be another one the next time."""
        status, max_wait = answer.status, self.api.retry.max_wait
        kind: Literal["in_doubt", "failed"] = "in_doubt" if status in self.api.in_doubt_statuses else "failed"
        wait = retry_after(answer, self.run)
        if wait is not None and wait > max_wait:
            asked = f"{reason}; it asks to wait {min(wait, 1e12):.0f} s, longer than max_wait"
            if wait > MAX_PARK:
                asked += f"; it is left alone for {MAX_PARK / 3600:.0f} h, the longest there is"
            return Reply(kind, asked, again=False, closes=True, park=min(wait, MAX_PARK))
        return Reply(kind, reason, again=kind == "failed" or self._repeatable, wait=wait)


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


def _describe(answer: Answer, mask: Callable[[str], str]) -> str:
    """The status and the beginning of the answer; masked before it is cut, or half a secret would be left."""
    try:
        phrase = f" {HTTPStatus(answer.status).phrase}"
    except ValueError:
        phrase = ""
    where = (
        f" to {answer.headers.get('Location')}" if 300 <= answer.status < 400 and answer.headers.get("Location") else ""
    )
    text = mask(answer.body[:_LOOKED_AT].decode("utf-8", "replace"))
    if len(answer.body) > _LOOKED_AT:
        text = text[:-_TAIL]
    text = " ".join(text.split())
    return f"HTTP {answer.status}{phrase}{where}{': ' + text[:300] if text else ''}"
