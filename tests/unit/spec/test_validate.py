"""`validate`: everything that is wrong, at once, each at its place, with the remedy."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from engine.cli.main import COMMANDS, cli
from engine.errors import Problem
from engine.spec import durations
from engine.sync.spec.load import examine
from engine.sync.spec.schema import SCHEMA
from tests.project import ROOT, Project

HEAD = """\
version: 1
name: sync
connections: { default: "sqlite:///source.db", log: "sqlite:///log.db" }
api: { base_url: "https://api.example.com" }
"""
USERS = """\
entities:
  - name: Users
    endpoint: /users
    query: SELECT Id, Name FROM Users
"""
PAGED = '{% extends "page.sql.j2" %}\n{% block query %}\nSELECT Id, Name FROM Users\n{% endblock %}\n'
OWN = "SELECT Id, Name FROM Users\n{% if after is not none %}WHERE Id > {{ after }}{% endif %}\nORDER BY Id\nLIMIT {{ limit }}\n"


@pytest.fixture
def made(tmp_path: Path) -> Project:
    """A project whose API is never called."""
    return Project(tmp_path / "project")


def look(made: Project, text: str) -> list[Problem]:
    return examine(made.write(text), {}).problems


def one(made: Project, text: str, at: str | None = None, after: str = "") -> str:
    """The message of the only problem, which stands at the text `at` (the first behind `after`)."""
    found = look(made, text)
    assert len(found) == 1, [str(problem) for problem in found]
    if at is not None:
        where = text.index(at, text.index(after))
        line = text.count("\n", 0, where) + 1
        assert (found[0].line, found[0].column) == (line, where - text.rfind("\n", 0, where)), str(found[0])
    assert found[0].severity == "error"
    return found[0].message


def entity(extra: str) -> str:
    return HEAD + USERS + "".join(f"    {line}\n" for line in extra.splitlines())


# All at once


def test_ten_mistakes_are_reported_in_one_go_each_with_its_line_and_column(made: Project) -> None:
    made.template(
        "bad.sql.j2", '{% extends "page.sql.j2" %}\n{% block query %}\nSELECT {{ nothing }} FROM T\n{% endblock %}\n'
    )
    text = """\
version: 1
name: sync
conections: {}
connections: { default: "sqlite:///a.db", log: "sqlite:///b.db" }
api:
  timeout: 30
  retry: { attempts: 0, waits: 1s }
schedule: { cron: "99 2 * * *", timezone: Asia/Jakarte }
entities:
  - name: Users
    connection: defualt
    sql: missing.sql.j2
    endpoint: /users
    fields: { Id: guidd }
    transform:
      - select: "IsActive =="
  - name: Users
    sql: bad.sql.j2
    endpoint: /users
