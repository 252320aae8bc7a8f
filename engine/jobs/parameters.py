"""Typed parameters of a run: from the command line, from a file, or their defaults; every wrong one is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import orjson

from engine.errors import ParametersWrong
from engine.identity import is_guid
from engine.jobs.model import Job, Parameter
from engine.spec.patterns import Pattern
from engine.spec.reader import read
from engine.spec.suggest import did_you_mean

_HIDDEN = "***"
_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


def given(job: Job, settings: Sequence[str], file: Path | None) -> dict[str, Any]:
    """The values of a run's parameters: `NAME=VALUE` settings over those of a JSON or YAML file over the defaults.

    Raises `ParametersWrong` with every problem, and `SpecError` for a file that cannot be read.
    """
    raw: dict[str, Any] = dict(_of_file(file)) if file else {}
    problems: list[str] = []
    repeated: dict[str, list[str]] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            problems.append(f"{text!r} is no setting; write NAME=VALUE")
        else:
            repeated.setdefault(name.strip(), []).append(value)
    known = {one.name: one for one in job.parameters}
    for name, values in repeated.items():
        many = name in known and known[name].many
        if len(values) > 1 and not many:
            problems.append(f"parameter {name!r} is given {len(values)} times and takes one value")
        raw[name] = values if many and len(values) > 1 else values[-1]
    problems += [f"unknown parameter {name!r}{did_you_mean(name, known)}" for name in raw if name not in known]
    values_: dict[str, Any] = {}
    for one in job.parameters:
        try:
            values_[one.name] = _value(one, raw)
        except ValueError as failure:
            problems.append(f"parameter {one.name!r}: {failure}")
    if problems:
        raise ParametersWrong("\n".join(problems))
    return values_


def _of_file(file: Path) -> Mapping[str, Any]:
    data = read(file, str(file)).data
    if not isinstance(data, dict):
        raise ParametersWrong(f"{file}: a parameters file is a mapping of names to values")
    return {str(name): value for name, value in data.items()}


def _value(parameter: Parameter, raw: Mapping[str, Any]) -> Any:
    if parameter.name in raw:
        return typed(parameter, raw[parameter.name])
    if parameter.required:
        raise ValueError(f"it is missing; give --set {parameter.name}=...")
    return None if parameter.default is None else typed(parameter, parameter.default)


def typed(parameter: Parameter, value: Any) -> Any:
    """A value as its type has it. Raises `ValueError` that says what is wrong with it."""
    if value is None:
        if parameter.nullable:
            return None
        raise ValueError("null is not allowed")
    if not parameter.many:
        return _bounded(parameter, _one(parameter, value))
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.80} is no list")
    return _bounded(parameter, [_one(parameter, inner) for inner in value])


def _one(parameter: Parameter, value: Any) -> Any:
    try:
        found = _TYPES[parameter.kind](value)
    except (ValueError, InvalidOperation, TypeError):
        shown = _HIDDEN if parameter.secret else f"{value!r:.80}"
        raise ValueError(f"{shown} is no {parameter.kind}") from None
    if parameter.choices is not None and found not in parameter.choices:
        raise ValueError(f"{value!r:.80} is not one of: {', '.join(map(str, parameter.choices))}")
    if parameter.pattern is not None and (
        not isinstance(found, str) or not Pattern(parameter.pattern).fullmatch(found)
    ):
        raise ValueError(f"{_HIDDEN if parameter.secret else repr(value)[:80]} does not match {parameter.pattern}")
    return found


def _bounded(parameter: Parameter, value: Any) -> Any:
    size = len(value) if isinstance(value, (str, list)) else value
    what = " entries" if isinstance(value, list) else " characters" if isinstance(value, str) else ""
    if parameter.least is not None and size < parameter.least:
        raise ValueError(
            f"it has {size}{what}; at least {parameter.least:g}" if what else f"{size} is less than {parameter.least:g}"
        )
    if parameter.most is not None and size > parameter.most:
        raise ValueError(
            f"it has {size}{what}; at most {parameter.most:g}" if what else f"{size} is more than {parameter.most:g}"
        )
    return value


def _text(value: Any) -> str:
    if isinstance(value, (bool, dict, list)):
        raise ValueError
    return str(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool):
        raise ValueError
    found = Decimal(str(value))
    if not found.is_finite():
        raise ValueError
    return found


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).casefold()
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE


def _day(value: Any) -> date:
    return value if type(value) is date else date.fromisoformat(str(value))


def _moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(str(value))


def _guid(value: Any) -> str:
    text = str(value).strip()
    if not is_guid(text):
        raise ValueError
    return text.strip("{}").lower()


_TYPES: dict[str, Callable[[Any], Any]] = {
    "string": _text, "text": _text, "choice": _text, "int": _whole, "float": _number, "decimal": _decimal, "bool": _truth,
    "date": _day, "datetime": _moment, "guid": _guid,
}  # fmt: skip


def secrets(job: Job, values: Mapping[str, Any]) -> list[str]:
    """The values that are never shown, in statements, errors or messages."""
    found = [values[one.name] for one in job.parameters if one.secret and values.get(one.name) is not None]
    return [str(each) for one in found for each in (one if isinstance(one, list) else [one])]


def stored(job: Job, values: Mapping[str, Any]) -> str:
    """The values as JSON, as the store keeps them; secrets are hidden."""
    secret = {one.name for one in job.parameters if one.secret}
    return orjson.dumps(
        {name: _HIDDEN if name in secret else value for name, value in values.items()},
        default=lambda value: str(value) if isinstance(value, Decimal) else None,
    ).decode()


def restored(job: Job, text: str, settings: Sequence[str]) -> dict[str, Any]:
    """The values of a run that is resumed. A secret has to be given again. Raises `ParametersWrong`."""
    kept = orjson.loads(text)
    secret = {one.name for one in job.parameters if one.secret}
    asked = {text.partition("=")[0]: text for text in settings}
    if stray := sorted(asked.keys() - secret):
        raise ParametersWrong(f"a resumed run has the parameters it was started with; leave out --set {stray[0]}")
    try:
        return {
            one.name: typed(one, asked[one.name].partition("=")[2])
            if one.name in asked
            else _kept(one, kept.get(one.name))
            for one in job.parameters
        }
    except ValueError as failure:
        raise ParametersWrong(str(failure)) from failure


def _kept(parameter: Parameter, value: Any) -> Any:
    if parameter.secret and value == _HIDDEN:
        raise ValueError(f"parameter {parameter.name!r} is secret and not kept: give --set {parameter.name}=...")
    return None if value is None else typed(parameter, value)
