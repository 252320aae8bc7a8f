"""`why`: the life of one record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from engine import app
from engine.cli import common
from engine.cli.say import say, say_json
from engine.http.session import Caller
from engine.observe.words import count
from engine.sync import why as questions
from engine.sync.ledger.carried import Call, Carried
from engine.sync.ledger.states import BatchState, VerdictKind
from engine.sync.ledger.verdicts import Verdict
from engine.sync.why import Answer

EPILOG = """\b
Examples:
  syncledger why pipelines/sync.yaml Users 4f9d1c9e-52a0-4a53-8f0e-2a4f7b1c7a11
  syncledger why pipelines/staff.yaml Assignments '["10001","d005"]' --format json
"""
_SOURCE = {
    "missing": "The source does not have it now.",
    "unreadable": "The source cannot be read: {reason}",
    "dropped": "The source has it; a `select` of the spec leaves it out.",
    "broken": "The source has it, but it breaks its contract: {reason}",
    "sendable": "The source has it, and it fits its contract.",
}
_STATES = {
    BatchState.IN_FLIGHT: "was written down and perhaps sent by a run that goes on, or died",
    BatchState.IN_DOUBT: "may have been processed; no answer tells",
    BatchState.HELD: "may have been processed, and is held for a person",
    BatchState.SETTLED: "was answered",
    BatchState.FAILED: "was surely not processed",
}

_VERDICTS = {
    (VerdictKind.ACCEPTED, "api"): "accepted by the API",
    (VerdictKind.ACCEPTED, "person"): "accepted, as a person said,",
    (VerdictKind.ACCEPTED, None): "delivered; forgotten later",
    (VerdictKind.REJECTED, "api"): "rejected by the API",
    (VerdictKind.REJECTED, "contract"): "rejected by its contract, before it was sent",
    (VerdictKind.UNKNOWN, "api"): "left out of the API's answer",
}
_NO_BATCH = "No batch that carried it is in the journal: `baseline` or an earlier program tracked it, or `prune` removed the batch."


@click.command(epilog=EPILOG)
@common.spec_argument
@click.argument("entity")
@click.argument("id_", metavar="ID")
@common.format_option
def why(spec: Path, entity: str, id_: str, format_: str) -> int:
    """Say what happened to the record ID of ENTITY: source, tracking, batches with their calls, rejections, acts of people.

    Writes nothing. Exit code 1 when neither the source nor the ledger knows the record.
    """
    common.log_setup("text", quiet=True)
    loaded = common.load_spec(spec, format_)
    pipeline = loaded.pipeline
    chosen = common.chosen(pipeline, [entity], format_)[0]
    wanted = common.canonical_ids(chosen, [id_])[0]
    with app.connections(pipeline) as opened:
        history = app.open_history(opened, loaded.secrets)
        answer = questions.ask(chosen, wanted, opened.source, history, Caller(pipeline.api).url(chosen.endpoint))
    if format_ == "json":
        say_json(answer.as_json())
    else:
        for line in _sentences(answer):
            say(line)
    return 0 if answer.known else 1


def _sentences(answer: Answer) -> Iterator[str]:
    life = answer.life
    yield f"{answer.entity} {answer.id}"
    yield ""
    yield answer.verdict
    yield ""
    yield _SOURCE[answer.source.state].format(reason=answer.source.reason)
    yield f"Tracked as delivered on {_time(life.tracked)} UTC." if life.tracked else "Not tracked as delivered."
    if life.reject:
        r = life.reject
        times = {0: "for now", 1: "once"}.get(r.attempts, f"{r.attempts} times")
        yield f"Rejected {times}, last on {_time(r.last_seen)} UTC ({r.state}): {r.reason}"
    if answer.park:
        yield f"Its endpoint {answer.park.endpoint} is parked until {_time(answer.park.until)} UTC: {answer.park.reason}"
    for act in life.acts:
        yield f"{act.what}, by {act.who} on {_time(act.when)} UTC."
    if life.verdicts:
        yield ""
        yield "What was said of it:"
    for verdict in life.verdicts:
        yield f"  {_said(verdict)}"
    if not life.batches:
        yield _NO_BATCH if life.tracked or life.verdicts else "No batch has carried it."
    for batch in life.batches:
        yield ""
        yield from _batch(batch)
    if life.unsearched:
        yield ""
        yield f"Batches that were settled before {_time(life.unsearched)} UTC were not searched: others may have carried it too."


def _said(verdict: Verdict) -> str:
    what = _VERDICTS[verdict.verdict, verdict.by]
    status = f" (HTTP {verdict.status})" if verdict.status and verdict.verdict is VerdictKind.REJECTED else ""
    where = f" in batch {verdict.batch}" if verdict.batch else ""
    reason = f": {verdict.reason}" if verdict.reason and verdict.by != "person" else ""
    return f"{_time(verdict.time)} UTC {what}{status}{where}{reason}"


def _batch(batch: Carried) -> Iterator[str]:
    yield f"Batch {batch.id} with {count(batch.records, 'record')}, run {batch.run}, {_time(batch.created)} UTC"
    yield f"  key {batch.key}; it {_STATES.get(batch.state, batch.state)}" + (
        f": {batch.reason}" if batch.reason else ""
    )
    for call in batch.calls:
        yield f"  {_call(call)}"
    if not batch.calls:
        yield "  no call of it is logged"


def _call(call: Call) -> str:
    again = ", sent again" if call.resent else ""
    what = call.error or f"HTTP {call.status}"
    return f"{_time(call.time)} attempt {call.attempt}{again}, {call.milliseconds:,} ms: {what}"


def _time(moment: object) -> str:
    return str(moment)[:19]