"""
    found = {(Path(problem.file).name, problem.line, problem.column) for problem in look(made, text)}
    assert found == {
        ("sync.yaml", 3, 1),  # unknown key
        ("sync.yaml", 6, 3),  # base_url is missing
        ("sync.yaml", 6, 12),  # a number where a duration stands
        ("sync.yaml", 7, 22),  # the minimum
        ("sync.yaml", 7, 25),  # unknown key
        ("sync.yaml", 8, 19),  # cron
        ("sync.yaml", 8, 43),  # zone
        ("sync.yaml", 11, 17),  # unknown connection
        ("sync.yaml", 12, 10),  # missing template
        ("sync.yaml", 14, 19),  # unknown type
        ("sync.yaml", 16, 17),  # expression
        ("sync.yaml", 17, 11),  # second of this name
        ("bad.sql.j2", 3, 11),  # undefined variable
    }


def test_problems_are_sorted_and_none_is_told_twice(made: Project) -> None:
    found = look(made, HEAD + "x: 1\ny: 2\n" + USERS + "    z: 3\n")
    assert [problem.line for problem in found] == [5, 6, 11]
    assert len(set(map(str, found))) == len(found)


def test_a_sound_spec_has_no_problems(made: Project) -> None:
    loaded = examine(made.write(HEAD + USERS), {})
    assert loaded.problems == []
    assert loaded.loaded


def test_the_shipped_pipeline_has_no_errors() -> None:
    found = examine(ROOT / "pipelines" / "sync.yaml", {}).problems
    assert [str(problem) for problem in found if problem.severity == "error"] == []
    assert all("environment variable" in problem.message for problem in found)


# Did you mean


@pytest.mark.parametrize(
    ("text", "at", "word"),
    [
        (HEAD + USERS + "schedul: { every: 24h }\n", "schedul", "schedule"),
        (HEAD.replace("{ base_url", "{ tiemout: 1s, base_url") + USERS, "tiemout", "timeout"),
        (entity("batchsize: 3"), "batchsize", "batch_size"),
        (entity("Connection: default"), "Connection", "connection"),
        (entity("body: { wrapp: items }"), "wrapp", "wrap"),
        (entity("transform: [{ renam: { A: B } }]"), "renam", "rename"),
        (HEAD.replace("{ base_url", "{ auth: { baerer: x }, base_url") + USERS, "baerer", "bearer"),
        (HEAD + "defaults: { batch_sise: 3 }\n" + USERS, "batch_sise", "batch_size"),
        (entity("connection: defalt"), "defalt", "default"),
        (HEAD + "ledger: { connection: logg }\n" + USERS, "logg", "log"),
        (HEAD + "defaults: { connection: Default1 }\n" + USERS, "Default1", "default"),
        (entity("fields: { Id: integer }"), "integer", None),
        (entity("fields: { Id: sting? }"), "sting?", "string"),
        (entity("fields: { Id: Guid }"), "Guid", "guid"),
        (entity("method: Post"), "Post", "POST"),
        (entity("transform: [{ convert: { Name: uper } }]"), "uper", "upper"),
    ],
)
def test_a_misspelt_word_is_shown_at_its_place_with_the_nearest_one(
    made: Project, text: str, at: str, word: str | None
) -> None:
    message = one(made, text, at)
    assert at.rstrip("?") in message
    assert word is None or f"did you mean {word!r}" in message


def test_a_word_like_no_other_is_answered_with_the_words_there_are(made: Project) -> None:
    message = one(made, entity("connection: zzz"), "zzz")
    assert "default" in message
    assert "log" in message


def test_a_misspelt_template_is_answered_with_the_nearest_file(made: Project) -> None:
    made.template("customers.sql.j2", PAGED)
    text = HEAD + "entities: [{ name: A, endpoint: /a, sql: customer.sql.j2 }]\n"
    assert "did you mean 'customers.sql.j2'" in one(made, text, "customer.sql.j2")


# At the key, at the value, at the parent


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (HEAD.replace("version: 1", "version: 2") + USERS, "2"),
        (HEAD.replace("name: sync", "name: 'a b'") + USERS, "'a b'"),
        (HEAD.replace("name: sync", "name: [sync]") + USERS, "[sync]"),
        (HEAD.replace("https://api", "ftp://api") + USERS, '"ftp'),
        (HEAD + USERS + "lease: { expires: 60 }\n", None),
        (entity("batch_size: 0"), "0"),
        (entity("batch_size: 1.5"), "1.5"),
        (entity("batch_size: true"), "true"),
        (entity("batch_size: '3'"), "'3'"),
        (entity("fields: { Id: 5 }"), "5 }"),
        (entity("fields: [Id]"), "[Id]"),
        (entity("id: []"), "[]"),
        (entity("id: [A, A]"), "[A, A]"),
        (entity("isolate: [400, 99]"), None),
        (entity("results: { path: items, accepted: 3 }"), "3 }"),
        (HEAD + "schedule: { daily_at: 25:00 }\n" + USERS, "25:00"),
        (HEAD + "schedule: { every: 1 day }\n" + USERS, "1 day"),
        (HEAD + "schedule: { every: 0s }\n" + USERS, "0s"),
        (HEAD + "schedule: { daily_at: '02:00', misfire: never }\n" + USERS, "never"),
        (HEAD + "ledger: { tracking_table: 'a; DROP' }\n" + USERS, "'a; DROP'"),
        (HEAD + "entities: []\n", "[]"),
        (HEAD + "entities: Users\n", "Users"),
        (HEAD + "entities: [Users]\n", "Users"),
    ],
)
def test_a_bad_value_is_shown_at_the_value(made: Project, text: str, at: str | None) -> None:
    if at is not None:
        assert one(made, text, at)
    else:
        errors = [problem for problem in look(made, text) if problem.severity == "error"]
        assert [(text.splitlines()[problem.line - 1][problem.column - 1 :])[:2] for problem in errors] in (
            ["60"],
            ["99"],
        )


@pytest.mark.parametrize(
    ("text", "at", "key"),
    [
        (HEAD.replace('base_url: "https://api.example.com"', "timeout: 3s") + USERS, "{ timeout", "base_url"),
        (HEAD.replace("name: sync\n", "") + USERS, "version", "name"),
        (HEAD + "entities:\n  - endpoint: /users\n    query: SELECT Id FROM T\n", "endpoint", "name"),
        (HEAD + "entities:\n  - name: Users\n    query: SELECT Id FROM T\n", "name: Users", "endpoint"),
        (HEAD + "entities:\n  - name: Users\n    endpoint: /users\n", "name: Users", "sql"),
        (entity("results:\n  path: items"), "path", "accepted"),
        (HEAD.replace("{ base_url", "{ auth: { basic: { user: u } }, base_url") + USERS, "{ user", "password"),
        (HEAD + "schedule: { timezone: UTC }\n" + USERS, "{ timezone", "daily_at"),
        (entity("transform: [{ split: { field: A, pattern: x } }]"), "{ field", "into"),
    ],
)
def test_a_missing_key_is_shown_at_its_parent(made: Project, text: str, at: str, key: str) -> None:
    assert key in one(made, text, at)


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        (HEAD + "schedule: { every: 1h, cron: '0 2 * * *' }\n" + USERS, "{ every", "exactly one of"),
        (HEAD.replace("{ base_url", "{ auth: { bearer: x, header: { name: A, value: b } }, base_url") + USERS, "{ bearer", "exactly one"),
        (HEAD.replace("{ base_url", "{ auth: {}, base_url") + USERS, "{}", "exactly one of"),
        (entity("transform: [{ select: 'A', cut: [A] }]"), "{ select", "exactly one of"),
        (entity("sql: users.sql.j2"), "query", "not both"),
    ],
)  # fmt: skip
def test_one_of_several_keys_must_be_given_alone(made: Project, text: str, at: str, words: str) -> None:
    made.template("users.sql.j2", '{% extends "page.sql.j2" %}{% block query %}SELECT Id FROM Users{% endblock %}')
    assert words in one(made, text, at)


@pytest.mark.parametrize("text", ["[]", "just text", "42", "~", "- a\n- b", "---\n"])
def test_a_document_that_is_no_mapping_is_one_problem(made: Project, text: str) -> None:
    assert "mapping" in one(made, text)


def test_an_entity_takes_its_own_sql_over_the_query_of_the_defaults(made: Project) -> None:
    made.template("a.sql.j2", PAGED)
    text = (
        HEAD
        + "defaults: { query: SELECT Id FROM T, endpoint: /x }\nentities: [{ name: A, sql: a.sql.j2 }, { name: B }]\n"
    )
    loaded = examine(made.write(text), {})
    assert loaded.problems == []
    assert loaded.loaded
    assert [(made_.template, made_.query) for made_ in loaded.loaded.pipeline.entities] == [
        ("a.sql.j2", None),
        (None, "SELECT Id FROM T"),
    ]


def test_a_duplicate_entity_name_names_the_first_ones_line(made: Project) -> None:
    message = one(made, HEAD + USERS + USERS.removeprefix("entities:\n"), "Users\n    endpoint", "Users\n  - name")
    assert "Users" in message
    assert "line 6" in message


# Meaning


@pytest.mark.parametrize(
    "cron", ["99 2 * * *", "0 2 * *", "x", "0 2 * * * * * *", "@never", "*/0 * * * *", "\u00b2 * * * *"]
)
def test_a_bad_cron_line_is_shown(made: Project, cron: str) -> None:
    assert "cron" in one(made, HEAD + f"schedule: {{ cron: '{cron}' }}\n" + USERS, f"'{cron}'")


@pytest.mark.parametrize("zone", ["Asia/Jakarte", "Mars", "../etc/passwd", "Asia", "/etc/localtime", "x" * 3000])
def test_a_bad_zone_is_shown(made: Project, zone: str) -> None:
    assert "time zone" in one(
        made, HEAD + f"schedule: {{ daily_at: '02:00', timezone: '{zone}' }}\n" + USERS, f"'{zone}'"
    )


@pytest.mark.parametrize("text", ["items[", "a b", "a ==", "'", "items[?", "(" * 2000, "@.{a:" + "1" * 5000 + "}"])
def test_a_bad_jmespath_is_shown(made: Project, text: str) -> None:
    spec = entity(f'results: {{ path: items, accepted: "{text}" }}')
    assert "JMESPath" in one(made, spec, f'"{text}"')


@pytest.mark.parametrize(
    "text", ["A ==", "A |", "{{ A }}", "A | nofilter", "A is notest", "'x", "(" * 2000, "1" * 5000, "A B"]
)
def test_a_bad_expression_is_shown(made: Project, text: str) -> None:
    message = one(made, entity(f'transform:\n  - select: "{text}"'), f'"{text}"')
    assert "expression" in message
    assert len(message) < 1000
    assert "expression" in one(made, entity(f'transform:\n  - add: {{ New: "{text}" }}'), f'"{text}"')


@pytest.mark.parametrize("pattern", ["(", "a{99999999999999999999}", "(" * 2000, "[z-a]", "*"])
def test_a_bad_regular_expression_is_shown(made: Project, pattern: str) -> None:
    text = entity(f'transform:\n  - split: {{ field: A, pattern: "{pattern}", into: [B] }}')
    assert one(made, text, f'"{pattern}"')


def test_a_misspelt_filter_of_an_expression_is_answered_with_the_nearest(made: Project) -> None:
    assert "did you mean 'upper'" in one(made, entity('transform:\n  - add: { New: "A | uper" }'), '"A | uper"')


@pytest.mark.parametrize(("text", "nearest"), [("lowr", "lower"), ("Int", "int"), ("integer", "int")])
def test_an_unknown_conversion_is_shown_with_the_nearest(made: Project, text: str, nearest: str) -> None:
    message = one(made, entity(f"transform: [{{ convert: {{ Name: {text} }} }}]"), text)
    assert f"unknown conversion {text!r}" in message
    assert f"did you mean {nearest!r}" in message


def test_oauth2_over_http_is_refused(made: Project) -> None:
    auth = "auth: { oauth2: { token_url: 'http://id.example.com/t', client_id: a, client_secret: b } }"
    assert "https" in one(made, HEAD.replace("{ base_url", f"{{ {auth}, base_url") + USERS, "'http://id")


@pytest.mark.parametrize(
    "text", ["hello", "Server", "postgresql://u:p@h/db", "user id=a;password=b", "Driver={x;PWD=y"]
)
def test_a_connection_string_of_no_known_kind_is_shown_by_its_alias_alone(made: Project, text: str) -> None:
    message = one(made, HEAD.replace('"sqlite:///source.db"', f'"{text}"') + USERS, f'"{text}"')
    assert "'default'" in message
    assert "sqlite:///" in message or "never closes" in message
    assert text not in message.replace("sqlite:///file.db", "")


def test_an_ado_net_key_without_counterpart_is_shown(made: Project) -> None:
    text = HEAD.replace('"sqlite:///source.db"', '"data source=h;initial catalog=d;colour=blue"') + USERS
    assert "'colour'" in one(made, text, '"data source')


def test_an_id_that_is_not_sent_is_a_warning(made: Project) -> None:
    (problem,) = look(made, entity("fields: { Name: string }"))
    assert problem.severity == "warning"
    assert "'Id'" in problem.message


# Templates


def template(made: Project, text: str, id_: str = "Id", name: str = "a.sql.j2") -> list[Problem]:
    made.template(name, text)
    return look(made, HEAD + f"entities: [{{ name: A, endpoint: /a, sql: {name}, id: {id_} }}]\n")


def template_problem(made: Project, text: str, at: str | None = None, id_: str = "Id") -> str:
    """The message of the only problem, which stands in the template at the text `at`."""
    found = template(made, text, id_)
    assert len(found) == 1, [str(problem) for problem in found]
    assert Path(found[0].file).name == "a.sql.j2"
    if at is not None:
        where = text.index(at)
        expected = (text.count("\n", 0, where) + 1, where - text.rfind("\n", 0, where))
        assert (found[0].line, found[0].column) == expected, str(found[0])
    return found[0].message


@pytest.mark.parametrize(
    "text",
    [
        PAGED,
        OWN,
        OWN.replace("LIMIT {{ limit }}", "OFFSET 0 ROWS FETCH NEXT {{ limit }} ROWS ONLY"),
        OWN.replace("FROM Users", "FROM dbo.Users u").replace("ORDER BY Id", "order  by u.Id ASC"),
        OWN.replace("ORDER BY Id", 'ORDER BY "Id", Name'),
        OWN.replace("ORDER BY Id", "-- OFFSET 10 is not used\nORDER BY [Id]"),
        OWN.replace("Name FROM", "'OFFSET 5' AS Name FROM"),
        PAGED.replace("Name FROM", "ROW_NUMBER() OVER (ORDER BY Name) AS N FROM"),
        PAGED.replace("Name FROM", "(SELECT MAX(X) FROM Y ORDER BY Z LIMIT 1) AS N FROM"),
        PAGED.replace(
            "{% block query %}", "{% block with %}WITH x AS (SELECT 1 AS one){% endblock %}\n{% block query %}"
        ),
        PAGED.replace(
            "Users\n", "Users WHERE Changed > {{ run.last_success }} AND D = {{ dialect }} AND E = {{ entity }}\n"
        ),
        PAGED.replace("Name FROM", "{{ 'Na me' | identifier }} FROM"),
        "{% set t = 'x' %}" + PAGED.replace("Name FROM", "{{ entity | upper }} AS N FROM"),
    ],
)
def test_a_good_template_has_no_problems(made: Project, text: str) -> None:
    assert [str(problem) for problem in template(made, text)] == []


def test_a_common_table_expression_may_order_and_limit_its_own_rows(made: Project) -> None:
    text = PAGED.replace(
        "{% block query %}",
        "{% block with %}WITH x AS (SELECT Id FROM T ORDER BY D LIMIT 5){% endblock %}\n{% block query %}",
    )
    assert [str(problem) for problem in template(made, text)] == []


@pytest.mark.parametrize(
    "text", [PAGED.replace("Name", "Offset"), PAGED.replace("Name", "u.Offset AS Place"), OWN.replace("Name", "Offset")]
)
def test_a_column_called_offset_is_no_paging(made: Project, text: str) -> None:
    assert [str(problem) for problem in template(made, text)] == []


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (OWN.replace("LIMIT {{ limit }}", "LIMIT {{ limit }} OFFSET {{ after }}"), "OFFSET"),
        (OWN.replace("LIMIT {{ limit }}", "OFFSET {{ after }} ROWS FETCH NEXT {{ limit }} ROWS ONLY"), "OFFSET"),
        (OWN.replace("LIMIT {{ limit }}", "LIMIT {{ after }}, {{ limit }}"), "LIMIT"),
        (OWN.replace("LIMIT {{ limit }}", "limit 100, {{ limit }}"), "limit 100"),
        (OWN.replace("LIMIT {{ limit }}", "LIMIT {{ limit }} offset 100"), "offset"),
        (PAGED.replace("Users\n", "Users\nLIMIT 10 OFFSET 5\n"), "OFFSET"),
        (PAGED.replace("Users\n", "Users\nORDER BY Id OFFSET 20 ROWS\n"), "OFFSET"),
    ],
)
def test_paging_by_offset_is_refused_with_the_reason(made: Project, text: str, at: str) -> None:
    message = template_problem(made, text, at)
    assert "OFFSET" in message
    assert "page.sql.j2" in message


@pytest.mark.parametrize(
    "text",
    [
        OWN.replace("ORDER BY Id\n", ""),
        OWN.replace("ORDER BY Id", "ORDER BY Name"),
        OWN.replace("ORDER BY Id", "ORDER BY Name, Id"),
        OWN.replace("ORDER BY Id", "ORDER BY Idx"),
        OWN.replace("ORDER BY Id", "-- ORDER BY Id"),
        OWN.replace("FROM Users", "FROM (SELECT * FROM Users ORDER BY Id) u").replace("\nORDER BY Id\n", "\n"),
    ],
)
def test_own_paging_without_an_order_by_the_id_is_refused(made: Project, text: str) -> None:
    assert "ORDER BY" in template_problem(made, text)


def test_a_composite_key_must_be_ordered_by_all_of_its_columns_in_turn(made: Project) -> None:
    text = (
        "SELECT a, b FROM T {% if after is not none %}WHERE (a, b) > ({{ after.a }}, {{ after.b }}){% endif %}\n"
        "ORDER BY a, b LIMIT {{ limit }}"
    )
    assert template(made, text, "[a, b]") == []
    assert "ORDER BY" in template_problem(made, text.replace("BY a, b", "BY b, a"), id_="[a, b]")
    assert "ORDER BY" in template_problem(made, text.replace("BY a, b", "BY a"), id_="[a, b]")


@pytest.mark.parametrize(
    "ending", ["ORDER BY Id", "LIMIT 10", "order by Name desc", "ORDER BY Id OFFSET 0 ROWS FETCH NEXT 5 ROWS ONLY"]
)
def test_an_order_or_limit_inside_the_query_block_is_refused(made: Project, ending: str) -> None:
    message = template_problem(made, PAGED.replace("Users\n", f"Users\n{ending}\n"), ending)
    assert "leave it out" in message


def test_after_and_limit_may_stand_in_files_that_a_template_includes(made: Project) -> None:
    made.template("beyond.sql.j2", "WHERE Id > {{ after or 0 }}\n{% include 'ending.sql.j2' %}")
    made.template("ending.sql.j2", "ORDER BY Id LIMIT {{ limit }}")
    made.template("own.sql.j2", "SELECT Id, Name FROM Users\n{% include 'beyond.sql.j2' %}")
    spec = HEAD + "entities: [{ name: Users, endpoint: /u, sql: own.sql.j2 }]\n"
    assert [str(problem) for problem in look(made, spec)] == []
    made.template("ending.sql.j2", "ORDER BY Id")
    (problem,) = look(made, spec)
    assert "`limit`" in problem.message


@pytest.mark.parametrize(
    "text",
    [
        "SELECT Id FROM Users ORDER BY Id",
        "SELECT Id FROM Users ORDER BY Id LIMIT {{ limit }}",
        "SELECT Id FROM Users WHERE Id > {{ after or 0 }} ORDER BY Id",
        # The engine takes a page that is not full for the last one, so a limit of its own would end the run there.
        "SELECT Id FROM Users WHERE Id > {{ after or 0 }} ORDER BY Id limit 100",
        "{# limit #}SELECT Id FROM Users WHERE Id > {{ after or 0 }} ORDER BY Id LIMIT 100",
        "SELECT Id FROM Users -- after\nORDER BY Id LIMIT {{ limit }}",
    ],
)
def test_a_template_without_after_or_limit_would_read_one_page_and_is_refused(made: Project, text: str) -> None:
    message = template_problem(made, text)
    assert "page.sql.j2" in message


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        (PAGED.replace("Name FROM", "{{ nothing }} FROM"), "nothing", "'nothing' is undefined"),
        (OWN.replace("{{ limit }}", "{{ limt }}"), "limt", "did you mean 'limit'"),
        (OWN.replace("{{ after }}", "{{ aftr }}"), "aftr", "did you mean 'after'"),
        (PAGED.replace("Name FROM", "{{ 'x' | identifer }} FROM"), "identifer", "did you mean 'identifier'"),
        (PAGED.replace("Name FROM", "{% if 1 is evn %}a{% endif %} FROM"), "evn", "did you mean 'even'"),
    ],
)
def test_an_unknown_name_in_a_template_is_shown_where_it_stands(made: Project, text: str, at: str, words: str) -> None:
    assert words in template_problem(made, text, at)


def test_every_undefined_name_of_a_template_is_shown(made: Project) -> None:
    found = template(made, PAGED.replace("Name FROM", "{{ one }},\n{{ two }} FROM"))
    assert [(problem.line, problem.column) for problem in found] == [(3, 15), (4, 4)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (PAGED.replace("{% endblock %}", ""), None),
        (PAGED.replace("Name FROM", "{{ Name FROM"), 3),
        (PAGED.replace("Name FROM", "{{ 1 + }} FROM"), 3),
        (PAGED + "{% endfor %}\n", 5),
        ("\n\n{% oops %}\n" + PAGED, 3),
        (PAGED.replace("Name FROM", "{{ entity.nothing }} FROM"), 3),
        (PAGED.replace("Name FROM", "{{ run.nothing }} FROM"), 3),
        (PAGED.replace("Name FROM", "{{ ''.__class__.__mro__ }} FROM"), 3),
        (PAGED.replace("Name FROM", "{{ [1, 2] }} FROM"), 3),
        (PAGED.replace("Name FROM", "{{ 1 / 0 }} FROM"), 3),
        (PAGED.replace("Name FROM", "{{ 5 | identifier }} FROM"), 3),
        ('{% extends "pag.sql.j2" %}\n', 1),
        ('SELECT 1\n{% include "none.sql.j2" %}\n', 2),
    ],
)
def test_a_template_that_cannot_be_rendered_is_shown_at_its_line(made: Project, text: str, line: int | None) -> None:
    found = template(made, text)
    assert len(found) == 1, [str(problem) for problem in found]
    assert Path(found[0].file).name == "a.sql.j2"
    assert line is None or found[0].line == line, str(found[0])


@pytest.mark.parametrize(
    "text",
    [
        '{% extends "a.sql.j2" %}',
        '{% include "a.sql.j2" %}',
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        OWN + '{% if false %}{% extends "none.sql.j2" %}{% endif %}',
        "{{ " + "(" * 2000,
        "SELECT " + "1" * 10 + " {{ " + "1" * 5000 + " }}",
        "",
    ],
)
def test_a_template_that_loops_or_overflows_is_a_problem_and_no_crash(made: Project, text: str) -> None:
    assert template(made, text)


@pytest.mark.parametrize("name", ["../secret.sql.j2", "a/../../secret.sql.j2", "/etc/passwd", "..", "a/.."])
def test_a_template_outside_the_project_is_refused(made: Project, name: str) -> None:
    (made.folder / "templates" / "secret.sql.j2").write_text(OWN)
    text = HEAD + f"entities: [{{ name: A, endpoint: /a, sql: {name} }}]\n"
    assert "out of the project" in one(made, text, name)


@pytest.mark.parametrize("how", ["file", "folder"])
def test_a_link_out_of_the_project_is_refused(made: Project, tmp_path: Path, how: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.sql.j2").write_text(OWN)
    sql = made.folder / "templates" / "sql"
    if how == "file":
        (sql / "a.sql.j2").symlink_to(outside / "a.sql.j2")
    else:
        (sql / "b").symlink_to(outside)
    name = "a.sql.j2" if how == "file" else "b/a.sql.j2"
    assert "link" in one(made, HEAD + f"entities: [{{ name: A, endpoint: /a, sql: {name} }}]\n", name)


def test_an_extended_template_outside_the_project_is_refused(made: Project, tmp_path: Path) -> None:
    (tmp_path / "outside.sql.j2").write_text(OWN)
    (made.folder / "templates" / "sql" / "b.sql.j2").symlink_to(tmp_path / "outside.sql.j2")
    for target in ("b.sql.j2", "../../../outside.sql.j2"):
        assert template(made, f'{{% include "{target}" %}}')


@pytest.mark.parametrize("name", ["a\\0b.sql.j2", "x" * 5000, "a\\nb.sql.j2", "sub", "."])
def test_a_strange_template_name_is_a_problem(made: Project, name: str) -> None:
    (made.folder / "templates" / "sql" / "sub").mkdir()
    assert one(made, HEAD + f'entities: [{{ name: A, endpoint: /a, sql: "{name}" }}]\n')


def test_a_template_that_is_not_utf_8_is_a_problem(made: Project) -> None:
    made.template("a.sql.j2", "").write_bytes(b"SELECT '\xff'")
    assert "a.sql.j2" in one(made, HEAD + "entities: [{ name: A, endpoint: /a, sql: a.sql.j2 }]\n", "a.sql.j2")


def test_the_template_of_the_connections_dialect_is_the_one_that_is_checked(made: Project) -> None:
    made.template("a.sql.j2", PAGED)
    made.template("mssql/a.sql.j2", PAGED.replace("Name", "{{ nothing }}"))
    assert look(made, HEAD + "entities: [{ name: A, endpoint: /a, sql: a.sql.j2 }]\n") == []
    text = HEAD.replace("sqlite:///source.db", "data source=h;initial catalog=d") + (
        "entities: [{ name: A, endpoint: /a, sql: a.sql.j2 }]\n"
    )
    (problem,) = look(made, text)
    assert problem.file.endswith("mssql/a.sql.j2")


# Inline


@pytest.mark.parametrize(
    ("query", "line", "column"),
    [
        ('query: "SELECT {{ nothing }} FROM T"', 7, None),
        ("query: SELECT {{ nothing }} FROM T", 7, 22),
        ("query: OFFSET 7 ROWS FETCH NEXT 1 ROWS ONLY", 7, 12),
        ("query: |\n      SELECT Id,\n        {{ nothing }} FROM T", 9, 12),
        ("query: >-\n      SELECT Id,\n      {{ nothing }} FROM T", 8, None),
        ("query: |\n      SELECT Id\n      FROM T\n      ORDER BY Id", 10, None),
        (
            "query: |\n      SELECT Id FROM T WHERE Id > {{ after or 0 }}\n      ORDER BY Id LIMIT {{ limit }} OFFSET 7",
            9,
            None,
        ),
        ("query: |\n      SELECT Id\n      FROM {{ T }", 9, None),
    ],
)
def test_a_problem_of_an_inline_query_is_shown_in_the_spec(
    made: Project, query: str, line: int, column: int | None
) -> None:
    (problem,) = look(made, HEAD + f"entities:\n  - name: A\n    {query}\n    endpoint: /a\n")
    assert problem.file == str(made.file)
    assert problem.line == line
    assert column in (None, problem.column)


def test_inline_queries_may_page_themselves_and_may_end_with_a_semicolon(made: Project) -> None:
    queries = [
        "SELECT Id FROM T;",
        "SELECT Id FROM T WHERE Id > {{ after or 0 }} ORDER BY Id LIMIT {{ limit }}",
        "SELECT Id FROM T WHERE a = 'b' -- note",
    ]
    for query in queries:
        assert look(made, HEAD + f"entities: [{{ name: A, endpoint: /a, query: {json.dumps(query)} }}]\n") == []


# The command


def test_several_files_are_checked_at_once_and_the_exit_code_is_2(made: Project) -> None:
    good, bad = made.folder / "good.yaml", made.folder / "bad.yaml"
    good.write_text(HEAD + USERS)
    bad.write_text(HEAD + USERS + "x: 1\n")
    finished = made.cli("validate", "good.yaml", "bad.yaml", "none.yaml")
    assert finished.returncode == 2
    lines = finished.stdout.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["bad.yaml:9:1:", "none.yaml:1:1:"]
    assert "3 specs: 2 errors, 0 warnings" in finished.stderr


def test_warnings_alone_leave_exit_code_0(made: Project) -> None:
    made.write(entity("fields: { Name: string }"))
    finished = made.cli("validate", "pipelines/sync.yaml")
    assert finished.returncode == 0
    assert re.fullmatch(r"pipelines/sync\.yaml:\d+:\d+: warning: .*\n", finished.stdout)
    assert "0 errors, 1 warning" in finished.stderr


def test_a_problem_of_a_template_names_the_file_as_seen_from_here(made: Project) -> None:
    made.template("a.sql.j2", PAGED.replace("Name", "{{ nothing }}"))
    made.write(HEAD + "entities: [{ name: A, endpoint: /a, sql: a.sql.j2 }]\n")
    finished = made.cli("validate", "pipelines/sync.yaml")
    assert finished.stdout.startswith("templates/sql/a.sql.j2:3:15: ")


def test_json_is_one_document_whatever_is_wrong(made: Project) -> None:
    made.write(HEAD + USERS + "schedul: 1\n")
    finished = made.cli("validate", "pipelines/sync.yaml", "none.yaml", "--format", "json")
    assert finished.returncode == 2
    first, second = json.loads(finished.stdout)["problems"]
    assert first == {
        "file": "pipelines/sync.yaml", "line": 9, "column": 1, "severity": "error",
        "message": "unknown key 'schedul'; did you mean 'schedule'?",
    }  # fmt: skip
    assert second["file"] == "none.yaml"
    made.write(HEAD + USERS)
    clean = made.cli("validate", "pipelines/sync.yaml", "--format", "json")
    assert (clean.returncode, json.loads(clean.stdout)) == (0, {"problems": []})


def test_github_annotations_escape_what_github_would_misread(made: Project) -> None:
    odd = made.folder / "a,b:c%d.yaml"
    odd.write_text(HEAD + entity("fields: { Name: string }").removeprefix(HEAD) + '"50%\\r\\nx": 1\n')
    finished = made.cli("validate", odd.name, "--format", "github")
    assert finished.returncode == 2
    warning, error = sorted(finished.stdout.splitlines(), reverse=True)
    assert warning.startswith("::warning file=a%2Cb%3Ac%25d.yaml,line=9,col=5::")
    assert error.startswith("::error file=a%2Cb%3Ac%25d.yaml,line=10,col=1::unknown key ")
    assert "50%25" in error


def test_no_file_and_a_wrong_option_are_usage_errors(made: Project) -> None:
    assert made.cli("validate").returncode == 2
    wrong = made.cli("validate", "x.yaml", "--formt", "json")
    assert wrong.returncode == 2
    assert "--format" in wrong.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    finished = CliRunner().invoke(cli, [command, "--help"])
    assert finished.exit_code == 0
    assert "Usage: " in finished.stdout
    assert "Examples:" in finished.stdout
    assert f"  syncledger {command}" in finished.stdout
    # What an option is for is never left to its name.
    assert re.search(r"--help +Show this message", finished.stdout)


def test_the_help_of_the_program_lists_every_command_and_the_exit_codes(made: Project) -> None:
    finished = made.cli("--help")
    assert finished.returncode == 0
    assert finished.stderr == ""
    assert all(f"  {name} " in finished.stdout for name in COMMANDS)
    assert "Exit codes:" in finished.stdout
    assert "  syncledger run " in finished.stdout


# With the databases


def connected(made: Project, **keys: Any) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of `validate --connect` and its problems; in this process, since there are many."""
    made.entity(**keys)
    finished = CliRunner().invoke(
        cli, ["validate", str(made.write()), "--connect", "--format", "json"], standalone_mode=False
    )
    if finished.exception:
        raise finished.exception
    problems = json.loads(finished.stdout)["problems"]
    return finished.return_value, [problem for problem in problems if "does not exist yet" not in problem["message"]]


