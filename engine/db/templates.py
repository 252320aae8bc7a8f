"""Renders a Jinja template to a statement whose values are bound, never inserted into the text.

`{{ value }}` becomes `?`, and the value a parameter. Only literal template text, `| identifier` and `| table` reach the
statement as text. Templates run sandboxed and bounded, and an undefined name is an error.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    Template,
    TemplateNotFound,
    Undefined,
    UndefinedError,
    nodes,
    pass_context,
)
from jinja2.runtime import Context

from engine.db import bounded
from engine.db.bounded import BoundedSandbox, budget
from engine.db.compiled import Compiled
from engine.db.dialect import Dialect, template_folders
from engine.db.statement import Statement

PAGE = "page.sql.j2"
PLAIN_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_$#]*(\.[A-Za-z_][A-Za-z0-9_$#]*){0,2}")
_BINDABLE = (str, int, float, Decimal, datetime, date, bytes, bytearray, UUID, type(None))


class Sql(str):
    """Text that is put into a statement as it is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """One column of the paging key: its name as the source reports it, and the last value read."""

    name: str
    after: Any


class After(Mapping[str, Any]):
    """The last key read, for templates of composite keys: `after.emp_no`."""

    def __init__(self, names: Sequence[str], values: Sequence[Any]) -> None:
        self._values = dict(zip(names, values, strict=True))

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The facts about the run that templates can use. Times are naive UTC, as in databases."""

    id: str
    started: datetime
    last_success: datetime | None


@dataclass(frozen=True, slots=True)
class TrackedIn:
    """The tracking table as the source's server names it, and whether the ID is a GUID."""

    table: str
    entity: str
    guid: bool


@dataclass(frozen=True, slots=True)
class Cut:
    """Cuts `rows` rows into ranges of `step` rows."""

    step: int
    rows: int


@dataclass(frozen=True, slots=True)
class Since:
    """Selects only the rows whose column is at least a value, or NULL."""

    column: str
    value: Any

    def __str__(self) -> str:
        return self.value.hex() if isinstance(self.value, bytes) else str(self.value)


@dataclass(frozen=True, slots=True)
class Newest:
    """Selects the greatest value of a column, not above `upto` if that is given."""

    column: str
    upto: Any = None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page to read: the variables of an entity's templates."""

    entity: str
    run: RunFacts
    limit: int
    names: tuple[str, ...] = ()
    after: tuple[Any, ...] | None = None
    count: bool = False
    find: tuple[tuple[Any, ...], ...] = ()
    """Look up the rows with these keys, instead of a page."""
    keys: bool = False
    """Select the key columns only."""
    total: bool = False
    """Count all rows, instead of a page."""
    twins: bool = False
    """Select the keys that differ only in case or trailing spaces, instead of a page."""
    tracking: TrackedIn | None = None
    """Set if the source database itself can read the tracking table; delivered rows are then left out."""

    upto: tuple[Any, ...] = ()
    """The last key of the range to read; empty for no upper bound."""
    cut: Cut | None = None
    """Select the keys that cut the rows into ranges, instead of a page."""
    since: Since | None = None
    """Select only the rows changed since a value, instead of all."""
    newest: Newest | None = None
    """Select the greatest value of a column, instead of a page."""

    def context(self, dialect: str) -> dict[str, Any]:
        """Return the template variables of this request."""
        values = self.after
        scalar = None if values is None else values[0] if len(values) == 1 else After(self.names, values)
        return {
            "entity": self.entity,
            "dialect": dialect,
            "run": self.run,
            "limit": self.limit,
            "after": scalar,
            "count": self.count,
            "find": self.find,
            "keys": self.keys,
            "total": self.total,
            "twins": self.twins,
            "tracking": self.tracking,
            "upto": self.upto,
            "cut": self.cut,
            "since_": self.since,
            "newest_": self.newest,
            "key": [KeyColumn(name, values[index] if values else None) for index, name in enumerate(self.names)],
        }


PAGE_VARIABLES = frozenset(PageRequest("", RunFacts("", datetime.min, None), 0).context(""))


