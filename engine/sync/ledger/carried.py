"""The batches that carried one record, each with its calls: found by what the ledger knows of the record, never by reading
all of the journal or of the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson

from engine.store.base import moment
from engine.sync.ledger import journal, tracking, verdicts
from engine.sync.ledger.states import BatchState
from engine.sync.ledger.store import Store
from engine.sync.ledger.verdicts import Verdict

_SLACK = timedelta(seconds=1)
"""Columns of the replaced job's tables may hold whole seconds only."""
_SETTLING = timedelta(minutes=2)
"""A batch is settled in the transaction that tracks its records, somewhat later."""
_MOMENTS = 5
"""Of so many of the latest verdicts the failed batches before them are looked for."""
_DAY = timedelta(days=1)
_LAST = 5
"""Of so many of the latest batches it is asked what they delivered."""
_ROWS = 500
_RECORDS = 100_000
"""A search reads no more than the lists of so many batches, or of so many records."""


@dataclass(frozen=True, slots=True)
class Call:
    """One API call of a batch. `milliseconds` is its duration; `status` None where no answer came."""

    time: Any
    run: str
    attempt: int
    status: int | None
    milliseconds: int
    error: str | None
    resent: bool

    def as_json(self) -> dict[str, Any]:
        """One item of a batch's `calls`."""
        return {
            "time": str(self.time), "run_id": self.run, "attempt": self.attempt, "http_status": self.status,
            "milliseconds": self.milliseconds, "error": self.error, "resent": self.resent,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Carried:
    """A batch that carried the record."""

    id: str
    run: str
    key: str
    state: BatchState
    records: int
    status: int | None
    reason: str | None
    created: Any
    settled: Any
    calls: list[Call]

    def as_json(self) -> dict[str, Any]:
        """One item of `batches`."""
        return {
            "batch_id": self.id, "run_id": self.run, "idempotency_key": self.key, "state": self.state,
            "records": self.records, "http_status": self.status, "reason": self.reason, "created": str(self.created),
            "settled": str(self.settled) if self.settled else None, "calls": [call.as_json() for call in self.calls],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """The batches, the oldest first; `unsearched` is the time before which others may have carried the record too."""

    batches: list[Carried]
    unsearched: Any = None


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the journal; `ids` are its records as JSON, None where they are not read."""

    id: str
    run: str
    key: str
    state: BatchState
    records: int
    status: int | None
    reason: str | None
    created: Any
    settled: Any
    ids: str | None = None


def batches(
    store: Store, entity: str, record: str, *, times: Sequence[Any], said: Sequence[Verdict], known: Sequence[str] = ()
) -> Found:
    """The batches that carried the record.

    `times` are when it was delivered, `said` the verdicts on it, `known` other batches that surely carried it.
    """
    search = _Search(store, entity, record)
    sure = {*known, *(verdict.batch for verdict in said if verdict.batch)}
    sure.update(left.id for left in _open(store, entity) if record in left.ids)
    others = {batch for time in times for batch in search.delivering(time)}
    failed, unsearched = search.failed()
    others.update(failed)
    for time in [*[verdict.time for verdict in said][-_MOMENTS:], *times[-1:]]:
        others.update(search.failed(time)[0])
    before, older = search.before_verdicts()
    others.update(before)
    rows = [*search.rows(sure), *search.rows(others - sure, only_carrying=True)]
    made = [_carried(store, entity, row) for row in sorted(rows, key=lambda row: str(row.created))]
    return Found(made, max(filter(None, (unsearched, older)), default=None, key=str))


def last_delivery(store: Store, entity: str) -> Any:
    """When the last record of an entity was tracked by one of its latest batches; None where these tracked none."""
    values = {
        "pipeline": store.pipeline,
        "entity": entity,
        "state": BatchState.SETTLED.value,
        "since": None,
        "upto": None,
    }
    for batch, *_ in store.statement("journal_part", **values, newest=True, limit=_LAST).rows:
        (row,) = _rows(store, [batch], "%")
        time = store.statement("tracked_times", entity=entity, ids=row.ids).scalar()
        if time is not None and moment(time) >= moment(row.created) - _SLACK:
            return time
    return None


@dataclass(frozen=True, slots=True)
class _Search:
    """Looks through small parts of the journal."""

    store: Store
    entity: str
    record: str

    def delivering(self, time: Any) -> list[str]:
        """The batches that were settled when the record was tracked."""
        since = moment(time) - _SLACK
        return self._part(BatchState.SETTLED, since=since, upto=since + _SETTLING)[0]

    def failed(self, time: Any = None) -> tuple[list[str], Any]:
        """The latest failed batches of all, or those of the day before a time."""
        if time is None:
            return self._part(BatchState.FAILED, newest=True)
        upto = moment(time) + _SLACK
        return self._part(BatchState.FAILED, since=upto - _DAY, upto=upto, newest=True)

    def before_verdicts(self) -> tuple[list[str], Any]:
        """The latest of the batches that were answered before this ledger kept verdicts."""
        began = verdicts.since(self.store)
        return self._part(BatchState.SETTLED, upto=moment(began), newest=True) if began else ([], None)

    def _part(
        self, state: BatchState, *, since: Any = None, upto: Any = None, newest: bool = False
    ) -> tuple[list[str], Any]:
        """Batches by when they were settled, no more than may be read; and the time of the last where there may be more."""
        found: list[str] = []
        records = 0
        values = {"pipeline": self.store.pipeline, "entity": self.entity, "state": state.value}
        limits = {"since": since, "upto": upto, "newest": newest, "limit": _ROWS}
        for batch, count, settled in self.store.statement("journal_part", **values, **limits).rows:
            found.append(batch)
            records += int(count)
            if records >= _RECORDS or len(found) == _ROWS:
                return found, settled
        return found, None

    def rows(self, wanted: set[str], *, only_carrying: bool = False) -> Iterator[_Row]:
        """The journal's rows of these batches; or of those among them whose list has the record."""
        if not wanted:
            return
        pattern = f"%{_literal(orjson.dumps(self.record).decode())}%" if only_carrying else None
        for row in _rows(self.store, sorted(wanted), pattern):
            if not only_carrying or (row.ids and self.record in orjson.loads(row.ids)):
                yield row


def _literal(text: str) -> str:
    """A text as it stands for itself in a pattern of LIKE with `!` as its escape."""
    return "".join(f"!{character}" if character in "!%_[" else character for character in text)


def _open(store: Store, entity: str) -> list[journal.OpenBatch]:
    return journal.open_batches(store, entity=entity)


def _rows(store: Store, wanted: Sequence[str], pattern: str | None) -> list[_Row]:
    """The journal's rows of these batches, with the lists of IDs that match a pattern."""
    rows = store.statement("batches", ids=tracking.as_json(wanted), pattern=pattern).rows
    return [
        _Row(id_, run, key, BatchState(state), int(records), *others) for id_, run, key, state, records, *others in rows
    ]


def _carried(store: Store, entity: str, row: _Row) -> Carried:
    calls = _calls(store, entity, row.id, row.created, None if row.state.is_open else row.settled)
    return Carried(
        row.id, row.run, row.key, row.state, row.records, row.status, row.reason, row.created, row.settled, calls
    )


def _calls(store: Store, entity: str, batch: str, created: Any, over: Any) -> list[Call]:
    """The calls of a batch lie between its first row and its settlement."""
    upto = moment(over or store.now()) + _SLACK
    values = {"activity": f"Sync Batch: {entity}", "since": moment(created) - _SLACK, "upto": upto}
    rows = store.statement("calls_of", pattern=f'%"BatchId":"{batch}"%', **values).rows
    return [_call(row) for row in rows]


def _call(row: Any) -> Call:
    run, _, text, time, error = row
    said = information(text)
    attempt, milliseconds = int(said.get("Attempt") or 0), int(said.get("DurationMs") or 0)
    return Call(time, run, attempt, said.get("HttpResponseCode"), milliseconds, error, bool(said.get("Resent")))


def information(text: str | None) -> dict[str, Any]:
    """What a row of the log table says in AdditionalInformation."""
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:  # a row that something else wrote
        return {}
    return found if isinstance(found, dict) else {}