def test_connect_as_a_process_has_the_same_exit_codes(made: Project) -> None:
    made.entity()
    made.write()
    finished = made.cli("validate", "pipelines/sync.yaml", "--connect")
    assert finished.returncode == 4
    assert "source.db" in finished.stdout
    made.users(1)
    finished = made.cli("validate", "pipelines/sync.yaml", "--connect")
    assert finished.returncode == 0
    assert finished.stdout.splitlines()[1:] == [], "the ledger that does not exist yet, and nothing else"


def test_connect_finds_nothing_wrong_and_writes_nothing(made: Project) -> None:
    made.users(3)
    before = (made.folder / "source.db").read_bytes()
    assert connected(made, fields={"Id": "int", "Name": "string?"}) == (0, [])
    assert (made.folder / "source.db").read_bytes() == before
    assert sorted(file.name for file in made.folder.iterdir()) == ["pipelines", "source.db", "templates"]


def test_connect_warns_of_a_ledger_that_does_not_exist(made: Project) -> None:
    made.users(3)
    made.entity()
    finished = made.cli("validate", made.write(), "--connect")
    assert finished.returncode == 0
    assert "every record counts as new" in finished.stdout


def test_connect_writes_nothing_to_a_ledger_that_is_there(made: Project) -> None:
    made.users(3)
    sqlite3.connect(made.folder / "log.db").close()
    (made.folder / "log.db").touch()
    assert connected(made) == (0, [])
    assert (made.folder / "log.db").read_bytes() == b""


