"""The schema is what editors show and what fills in the defaults: it must be sound, complete and explained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from engine.cli.init import SPEC as INIT_SPEC
from engine.sync.spec.load import examine
from engine.sync.spec.schema import SCHEMA
from tests.project import ROOT, Project

FILE = ROOT / "schema" / "pipeline.schema.json"

# Keys without a default, because one of several is given, or because an entity may take them from `defaults`.
ONE_OF = {
    "/schedule": {"every", "cron", "daily_at"},
    "/api/auth": {"bearer", "basic", "header", "oauth2"},
    "/entity": {"sql", "query", "endpoint"},
    "/operation": {"rename", "convert", "add", "select", "cut", "cut_out", "move", "fill", "split", "unpack_dict"},
    "/defaults": {"sql", "query", "endpoint"},
}

# The example of section 2 of the design, word for word.
EXAMPLE = """\
# yaml-language-server: $schema=../schema/pipeline.schema.json
version: 1                                  # *
name: sync                                  # *  names the lease, the runs, the log rows
description: HR master data to the partner API, once a day.

connections:                                # *  alias -> connection string
  default: ${DEFAULT_CONNECTION}            #    sqlite:///var/mdm.db
  ess: ${ESS_CONNECTION}                    #    Driver={ODBC Driver 18 for SQL Server};Server=...;...   (any ODBC string)
  log: ${LOG_CONNECTION}                    #    data source=...;initial catalog=...;user id=...;...     (ADO.NET, as in appsettings.json)

schedule:                                   # for `syncledger schedule`
  every: 24h                                # one of: every | cron: "0 2 * * *" | daily_at: "02:00"
  timezone: Asia/Jakarta
  misfire: once                             # once | skip: what a start does about times missed while down

ledger:
  connection: log                           # tracking, journal, log and lease tables, one transaction
  tracking_table: TB_R_SYNC_TRACKING
  log_table: SchedulerLog
  application: TAMHR                        # SchedulerLog.ApplicationName

api:
  base_url: ${API_BASE_URL}                 # *
  auth: { bearer: "${API_TOKEN}" }          # bearer | basic: {user, password} | header: {name, value} | oauth2: {token_url, client_id, client_secret, scope}
  headers: { X-Tenant: hr }
  timeout: 30s                              # of the whole call, not of one socket read
  retry: { attempts: 4, wait: 1s, max_wait: 60s, statuses: [408, 425, 429, 500, 502, 503, 504] }
  in_flight: 4                              # batches of one entity on the wire at once; default 1
  idempotency_header: Idempotency-Key       # the default; null where the API has none
  in_doubt: resend                          # resend (default) | hold
  in_doubt_statuses: [500, 502, 504]        # answers after which the records may have been stored
lease: { expires: 60s }

defaults: { connection: default, id: Id, batch_size: 3000 }     # any entity key

entities:                                   # *  run in this order
  - name: Users                             # *  EntityType in the tracking table
    connection: default
    sql: users.sql.j2                       # *  a file under templates/sql/, or inline SQL with `query:`
    id: Id                                  #    a column, or a list of columns for a composite key
    endpoint: /users                        # *
    method: POST
    batch_size: 3000
    transform:                              # petl operations on what the SQL returned, in order
      - rename: { NoReg: EmployeeNumber }
      - convert: { Gender: { M: Male, F: Female } }
      - add: { FullName: "Name ~ ' (' ~ EmployeeNumber ~ ')'" }     # sandboxed Jinja expressions
      - select: "IsActive == 1"
    fields:                                 # the record as sent, after `transform`: exactly these keys in this order
      Id: guid                              # guid string int float decimal bool date datetime binary; `?` = nullable
      EmployeeNumber: string
      FullName: string
      Email: string?
      IsActive: int
    body: { wrap: items }                   # default: a bare JSON array
    results: { path: "items", id: Id, accepted: "status == 'ok'", reason: error }   # per-record verdicts in the answer (JMESPath)
    isolate: [400, 413, 422]                # the default: statuses that mean "one of these records is bad": split until found
    page_size: 10000                        # rows per source query; batches fill across pages
"""
ENVIRONMENT = {
    "DEFAULT_CONNECTION": "sqlite:///var/mdm.db",
    "ESS_CONNECTION": "Driver={ODBC Driver 18 for SQL Server};Server=h;Database=d;UID=u;PWD=p",
    "LOG_CONNECTION": "data source=h;initial catalog=d;user id=u;password=p;MultipleActiveResultSets=True",
    "API_BASE_URL": "https://api.example.com/v1",
    "API_TOKEN": "secret token",
}


def hr_project(tmp_path: Path) -> Project:
    """A project with the templates that the specs here name."""
    project = Project(tmp_path / "project")
    for template in (ROOT / "templates" / "sql").glob("*.sql.j2"):
        if template.name != "page.sql.j2":
            project.template(template.name, template.read_text(encoding="utf-8"))
    return project


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """The part itself, or what its `$ref` names."""
    if "$ref" not in part:
        return part
    found: Any = SCHEMA.whole
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def objects(part: dict[str, Any] | None = None, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of the schema that has properties, with its path."""
    if part is None:
        yield from objects(SCHEMA.whole, "")
        for name, definition in SCHEMA.whole["$defs"].items():
            yield from objects(definition, f"/{name}")
        return
    if "properties" in part:
        yield path, part
    for name, inner in part.get("properties", {}).items():
        if "$ref" not in inner:
            yield from objects(inner, f"{path}/{name}")
    items = part.get("items")
    if isinstance(items, dict) and "$ref" not in items:
        yield from objects(items, f"{path}[]")


