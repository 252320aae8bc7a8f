"""Checks SQL templates before anything runs: syntax, names, and paging by key."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateNotFound, TemplateSyntaxError, meta, nodes
from sqlparse import lexer
from sqlparse import tokens as kinds

from engine.db.dialect import template_folders
from engine.db.statement import Statement
from engine.db.templates import PAGE, PAGE_VARIABLES, PageRequest, RunFacts, Templates, pages_itself, wrap
from engine.errors import Problem
from engine.spec.reader import Document, Place
from engine.spec.suggest import did_you_mean

_NOW = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_RUN = RunFacts("0", _NOW, _NOW)
_OFFSET = (
    "pages by OFFSET: a set that shrinks while records are tracked is skipped in part, and late pages cost more than early ones; "
    "page by key instead: extend page.sql.j2, or WHERE {id} > {{{{ after }}}} ORDER BY {id}"
)
_NO_ORDER = "has no ORDER BY on the ID ({id}): pages go by key; extend page.sql.j2, or end with ORDER BY {id}"
_INNER_ORDER = "has ORDER BY or a limit of its own inside the query block; leave it out: the engine orders by the ID and limits the page"
_TOO_LARGE = (RecursionError, ValueError, OverflowError, MemoryError)
_NO_PAGING = (
    "does not use {names}: it would read the same page for ever; extend page.sql.j2, or page with `after` and `limit`"
)


@dataclass(frozen=True, slots=True)
class Check:
    """The check of one entity's SQL. `place` is where the spec names it."""

    document: Document
    place: Place
    found: Templates
    entity: str
    key: tuple[str, ...]
    changed_since: bool = False

    def file(self, name: str) -> Iterator[Problem]:
        """Yield the problems of a template file, at their lines in it; those of its name, in the spec."""
        if Path(name).is_absolute() or ".." in Path(name).parts:
            yield self._in_spec(f"template {name!r} leads out of the project; name a file under templates/sql/")
            return
        found = self.found
        try:
            source, filename, _ = found.environment.loader.get_source(found.environment, name)  # type: ignore[union-attr]
        except TemplateNotFound as failure:
            if "link" in (failure.message or ""):
                yield self._in_spec(str(failure.message))
                return
            folders = template_folders(found.root)[:1]
            names = sorted(
                {str(file.relative_to(folder).as_posix()) for folder in folders for file in folder.glob("*.j2")}
                - {PAGE}
            )
            yield self._in_spec(
                f"there is no template {name!r} under {found.root / 'templates' / 'sql'}{did_you_mean(name, names)}"
            )
            return
        except (OSError, UnicodeDecodeError) as failure:
            yield self._in_spec(f"template {name!r} cannot be read: {failure}")
            return
        file = _shown(Path(filename or name), Path(self.document.file))
        yield from self._source(source, file, 0, name)

    def inline(self, query: str) -> Iterator[Problem]:
        """Yield the problems of an inline query, at their lines in the spec."""
        line, _ = self.document.values.get(self.place, (1, 1))
        offset = line if self.place in self.document.block_scalars else line - 1
        # The wrapper adds a line before the query.
        yield from self._source(
            wrap(query),
            self.document.file,
            offset - (not pages_itself(query)),
            None,
        )

    def _source(self, source: str, file: str, offset: int, name: str | None) -> Iterator[Problem]:
        found = self.found
        try:
            tree = found.environment.parse(source, name, file)
            found.environment.from_string(source)
        except _TOO_LARGE as failure:
            yield self._at(source, file, offset, None, None, f"template: cannot be compiled: {type(failure).__name__}")
            return
        except TemplateSyntaxError as failure:
            unknown, message = _explain(found, failure)
            yield self._at(source, file, offset, failure.lineno, unknown, message)
            return
        undefined = sorted(meta.find_undeclared_variables(tree) - PAGE_VARIABLES - set(found.environment.globals))
        for variable in undefined:
            line = min((node.lineno for node in tree.find_all(nodes.Name) if node.name == variable), default=1)
            yield self._at(
                source,
                file,
                offset,
                line,
                variable,
                f"template: {variable!r} is undefined{did_you_mean(variable, PAGE_VARIABLES)}",
            )
        if not undefined:
            yield from self._rendered(source, file, offset, name)

    def _rendered(self, source: str, file: str, offset: int, name: str | None) -> Iterator[Problem]:
        found = self.found
        try:
            first, second = (self._render(source, name, after) for after in (None, tuple("0" for _ in self.key)))
            own = not found.wrapped(name, None if name else source)
            used = _used(found, source) if own else set()
        except (TemplateError, TypeError, ArithmeticError, LookupError, *_TOO_LARGE) as failure:
            word, message = _explain(found, failure)
            yield self._at(source, file, offset, _line_of(failure, name, file), word, message)
            return
        if own and self.changed_since:
            message = "pages itself, so that `changed_since` cannot narrow it; extend page.sql.j2, or leave `changed_since` out"
            yield self._at(source, file, offset, None, None, message)
        for word, message in _paging(first, second, own, self.key, used):
            yield self._at(source, file, offset, None, word, message)

    def _render(self, source: str, name: str | None, after: tuple[Any, ...] | None) -> Statement:
        request = PageRequest(self.entity, _RUN, 10, self.key, after)
        return self.found.page(name, None, request) if name else self.found.page(None, source, request)

    def _in_spec(self, message: str) -> Problem:
        return self.document.problem(self.place, message)

    def _at(self, source: str, file: str, offset: int, line: int | None, word: str | None, message: str) -> Problem:
        """Return a problem at a word of the template: in the given line, else where the word first occurs."""
        lines = source.splitlines() or [""]
        pattern = re.compile(rf"(?<!\w){re.escape(word)}" if word else r"$^", re.IGNORECASE)
        if line is None:
            line = next((number for number, text in enumerate(lines, 1) if pattern.search(text)), 1)
        line = max(line + offset, 1)
        shown = self.document.lines if file == self.document.file else lines
        # In a query that begins on the line of its key, search after the key.
        start = (
            self.document.values[self.place][1] - 1
            if shown is not lines and line == self.document.values[self.place][0]
            else 0
        )
        match = pattern.search(shown[line - 1], start) if line <= len(shown) else None
        return Problem(file, line, match.start() + 1 if match else start + 1, message)