def test_connect_counts_null_ids_as_a_warning_and_repeated_ones_as_an_error(made: Project) -> None:
    made.fill("Users", "Id INTEGER, Name TEXT", [(1, "a"), (None, "b"), (None, "c")])
    made.fill("Twice", "Id INTEGER, Name TEXT", [(1, "a"), (1, "b"), (1, "c"), (2, "d")])
    made.entity("Twice", id="Id")
    code, problems = connected(made, id="Id")
    assert code == 2
    found = {problem["severity"]: problem for problem in problems}
    assert "2 rows without an ID" in found["warning"]["message"]
    assert "2 rows beyond the first of its ID" in found["error"]["message"]
    lines = made.file.read_text().splitlines()
    assert all(lines[problem["line"] - 1].strip() == "id: Id" for problem in problems)


def test_connect_takes_null_ids_alone_as_exit_0(made: Project) -> None:
    made.fill("Users", "Id INTEGER, Name TEXT", [(1, "a"), (None, "b")])
    code, (problem,) = connected(made)
    assert (code, problem["severity"]) == (0, "warning")


def test_connect_names_a_field_that_no_column_gives_at_the_fields(made: Project) -> None:
    made.users(1)
    code, (problem,) = connected(made, fields={"Id": "int", "Nmae": "string"})
    assert code == 2
    assert "'Nmae'" in problem["message"]
    assert made.file.read_text().splitlines()[problem["line"] - 1].strip() == "Nmae: string"


