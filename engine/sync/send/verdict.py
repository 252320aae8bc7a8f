"""What an answer says of each record of its batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from engine.identity import InvalidID, canonical_key
from engine.sync.model import Rejection, Results

_EXACT = 2.0**53
_NAMED = 3
"""Strange IDs that a remark names."""
_SHOWN_KEYS, _LONGEST = 10, 40
"""Keys of an answer that a remark names, and how much of each."""
_NO_REASON = "rejected by the API without a reason"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Each record of a batch once: accepted, rejected with a reason, or unknown. `remark` says what was odd."""

    accepted: tuple[str, ...]
    rejected: tuple[Rejection, ...]
    unknown: tuple[str, ...]
    remark: str | None = None

    @property
    def counts(self) -> tuple[int, int, int]:
        """Records accepted, rejected and unknown; together those that were sent."""
        return len(self.accepted), len(self.rejected), len(self.unknown)


def read(results: Results | None, ids: Sequence[str], status: int, body: bytes) -> Verdicts:
    """The verdicts of a 2xx answer. Without `results` it accepts the whole batch.

    An ID that the answer leaves out, or an answer that cannot be read as `results` says, is unknown, never accepted.
    """
    if results is None:
        remark = "207 Multi-Status counts as accepted, since the spec has no `results` to read its verdicts with"
        return Verdicts(tuple(ids), (), (), remark if status == 207 else None)
    try:
        document = _parsed(body)
        entries = _search(results.path, document)
    except (ValueError, RecursionError) as failure:
        what = "it is empty" if not body.strip() else f"{failure}"
        return Verdicts((), (), tuple(ids), f"the answer cannot be read for verdicts: {what}")
    if not isinstance(entries, list):
        return Verdicts((), (), tuple(ids), f"the answer has no list at {results.path!r}{_keys(document)}")
    if results.id is None and len(entries) != len(ids):
        remark = (
            f"the number of verdicts ({len(entries)}) is not that of records ({len(ids)}), so none can be told apart"
        )
        return Verdicts((), (), tuple(ids), remark)
    return _Sorting(results, ids, status).sort(entries)


def not_json(status: int, body: bytes) -> str | None:
    """What a body is, where it is no JSON; None where it is, or where the answer has none by definition (204, 205)."""
    if status in (204, 205):
        return None
    if not body.strip():
        return "an empty body"
    try:
        _parsed(body)
    except (ValueError, RecursionError) as failure:
        return f"a body that is no JSON ({failure!s:.200})"
    return None


def _keys(document: Any) -> str:
    """What there is instead, for whoever wrote `results.path`."""
    if isinstance(document, dict):
        names = [json.dumps(str(name)[:_LONGEST])[1:-1] for name in list(document)[:_SHOWN_KEYS]]
        more = f" and {len(document) - _SHOWN_KEYS} more" if len(document) > _SHOWN_KEYS else ""
        return f"; check results.path: its keys are {', '.join(names)}{more}" if names else "; it is an empty object"
    return "; check results.path: the answer is a list itself (`@`)" if isinstance(document, list) else ""


@dataclass(slots=True)
class _Sorting:
    """Goes through the verdicts of one answer."""

    results: Results
    ids: Sequence[str]
    status: int
    accepted: dict[str, None] = field(default_factory=dict)
    rejected: dict[str, Rejection] = field(default_factory=dict)
    contradicted: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    unreadable: int = 0

    def sort(self, entries: list[Any]) -> Verdicts:
        wanted = set(self.ids)
        for position, entry in enumerate(entries):
            id_ = self.ids[position] if self.results.id is None else _id(self.results.id, entry)
            if id_ is None:
                self.unreadable += 1
            elif id_ not in wanted:
                self.wrong.append(id_)
            else:
                self._one(id_, entry)
        for id_ in self.contradicted:
            self.accepted.pop(id_, None)
            self.rejected.pop(id_, None)
        unknown = tuple(id_ for id_ in self.ids if id_ not in self.accepted and id_ not in self.rejected)
        accepted = tuple(id_ for id_ in self.ids if id_ in self.accepted)
        return Verdicts(accepted, tuple(self.rejected.values()), unknown, self._remark(unknown))

    def _one(self, id_: str, entry: Any) -> None:
        try:
            if entry is None:
                raise Unreadable("null is no verdict")
            good = _search(self.results.accepted, entry) is True
        except Unreadable:
            # An answer that cannot be read as the spec says is no refusal: the record stays unknown.
            self.unreadable += 1
            return
        if id_ in self.accepted or id_ in self.rejected:
            self.repeated.append(id_)
            if good != (id_ in self.accepted):
                self.contradicted.add(id_)
        elif good:
            self.accepted[id_] = None
        else:
            self.rejected[id_] = self._rejection(id_, entry)

    def _rejection(self, id_: str, entry: Any) -> Rejection:
        reason = _found(self.results.reason, entry)
        retryable = _found(self.results.retryable, entry) is True
        text = reason if isinstance(reason, str) else None if reason is None else json.dumps(reason, ensure_ascii=False)
        duplicate = _found(self.results.duplicate, entry) is True
        return Rejection(id_, text or _NO_REASON, self.status, retryable, duplicate=duplicate)

    def _remark(self, unknown: Sequence[str]) -> str | None:
        missing = [id_ for id_ in unknown if id_ not in self.contradicted]
        remarks = [
            f"{len(missing)} record{'s' * (len(missing) != 1)} not mentioned in the answer, or not readably ({_some(missing)})"
            if missing
            else "",
            f"the answer names IDs that were not sent: {_some(self.wrong)}" if self.wrong else "",
            f"the answer names IDs more than once: {_some(self.repeated)}" if self.repeated else "",
            f"it says yes and no to {_some(sorted(self.contradicted))}" if self.contradicted else "",
            f"{self.unreadable} of its verdicts cannot be read" if self.unreadable else "",
            "every verdict was refused without a reason: check results.accepted" if self._none_accepted() else "",
        ]
        return "; ".join(filter(None, remarks)) or None

    def _none_accepted(self) -> bool:
        """True where all were refused and nothing says why: rather `accepted` is never true than every record bad."""
        return bool(self.rejected) and not self.accepted and all(r.reason == _NO_REASON for r in self.rejected.values())


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return ", ".join(ids[:_NAMED]) + more


def _id(expression: str, entry: Any) -> str | None:
    value = _found(expression, entry)
    parts = value if isinstance(value, list) else [value]
    # Beyond 2^53 a number with a fraction or an exponent names no whole number exactly.
    if any(isinstance(part, float) and abs(part) >= _EXACT for part in parts):
        return None
    try:
        return canonical_key(parts)
    except InvalidID:
        return None


class Unreadable(ValueError):
    """An answer that an expression of the spec does not fit."""


def _parsed(body: bytes) -> Any:
    """The JSON of an answer; whole numbers of any size keep every digit, which orjson does not give."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    return json.loads(body, parse_constant=refuse)


def _search(expression: str, data: Any) -> Any:
    try:
        return jmespath.search(expression, data)
    except (JMESPathError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as failure:
        # jmespath lets the errors of Python through where an expression meets another type than it expects.
        raise Unreadable(str(failure)) from failure


def _found(expression: str | None, entry: Any) -> Any:
    """What an expression finds; None where there is none, or it does not fit."""
    try:
        return _search(expression, entry) if expression else None
    except Unreadable:
        return None