def _explain(found: Templates, failure: Exception) -> tuple[str | None, str]:
    """Return the offending word of the template, if any, and the message."""
    unknown = re.search(r"No (filter|test) named '([^']*)'", str(failure))
    if unknown:
        all_ = found.environment.filters if unknown[1] == "filter" else found.environment.tests
        known = [name for name in all_ if not name.startswith("(")]  # those are the engine's own
        return unknown[2], f"template: unknown {unknown[1]} {unknown[2]!r}{did_you_mean(unknown[2], known)}"
    if isinstance(failure, TemplateNotFound):
        return str(failure.name), f"template: there is no template {failure.name!r} to extend or include"
    if isinstance(failure, RecursionError):
        return None, "template: it extends, includes or calls itself without end"
    return None, f"template: {failure}"


def _paging(
    first: Statement, second: Statement, own: bool, key: tuple[str, ...], used: set[str]
) -> Iterator[tuple[str | None, str]]:
    """Yield the reasons why the rendered pages do not page by key, each with the offending word, if any."""
    id_ = ", ".join(key)
    for statement in (first, second):
        word = _offset(_words(statement.text))
        if word:
            yield word, _OFFSET.format(id=id_)
            return
    texts = [word for _, word in _words(first.text)]
    query = _wrapped(_words(first.text)) if not own else texts
    if ";" in texts[:-1] or (query and query[0] not in ("SELECT", "WITH", "VALUES", "(")):
        yield None, "is not one SELECT statement; a source is only read"
        return
    if not own:
        inside = [word for word in _wrapped(_words(first.text)) if word in ("ORDER BY", "LIMIT")]
        if inside:
            yield inside[0].split()[0], _INNER_ORDER
        return
    unused = [name for name in ("after", "limit") if name not in used]
    if not _ordered_by(first.text, key):
        yield "ORDER", _NO_ORDER.format(id=id_)
    elif unused:
        yield None, _NO_PAGING.format(names=" and ".join(f"`{name}`" for name in unused))