def test_connect_names_a_missing_id_column_table_and_file_with_exit_4(made: Project) -> None:
    made.users(1)
    code, (problem,) = connected(made, id="Nope")
    assert code in (2, 4)
    assert "Nope" in problem["message"]
    made.spec["entities"].clear()
    code, (problem,) = connected(made, query="SELECT * FROM Absent")
    assert code == 4
    assert "Absent" in problem["message"]
    made.spec["entities"].clear()
    made.spec["connections"]["default"] = "sqlite:///absent.db"
    code, (problem,) = connected(made)
    assert code == 4
    assert "absent.db" in problem["message"]
    assert not (made.folder / "absent.db").exists()


def test_connect_looks_at_every_entity_when_one_connection_fails(made: Project) -> None:
    made.users(1)
    made.spec["connections"]["ess"] = "sqlite:///absent.db"
    made.entity("Away", connection="ess")
    code, problems = connected(made, fields={"Id": "int", "Nope": "string"})
    # A spec that is wrong weighs more than a database that is away.
    assert code in (2, 4)
    assert len(problems) == 2
    assert any("absent.db" in problem["message"] for problem in problems)
    assert any("'Nope'" in problem["message"] for problem in problems)


def test_connect_finds_a_ledger_that_is_no_database(made: Project) -> None:
    made.users(1)
    (made.folder / "log.db").write_text("this is not a database, whatever its name says" * 20)
    code, (problem,) = connected(made)
    assert code == 4
    assert "ledger" in problem["message"]


