"""Semantic checks, which a schema cannot express. The data may still be invalid elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import jmespath
from cronsim import CronSim, CronSimError
from jmespath.exceptions import JMESPathError

from engine.db import connect
from engine.db.templates import Templates
from engine.errors import Problem
from engine.spec import expressions, rules
from engine.spec.patterns import Pattern, PatternError
from engine.spec.reader import Place
from engine.spec.rules import Rule
from engine.spec.subject import Subject
from engine.spec.suggest import did_you_mean
from engine.sync.spec import columns, templates, transport
from engine.sync.spec.schema import SCHEMA
from engine.sync.spec.subject import entities
from engine.sync.spec.subject import place as place_of


def _aliases(subject: Subject) -> Iterator[Problem]:
    known = subject.mapping("connections")
    if not known:
        return
    used = {("ledger", "connection"): subject.mapping("ledger").get("connection", "log")}
    for index, entity, merged in entities(subject):
        used[place_of(subject, index, entity, "connection")] = merged.get("connection", "default")  # type: ignore[index]
    for place, alias in used.items():
        if isinstance(alias, str) and alias not in known:
            what = "ledger" if place[0] == "ledger" else "entity" if place[0] == "entities" else "defaults"
            yield subject.document.problem(place, f"{what}: unknown connection {alias!r}{did_you_mean(alias, known)}")


def _ledger_tables(subject: Subject) -> Iterator[Problem]:
    """Reject table names with more parts than the database allows."""
    ledger = subject.mapping("ledger")
    alias = ledger.get("connection", "log")
    text = subject.text(("connections", alias)) if isinstance(alias, str) else None
    if not text:
        return
    dialect = connect.guess_dialect(text, subject.root)
    for key in ("tracking_table", "log_table"):
        name = subject.text(("ledger", key))
        if name and len(dialect.name_parts(name)) > dialect.parts:
            message = f"the table name {name} has too many parts: {dialect.reported[0]} takes {dialect.parts} at most"
            yield subject.document.problem(("ledger", key), message)


def _entities(subject: Subject) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for index, entity, merged in entities(subject):
        name = entity.get("name")
        if isinstance(name, str):
            if name in names:
                line = subject.document.values.get(("entities", names[name], "name"), (0, 0))[0]
                yield subject.document.problem(
                    ("entities", index, "name"), f"a second entity is called {name!r}; the first is in line {line}"
                )
            names.setdefault(name, index)
        yield from _one_entity(subject, index, entity, merged)


def _one_entity(subject: Subject, index: int, entity: dict[Any, Any], merged: dict[Any, Any]) -> Iterator[Problem]:
    here: Place = ("entities", index)
    label = f"entity {entity.get('name', index)!r}"
    if "endpoint" not in merged:
        yield subject.document.problem(here, f"{label}: the key 'endpoint' is missing")
    elif isinstance(merged["endpoint"], str) and "://" in merged["endpoint"]:
        yield subject.document.problem(
            place_of(subject, index, entity, "endpoint"),
            f"{label}: the endpoint is a path that is joined to api.base_url, not a URL",
        )
    elif isinstance(merged["endpoint"], str) and "{{" in merged["endpoint"]:
        yield subject.document.problem(
            place_of(subject, index, entity, "endpoint"), f"{label}: the endpoint is plain text; it is not a template"
        )
    if "sql" not in merged and "query" not in merged:
        yield subject.document.problem(
            here, f"{label}: the key 'sql' (a file under templates/sql/) or 'query' is missing"
        )
    if "sql" in merged and "query" in merged:
        yield subject.document.problem((*here, "query"), f"{label}: give 'sql' or 'query', not both", at_key=True)
    yield from _id_among_fields(subject, index, entity, merged)


def _id_among_fields(subject: Subject, index: int, entity: dict[Any, Any], merged: dict[Any, Any]) -> Iterator[Problem]:
    fields, ids = merged.get("fields"), merged.get("id", "Id")
    if not isinstance(fields, dict):
        return
    renamed: dict[Any, Any] = {}
    transform = merged.get("transform")
    for operation in transform if isinstance(transform, list) else []:
        if isinstance(operation, dict) and isinstance(operation.get("rename"), dict):
            renamed.update(operation["rename"])
    sent = {str(name).casefold() for name in fields}
    for name in [ids] if isinstance(ids, str) else ids if isinstance(ids, list) else []:
        if isinstance(name, str) and str(renamed.get(name, name)).casefold() not in sent:
            yield subject.document.problem(
                place_of(subject, index, entity, "fields"),
                f"the ID column {name!r} is not among `fields`: the API cannot tell one record from another{did_you_mean(name, fields)}",
                at_key=True,
                warning=True,
            )


def _templates(subject: Subject) -> Iterator[Problem]:
    # Compile what all entities of a dialect share (page.sql.j2 and its parts) only once.
    of_dialect: dict[str, Templates] = {}
    for index, entity, merged in entities(subject):
        ids = merged.get("id", "Id")
        key = (
            (ids,)
            if isinstance(ids, str)
            else tuple(name for name in ids if isinstance(name, str))
            if isinstance(ids, list)
            else ("Id",)
        )
        alias = merged.get("connection", "default")
        text = subject.text(("connections", alias)) if isinstance(alias, str) else None
        dialect = connect.guess_dialect(text or "", subject.root)
        name = str(entity.get("name", ""))
        for what in ("sql", "query"):
            place = place_of(subject, index, entity, what)
            value = merged.get(what)
            if isinstance(value, str) and value and place not in subject.found.missing:
                found = of_dialect.setdefault(dialect.name, Templates(subject.root, dialect))
                check = templates.Check(subject.document, place, found, name, key, bool(merged.get("changed_since")))
                yield from check.file(value) if what == "sql" else check.inline(value)


def _expressions(subject: Subject) -> Iterator[Problem]:
    for index, entity, merged in entities(subject):
        place = place_of(subject, index, entity, "transform")
        operations = merged.get("transform")
        for number, operation in enumerate(operations if isinstance(operations, list) else []):
            if isinstance(operation, dict):
                yield from _operation(subject, (*place, number), operation)
        results = merged.get("results")
        if isinstance(results, dict):
            yield from _jmespaths(subject, place_of(subject, index, entity, "results"), results)


def _operation(subject: Subject, place: Place, operation: dict[Any, Any]) -> Iterator[Problem]:
    selection = operation.get("select")
    if isinstance(selection, str):
        yield from _compiles(subject, (*place, "select"), selection, expressions.compile_expression)
    for kind in ("add", "convert"):
        entries = operation.get(kind)
        for column, text in entries.items() if isinstance(entries, dict) else ():
            if isinstance(text, str):
                wanted = expressions.compile_expression if kind == "add" else expressions.converter
                yield from _compiles(subject, (*place, kind, column), text, wanted)
    split = operation.get("split")
    if isinstance(split, dict) and isinstance(split.get("pattern"), str):
        yield from _compiles(subject, (*place, "split", "pattern"), split["pattern"], Pattern)


def _compiles(subject: Subject, place: Place, text: str, wanted: Callable[[str], object]) -> Iterator[Problem]:
    try:
        wanted(text)
    except (expressions.ExpressionError, PatternError) as failure:
        yield subject.document.problem(place, str(failure))
    except (RecursionError, OverflowError, ValueError) as failure:
        yield subject.document.problem(place, f"this cannot be compiled: {type(failure).__name__}; it is too large")


def _jmespaths(subject: Subject, place: Place, results: dict[Any, Any]) -> Iterator[Problem]:
    for key, text in results.items():
        if isinstance(text, str) and text:
            try:
                jmespath.compile(text)
            except (JMESPathError, RecursionError, ValueError, OverflowError) as failure:
                yield subject.document.problem(
                    (*place, key), f"not a JMESPath expression: {' '.join(str(failure).split())[:200]}"
                )


def _schedule(subject: Subject) -> Iterator[Problem]:
    schedule = subject.mapping("schedule")
    zone = subject.text(("schedule", "timezone"))
    if zone:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield subject.document.problem(
                ("schedule", "timezone"),
                f"unknown time zone {zone!r}; write an IANA name such as Asia/Jakarta or Europe/Berlin",
            )
    cron = subject.text(("schedule", "cron"))
    if cron:
        try:
            if len(cron.split()) != 5:
                raise CronSimError(f"it has {len(cron.split())} fields")
            CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as failure:
            yield subject.document.problem(
                ("schedule", "cron"), f"bad cron line {cron!r}: {failure}; five fields, such as '0 2 * * *'"
            )
    if "every" in schedule and str(schedule["every"]).rstrip("0ms.h") == "":
        yield subject.document.problem(("schedule", "every"), "'every' must be longer than nothing")


def _api_files(subject: Subject) -> Iterator[Problem]:
    for key in ("verify", "cert", "cert_key"):
        text = subject.text(("api", key))
        if text and not (subject.root / text).is_file():
            yield subject.document.problem(("api", key), f"there is no file {subject.root / text}")


RULES: tuple[Rule, ...] = (
    rules.missing_variables, rules.connections, _aliases, _ledger_tables, _entities, _templates, _expressions, columns.misspelt,
    _schedule, rules.too_long(SCHEMA), _api_files, *transport.RULES,
)  # fmt: skip
"""All rules, in the order in which they run."""
