"""Column names as the spec spells them, whatever the database makes of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from engine.errors import SourceError
from engine.spec import expressions
from engine.sync.model import Entity


def spelled(entity: Entity, reported: Sequence[str]) -> tuple[str, ...]:
    """The reported names in the spec's spelling: PostgreSQL folds `NoReg` to `noreg`. Raises `SourceError` for two of one name."""
    # A derived table of SQLite calls the second `Name` `Name:1`.
    plain = [re.sub(r":\d+$", "", name).casefold() for name in reported]
    folded = [name.casefold() for name in reported]
    folded = [base if base in folded else name for base, name in zip(plain, folded, strict=True)]
    double = next((reported[folded.index(name)] for index, name in enumerate(folded) if name in folded[:index]), None)
    if double is not None:
        raise SourceError(
            f"entity {entity.name!r}: the SQL returns two columns called {double!r}; give one of them another name with AS"
        )
    words: dict[str, str] = {}
    for word in _words(entity):
        words.setdefault(word.casefold(), word)
    return tuple(words.get(name.casefold(), name) for name in reported)


def _words(entity: Entity) -> Iterator[str]:
    """The column names that the spec of an entity mentions, those that must be columns first."""
    yield from entity.id
    yield from (field.name for field in entity.fields or ())
    for operation in entity.transform:
        yield from (named.column for named in operation.columns())
    for operation in entity.transform:
        for expressed in operation.expressions():
            yield from expressions.variables(expressed.text)