def test_specs_that_share_a_ledger_and_names_are_told(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.entity()
    first = project.write()
    project.spec["name"] = "other"
    second = first.with_name("other.yaml")
    second.write_text(yaml.safe_dump(project.spec), encoding="utf-8")
    shown = project.cli("validate", first, second)
    assert shown.returncode == 0
    assert f"{second}:" in shown.stdout
    assert "share a ledger" in shown.stdout
    second.write_text(first.read_text(encoding="utf-8"), encoding="utf-8")
    assert project.cli("validate", first, second).returncode == 2


TOO_LONG = {
    "api.timeout": "99999999999999h",
    "api.retry.wait": "8785h",
    "api.retry.max_wait": "9" * 400 + "ms",
    "api.idempotency_max_age": "8784.1h",
    "api.breaker.for": "527041m",
    "lease.expires": "31622401s",
    "schedule.every": "31622400001ms",
    "defaults.reject_delay": "10000h",
    "entities.0.reject_delay": "10000h",
    "entities.0.changed_since.overlap": "10000h",
    "entities.0.changed_since.full_check_every": "10000h",
}


def test_every_duration_has_a_longest_one_and_a_longer_is_told_where_it_stands(made: Project) -> None:
    """A wait that the system cannot wait for, or that ends after the last date, would end a thread with OverflowError."""
    spec = made.spec
    made.entity(changed_since={"column": "Changed"})
    spec["api"]["breaker"] = {"after": 3}
    for path, text in TOO_LONG.items():
        *steps, last = path.split(".")
        holder: Any = spec
        for step in steps:
            holder = holder[int(step)] if step.isdecimal() else holder.setdefault(step, {})
        holder[last] = text
    found = look(made, yaml.safe_dump(spec))
    longest = [problem for problem in found if "the longest duration is 366 days (8784h)" in problem.message]
    assert len(longest) == len(TOO_LONG), [str(problem) for problem in found]
    assert sorted(problem.message.split("'")[1] for problem in longest) == sorted(
        path.split(".")[-1] for path in TOO_LONG
    )
    assert all(len(problem.message) < 200 for problem in longest)
    of_schema = json.dumps(SCHEMA.whole).count(json.dumps(durations.PATTERN))
    # An entity's are there once more, under `defaults`, unless it refers to them.
    assert of_schema <= len(TOO_LONG), "a duration of the schema is missing above"


def test_the_longest_duration_is_taken(made: Project) -> None:
    made.entity()
    made.spec["api"]["timeout"] = "8784h"
    made.spec["lease"] = {"expires": "31622400s"}
    assert look(made, yaml.safe_dump(made.spec)) == []


def test_a_duration_in_a_variable_is_checked_too(made: Project) -> None:
    made.entity()
    made.spec["api"]["timeout"] = "${TIMEOUT}"
    (problem,) = examine(made.write(yaml.safe_dump(made.spec)), {"TIMEOUT": "9999999h"}).problems
    assert "'timeout' is '9999999h'; the longest duration is 366 days" in problem.message
