"""Reads the columns of a SELECT list, where a rendered statement shows them unambiguously."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sqlparse import lexer
from sqlparse import tokens as kinds

_NAME = re.compile(r"[^\W\d][\w$#@]*")
_QUOTED = re.compile(r'"([^"]+)"|\[([^\[\]]+)\]|`([^`]+)`')
_NOT_COLUMNS = frozenset(
    [
        "NULL",
        "TRUE",
        "FALSE",
        "DEFAULT",
        "CURRENT_DATE",
        "CURRENT_TIME",
        "CURRENT_TIMESTAMP",
        "CURRENT_USER",
        "SESSION_USER",
        "SYSTEM_USER",
        "USER",
        "LOCALTIME",
        "LOCALTIMESTAMP",
        "SYSDATE",
        "ROWID",
        "ROWNUM",
        "LEVEL",
        "ALL",
        "DISTINCT",
        "TOP",
        "END",
        "AS",
        "FROM",
    ]
)
"""Unquoted words that may be something other than a column name."""
_LONGEST = 60
"""Some databases truncate longer names."""

Token = tuple[int, str]
"""Parenthesis depth and word."""


def columns(statement: str) -> list[str] | None:
    """Return the column names of a SELECT statement; None in any doubt, such as `*` or an unnamed expression."""
    words = _words(statement)
    if words is None:
        return None
    names = [_name(item) for item in _items(words)]
    if not names or any(name is None or len(name) > _LONGEST for name in names):
        return None
    return [name for name in names if name is not None]


def _words(statement: str) -> list[Token] | None:
    """Return the words between the outermost SELECT and its FROM."""
    words: list[Token] = []
    depth = 0
    for kind, value in lexer.tokenize(statement):  # type: ignore[no-untyped-call]
        if kind in kinds.Whitespace or kind in kinds.Comment:
            continue
        depth -= value == ")"
        words.append((depth, value))
        depth += value == "("
    at = [index for index, (depth, word) in enumerate(words) if depth == 0 and word.upper() == "SELECT"]
    if not at or (at[0] > 0 and words[0][1].upper() != "WITH"):
        return None
    rest = words[at[0] + 1 :]
    end = next((index for index, (depth, word) in enumerate(rest) if depth == 0 and word.upper() == "FROM"), None)
    if end is None:
        return None
    distinct = end > 0 and rest[0][1].upper() == "DISTINCT" and (end < 2 or rest[1][1].upper() != "ON")
    return rest[1:end] if distinct else rest[:end]


def _items(words: Sequence[Token]) -> Iterator[list[Token]]:
    item: list[Token] = []
    for depth, word in words:
        if (depth, word) == (0, ","):
            yield item
            item = []
        else:
            item.append((depth, word))
    yield item


def _name(item: Sequence[Token]) -> str | None:
    """Return the name of one column: `a`, `t.a`, `anything AS a`."""
    if len(item) >= 3 and item[-2][0] == 0 and item[-2][1].upper() == "AS":
        return _identifier(item[-1], alias=True)
    words = [word for depth, word in item if depth == 0]
    dots, names = words[1::2], [token for token in item if token[1] != "."]
    if len(words) != len(item) or len(words) % 2 == 0 or any(dot != "." for dot in dots):
        return None
    found = [_identifier(name, alias=False) for name in names]
    return found[-1] if all(found) else None


def _identifier(token: Token, *, alias: bool) -> str | None:
    depth, word = token
    quoted = _QUOTED.fullmatch(word)
    if depth == 0 and quoted:
        return next(group for group in quoted.groups() if group)
    if depth == 0 and _NAME.fullmatch(word) and (alias or word.upper() not in _NOT_COLUMNS):
        return word
    return None