def _words(text: str) -> list[tuple[int, str]]:
    """Return a statement's tokens in upper case, each with its parenthesis depth; no comments, no whitespace."""
    words: list[tuple[int, str]] = []
    depth = 0
    for kind, value in lexer.tokenize(text):  # type: ignore[no-untyped-call]
        if kind in kinds.Whitespace or kind in kinds.Comment:
            continue
        depth -= value == ")"
        words.append((depth, " ".join(value.upper().split()) if kind not in kinds.Literal.String.Single else "''"))
        depth += value == "("
    return words


def _offset(words: list[tuple[int, str]]) -> str | None:
    """Return `OFFSET`, or `LIMIT` with two numbers, if the statement pages by it; a column may be named Offset."""
    texts = ["", *(word for _, word in words), "", ""]
    for index, word in enumerate(texts[:-2]):
        number = texts[index + 1].isdigit() or texts[index + 1] in ("?", "(")
        if word == "OFFSET" and number and texts[index + 1] != "0" and texts[index - 1] not in (",", ".", "SELECT"):
            return "OFFSET"
        if word == "LIMIT" and number and texts[index + 2] == ",":
            return "LIMIT"
    return None


def _wrapped(words: list[tuple[int, str]]) -> list[str]:
    """Return the top-level tokens of the query that page.sql.j2 wraps: inside the parentheses before `AS page_`."""
    ends = [
        index
        for index in range(len(words) - 2)
        if words[index] == (0, ")") and words[index + 1][1] == "AS" and words[index + 2][1] == "PAGE_"
    ]
    if not ends:
        return []
    begin = max(index for index in range(ends[0]) if words[index] == (0, "("))
    return [word for depth, word in words[begin + 1 : ends[0]] if depth == 1]


def _used(found: Templates, source: str) -> set[str]:
    """Return the variables that a template, or one it includes or extends, takes from the engine."""
    sources = [source, *(_source(found, name) for name in _chain(found, source))]
    return {name for text in sources for name in meta.find_undeclared_variables(found.environment.parse(text))}


def _source(found: Templates, name: str) -> str:
    return found.environment.loader.get_source(found.environment, name)[0]  # type: ignore[union-attr]


def _ordered_by(text: str, key: tuple[str, ...]) -> bool:
    """Return True if the outermost ORDER BY begins with the key's columns, in order."""
    words = _words(text)
    starts = [index for index, (depth, word) in enumerate(words) if depth == 0 and word == "ORDER BY"]
    if not starts:
        return False
    named = [word.strip('"[]`') for depth, word in words[starts[-1] + 1 :] if depth == 0]
    columns: list[str] = []
    for word in re.split(r" ?, ?", " ".join(named)):
        columns.append(word.replace(" . ", ".").split(" ")[0].split(".")[-1].strip('"[]`'))
    return columns[: len(key)] == [name.upper() for name in key]


def _chain(found: Templates, source: str) -> list[str]:
    """Return the templates that a source extends or includes by name, directly or indirectly."""
    names: list[str] = []
    pending = [source]
    while pending:
        tree = found.environment.parse(pending.pop())
        extended = [node.template for node in tree.find_all(nodes.Extends)]
        included = [node.template for node in tree.find_all(nodes.Include) if not node.ignore_missing]
        for template in [*extended, *included]:
            if isinstance(template, nodes.Const) and template.value not in names:
                names.append(template.value)
                pending.append(_source(found, template.value))
    return names


def _line_of(failure: BaseException, name: str | None, file: str) -> int | None:
    """Return the template line where rendering failed; Jinja puts template frames into the traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(failure.__traceback__) if _same(frame.filename, name, file)]
    return lines[-1] if lines else None


def _same(frame: str, name: str | None, file: str) -> bool:
    return frame == "<template>" if name is None else frame.endswith(name) or frame == file


def _shown(file: Path, spec: Path) -> str:
    """Return the template's path, relative to the current folder if the spec's path is relative and that is possible."""
    try:
        base = Path.cwd()
        return file.resolve().relative_to(base).as_posix() if not spec.is_absolute() else str(file)
    except ValueError:
        return str(file)