def properties() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property, with its path, `$ref` followed."""
    for path, part in objects():
        for name, inner in part["properties"].items():
            yield f"{path}/{name}", resolved(inner)


PROPERTIES = dict(properties())
OBJECTS = dict(objects())


def accepts(part: dict[str, Any], value: Any) -> list[str]:
    """What a part of the schema says against a value."""
    validator = Draft202012Validator({**part, "$defs": SCHEMA.whole["$defs"]})
    return [
        error.message
        for error in validator.iter_errors(value)
        # What a variable becomes is unknown here.
        if not (isinstance(error.instance, str) and "${" in error.instance)
    ]


def test_the_schema_is_valid_2020_12() -> None:
    Draft202012Validator.check_schema(json.loads(FILE.read_text(encoding="utf-8")))
    Draft202012Validator.check_schema(SCHEMA.whole)


@pytest.mark.parametrize(
    "text", [(ROOT / "pipelines" / "sync.yaml").read_text(encoding="utf-8"), INIT_SPEC], ids=["sync", "init"]
)
def test_an_editor_that_sees_variables_finds_nothing_wrong_with_shipped_specs(text: str) -> None:
    as_editors_see_it = Draft202012Validator(json.loads(FILE.read_text(encoding="utf-8")))
    assert [error.message for error in as_editors_see_it.iter_errors(yaml.safe_load(text))] == []


def test_an_editor_still_finds_a_number_that_is_none() -> None:
    as_editors_see_it = Draft202012Validator(json.loads(FILE.read_text(encoding="utf-8")))
    spec = yaml.safe_load(INIT_SPEC)
    spec["entities"][0]["batch_size"] = "many"
    assert not as_editors_see_it.is_valid(spec)


def test_the_walk_of_these_tests_finds_the_nested_parts() -> None:
    assert {"", "/api", "/api/auth/oauth2", "/entity", "/entity/results", "/operation/split"} <= set(OBJECTS)
    assert "/api/retry/max_wait" in PROPERTIES


@pytest.mark.parametrize("path", PROPERTIES)
def test_every_property_is_explained_with_examples_that_are_valid(path: str) -> None:
    part = PROPERTIES[path]
    assert part["title"].strip()
    assert part["description"].strip().endswith("."), "a sentence"
    assert part["examples"]
    for example in part["examples"]:
        assert accepts(part, example) == []


@pytest.mark.parametrize("path", OBJECTS)
def test_every_object_is_closed(path: str) -> None:
    part = OBJECTS[path]
    assert part.get("additionalProperties") is False
    assert "object" in ([part["type"]] if isinstance(part["type"], str) else part["type"])
    assert set(part.get("required", [])) <= set(part["properties"])
    assert part["title"]
    assert part["description"]


@pytest.mark.parametrize("path", OBJECTS)
def test_every_optional_key_has_a_default_that_is_valid(path: str) -> None:
    part = OBJECTS[path]
    optional = set(part["properties"]) - set(part.get("required", []))
    without = {name for name in optional if "default" not in resolved(part["properties"][name])}
    assert without == ONE_OF.get(path, set())
    for name in optional - without:
        inner = resolved(part["properties"][name])
        assert accepts(inner, inner["default"]) == [], name


def test_a_key_may_be_given_as_null_where_null_is_its_default(tmp_path: Path) -> None:
    text = (
        "version: 1\nname: sync\nconnections: { default: 'sqlite:///a.db', log: 'sqlite:///b.db' }\nschedule: null\n"
        "api: { base_url: 'https://x', auth: null, proxy: null, cert: null, cert_key: null }\n"
        "entities: [{ name: A, sql: users.sql.j2, endpoint: /a, fields: null, results: null, body: { wrap: null } }]\n"
    )
    assert [str(problem) for problem in examine(hr_project(tmp_path).write(text), {}).problems] == []


def test_no_required_key_has_a_default() -> None:
    for path, part in OBJECTS.items():
        assert [name for name in part.get("required", []) if "default" in part["properties"][name]] == [], path


def test_defaults_take_any_entity_key_but_the_name() -> None:
    assert set(OBJECTS["/defaults"]["properties"]) == set(OBJECTS["/entity"]["properties"]) - {"name"}


def test_every_duration_has_the_same_form() -> None:
    durations = ["/schedule/every", "/api/timeout", "/api/retry/wait", "/api/retry/max_wait", "/lease/expires"]
    for text, good in {"500ms": True, "30s": True, "15m": True, "24h": True, "1.5s": True, "30": False, "-1s": False, "1d": False,
                       "1 s": False, "": False}.items():  # fmt: skip
        assert [not accepts(PROPERTIES[path], text) for path in durations] == [good] * len(durations), repr(text)


def test_an_editor_offers_several_durations() -> None:
    """Editors offer what stands under `enum` and `examples`; other durations stay valid."""
    api = json.loads(FILE.read_text(encoding="utf-8"))["properties"]["api"]["properties"]
    for part in (api["timeout"], api["retry"]["properties"]["wait"], api["breaker"]["properties"]["for"]):
        assert len(part["examples"]) > 2
        assert {"enum": part["examples"]} in part["anyOf"]
        assert Draft202012Validator(part).is_valid("17s")


@pytest.mark.parametrize(
    "extra",
    [
        'name: "sync\\n"',
        'api: { base_url: "https://x", timeout: "1s\\n" }',
        'api: { base_url: "https://x", headers: { "X-A\\n": b } }',
        'ledger: { log_table: "SchedulerLog\\n" }',
        'schedule: { daily_at: "02:00\\n" }',
        'entities: [{ name: A, sql: users.sql.j2, endpoint: /a, fields: { Id: "int\\n" } }]',
    ],
)
def test_no_pattern_lets_a_line_break_in_at_its_end(tmp_path: Path, extra: str) -> None:
    # In Python, unlike ECMAScript, `$` matches before a last line break too.
    keys = {
        "version": "version: 1",
        "name": "name: sync",
        "connections": "connections: { default: 'sqlite:///a.db', log: 'sqlite:///b.db' }",
        "api": "api: { base_url: 'https://x' }",
        "entities": "entities: [{ name: A, sql: users.sql.j2, endpoint: /a }]",
    }
    keys[extra.partition(":")[0]] = extra
    loaded = examine(hr_project(tmp_path).write("\n".join(keys.values())), {})
    assert [problem.severity for problem in loaded.problems] == ["error"]


def test_the_example_of_the_design_has_no_errors_without_its_variables(tmp_path: Path) -> None:
    loaded = examine(hr_project(tmp_path).write(EXAMPLE), {})
    assert [str(problem) for problem in loaded.problems if problem.severity == "error"] == []
    missing = {name for name in ENVIRONMENT if any(name in problem.message for problem in loaded.problems)}
    assert missing == set(ENVIRONMENT)


def test_the_example_of_the_design_becomes_the_pipeline_it_describes(tmp_path: Path) -> None:
    environment = ENVIRONMENT
    loaded = examine(hr_project(tmp_path).write(EXAMPLE), environment)
    assert [str(problem) for problem in loaded.problems if problem.severity == "error"] == []
    assert loaded.loaded
    pipeline = loaded.loaded.pipeline
    assert pipeline
    (entity,) = pipeline.entities
    assert (entity.template, entity.id, entity.wrap, entity.page_size) == ("users.sql.j2", ("Id",), "items", 10_000)
    assert [operation.name for operation in entity.transform] == ["rename", "convert", "add", "select"]
    assert [(field.name, field.type, field.nullable) for field in entity.fields or ()][3] == ("Email", "string", True)
    assert (pipeline.api.timeout, pipeline.api.in_flight, pipeline.api.retry.max_wait) == (30.0, 4, 60.0)
    assert pipeline.schedule
    assert pipeline.schedule.every == 86_400.0
    assert pipeline.connections["ess"] == environment["ESS_CONNECTION"]


def test_a_spec_of_nothing_but_the_required_keys_gets_every_default(tmp_path: Path) -> None:
    made = hr_project(tmp_path)
    text = (
        "version: 1\nname: sync\nconnections: { default: 'sqlite:///a.db', log: 'sqlite:///b.db' }\n"
        "api: { base_url: 'https://x' }\nentities: [{ name: Users, sql: users.sql.j2, endpoint: /users }]\n"
    )
    loaded = examine(made.write(text), {})
    assert loaded.problems == []
    assert loaded.loaded
    pipeline = loaded.loaded.pipeline
    assert pipeline
    assert (pipeline.api.timeout, pipeline.api.in_flight, pipeline.api.verify, pipeline.api.gzip) == (
        30.0,
        1,
        True,
        False,
    )
    assert pipeline.api.idempotency_header == "Idempotency-Key"
    assert pipeline.api.retry.statuses == {408, 425, 429, 500, 502, 503, 504}
    assert pipeline.api.in_doubt_statuses == {500, 502, 504}
    assert (pipeline.ledger.tracking_table, pipeline.ledger.log_table) == ("TB_R_SYNC_TRACKING", "SchedulerLog")
    (entity,) = pipeline.entities
    assert (entity.connection, entity.id, entity.method, entity.batch_size) == ("default", ("Id",), "POST", 3000)
    assert entity.isolate == (400, 413, 422)
    assert (entity.fields, entity.results, entity.wrap, pipeline.schedule) == (None, None, None, None)