@dataclass(slots=True)
class Templates:
    """The SQL templates of one dialect: the project's folder first, then the shipped one; in each, the dialect's folder first."""

    root: Path
    dialect: Dialect
    environment: Environment = field(init=False)
    _queries: dict[str, Template] = field(init=False, default_factory=dict)
    """Inline queries, compiled once for all their pages."""
    _scripts: dict[str, Template] = field(init=False, default_factory=dict)
    """Inline SQL of jobs, compiled once for all items."""

    def __post_init__(self) -> None:
        roots = template_folders(self.root)
        folders = [folder / part for folder in roots for part in (self.dialect.name, "")]
        self.environment = BoundedSandbox(
            loader=_InsideLoader([str(folder) for folder in folders]),
            undefined=StrictUndefined,
            autoescape=False,
            finalize=_bind,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=Compiled(roots[-1], (bounded.__file__, __file__)),
        )
        self.environment.tests["long"] = is_long
        self.environment.tests["ascii"] = _is_ascii
        self.environment.filters = {**self.environment.filters, "identifier": self._identifier, "table": self._table}

    def statement(self, name: str, /, **context: Any) -> Statement:
        """Render a shipped or project template by its name."""
        return _render(self.environment.get_template(name).render, {**self._words, **context})

    def page(self, template: str | None, query: str | None, request: PageRequest) -> Statement:
        """Render the statement of one page of an entity, from its template file or its inline query."""
        source = self.environment.get_template(template) if template else self._inline(query or "")
        return _render(source.render, request.context(self.dialect.name))

    def script(self, text: str) -> Template:
        """A template of a job: a file if the text ends with `.j2`, otherwise the text itself. Raises `TemplateError`."""
        if text.endswith(".j2"):
            return self.environment.get_template(text)
        if text not in self._scripts:
            self._scripts[text] = self.environment.from_string(text)
        return self._scripts[text]

    def render(self, template: Template, context: Mapping[str, Any]) -> Statement:
        """Render a template of a job, with its values bound. Raises `TemplateError`."""
        return _render(template.render, context)

    def _inline(self, query: str) -> Template:
        if query not in self._queries:
            self._queries[query] = self.environment.from_string(wrap(query))
        return self._queries[query]

    @property
    def _words(self) -> dict[str, Any]:
        return {"now": Sql(self.dialect.now), "types": {name: Sql(text) for name, text in self.dialect.types}}

    def wrapped(self, template: str | None, query: str | None) -> bool:
        """True if `page.sql.j2` pages the SQL, directly or through the user's own templates."""
        assert self.environment.loader is not None, "set in __post_init__"  # noqa: S101
        pending = [self.environment.loader.get_source(self.environment, template)[0] if template else wrap(query or "")]
        while pending:
            for node in self.environment.parse(pending.pop()).find_all(nodes.Extends):
                if isinstance(node.template, nodes.Const):
                    if node.template.value == PAGE:
                        return True
                    pending.append(self.environment.loader.get_source(self.environment, node.template.value)[0])
        return False

    def _identifier(self, name: object) -> Sql:
        if isinstance(name, Undefined) or not isinstance(name, str) or not name or "\0" in name:
            raise UndefinedError(f"identifier needs the name of a column or table, not {name!r}")
        return Sql(self.dialect.quote(name))

    def _table(self, name: object) -> Sql:
        """Quote a table name of the spec; it refers to the same table as without quotes."""
        if not isinstance(name, str) or not PLAIN_TABLE.fullmatch(name):
            raise UndefinedError(f"table needs a plain name such as TB_M_USER or dbo.TB_M_USER, not {name!r}")
        return Sql(self.dialect.table(name))


def is_long(value: object) -> bool:
    """True for text of more than 100 bytes in UTF-8, which MariaDB's driver gets as bytes (docs/adr/0004-mariadb-text.md)."""
    return isinstance(value, str) and len(value.encode(errors="surrogatepass")) > 100


def _is_ascii(value: object) -> bool:
    return isinstance(value, str) and value.isascii()


def pages_itself(source: str) -> bool:
    """True for SQL that uses `after` or `limit`, or extends a template, and so is not wrapped by the engine."""
    if re.search(r"\{%-?\s*extends\b", source):
        return True
    # Split at closing braces first: a single regular expression takes quadratic time on many opening braces.
    opened = (re.split(r"\{[{%]", piece, maxsplit=1) for piece in source.split("}"))
    return any(len(parts) > 1 and re.search(r"\b(after|limit)\b", parts[1]) for parts in opened)


def wrap(query: str) -> str:
    """Turn an inline query into a template that the engine pages, unless it pages itself."""
    if pages_itself(query):
        return query
    return f'{{% extends "{PAGE}" %}}{{% block query %}}\n{query.rstrip().rstrip(";")}\n{{% endblock %}}'


class _InsideLoader(FileSystemLoader):
    """Refuses a file that a link leads out of the template folders."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        source, file, uptodate = super().get_source(environment, template)
        real = Path(file).resolve()
        shipped = template_folders(Path())[-1].resolve()
        if real.parent == shipped and template != PAGE and str(shipped) not in map(_resolved, self.searchpath[:2]):
            # The HR job's own templates ship too, but only that project may use them.
            raise TemplateNotFound(template)
        if not any(real.is_relative_to(Path(folder).resolve()) for folder in self.searchpath):
            raise TemplateNotFound(template, f"template {template!r} is a link out of the templates folder")
        return source, file, uptodate


def _resolved(folder: str) -> str:
    return str(Path(folder).resolve())


def _render(render: Callable[..., str], context: Mapping[str, Any]) -> Statement:
    bound: list[Any] = []
    with bounded.bounded(len(context.get("find", ()))):
        text = render({**context, "_bound": bound})
    return Statement(text.strip(), tuple(bound))


def line_of(failure: BaseException) -> str:
    """Return where rendering failed, as in ` (line 7 of users.sql.j2)`; Jinja puts template frames into the traceback."""
    frames = [frame for frame in traceback.extract_tb(failure.__traceback__) if frame.filename.endswith(".j2")]
    return f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""


@pass_context
def _bind(context: Context, value: Any) -> Any:
    if isinstance(value, Sql):
        budget().take(len(value))
        return value
    budget().take(1)
    if isinstance(value, Undefined):
        str(value)  # StrictUndefined raises with its own message
    if not isinstance(value, _BINDABLE):
        raise UndefinedError(
            f"a value of type {type(value).__name__} cannot be bound; bind text, numbers, dates or bytes"
        )
    bound = context.get("_bound")
    if bound is None:
        raise UndefinedError("a macro that outputs values is imported `with context`")
    bound.append(value)
    return "?"
