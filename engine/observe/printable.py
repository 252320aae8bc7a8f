"""Text from outside (answers, IDs, names, file contents) made safe to show on a terminal or in a log line."""

from __future__ import annotations

import unicodedata

_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: control (ESC, line breaks), format (bidirectional marks), surrogates, private, unassigned, separators."""


def printable(text: str) -> str:
    r"""The text with control and format characters as escapes: one line that moves no cursor and reorders nothing.

    A line break becomes `\n`, ESC `\x1b`. Other characters of any script stay (Unicode Standard Annex 44, general categories).
    """
    if text.isprintable():
        return text
    return "".join(
        _escape(character) if unicodedata.category(character) in _ESCAPED else character for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
