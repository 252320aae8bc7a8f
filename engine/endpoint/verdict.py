"""What an answer says of each record of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jmespath
import orjson
from jmespath.exceptions import JMESPathError

from engine.identity import InvalidID, canonical_key
from engine.model import Rejection, Results


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Each record of a batch once: accepted, rejected with a reason, or unknown. `remark` says what was odd."""

    accepted: tuple[str, ...]
    rejected: tuple[Rejection, ...]
    unknown: tuple[str, ...]
    remark: str | None = None


def read(results: Results | None, ids: Sequence[str], status: int, body: bytes) -> Verdicts:
    """The verdicts of a 2xx answer. Without `results` it accepts the whole batch.

    An ID that the answer leaves out, or an answer that cannot be read as `results` says, is unknown, never accepted.
    """
    if results is None:
        return Verdicts(tuple(ids), (), ())
    try:
        entries = jmespath.search(results.path, orjson.loads(body))
    except (orjson.JSONDecodeError, JMESPathError) as failure:
        return Verdicts((), (), tuple(ids), f"the answer cannot be read for verdicts: {failure}")
    if not isinstance(entries, list):
        return Verdicts((), (), tuple(ids), f"the answer has no list at {results.path!r}")
    return _sort(results, ids, status, entries)


def _sort(results: Results, ids: Sequence[str], status: int, entries: list[Any]) -> Verdicts:
    wanted = set(ids)
    accepted: dict[str, None] = {}
    rejected: dict[str, Rejection] = {}
    strange = 0
    for entry in entries:
        id_ = _id(results, entry)
        if id_ is None or id_ not in wanted or id_ in accepted or id_ in rejected:
            strange += 1
        else:
            try:
                verdict = jmespath.search(results.accepted, entry)
            except JMESPathError:
                # An answer that cannot be read as the spec says is no refusal: the record stays unknown.
                strange += 1
                continue
            if verdict is True:
                accepted[id_] = None
                continue
            reason = _search(results.reason, entry) if results.reason else None
            rejected[id_] = Rejection(
                id_, str(reason) if reason is not None else "refused by the API without a reason", status
            )
    unknown = tuple(id_ for id_ in ids if id_ not in accepted and id_ not in rejected)
    remarks = []
    if unknown:
        remarks.append(f"{len(unknown)} records are not mentioned in the answer")
    if strange:
        remarks.append(f"{strange} entries of the answer name no record of this batch, or one a second time")
    return Verdicts(tuple(accepted), tuple(rejected.values()), unknown, "; ".join(remarks) or None)


def _id(results: Results, entry: Any) -> str | None:
    value = _search(results.id, entry)
    try:
        return canonical_key(value if isinstance(value, list) else [value])
    except InvalidID:
        return None


def _search(expression: str, entry: Any) -> Any:
    try:
        return jmespath.search(expression, entry)
    except JMESPathError:
        return None
