"""Makes external text (answers, IDs, names, file contents) safe for a terminal or a log line."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache

_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: control (ESC, line breaks), format (bidirectional marks), surrogates, private, unassigned, separators."""

_BEYOND_ASCII = re.compile("[^\\x00-\\x7e]")


def printable(text: str) -> str:
    r"""Escape control and format characters: the result is one line that neither moves the cursor nor reorders text.

    A line break becomes `\n`, ESC `\x1b`. Other characters of any script are kept (Unicode Standard Annex 44, general
    categories).
    """
    if text.isprintable():
        return text
    return "".join(
        _escape(character) if unicodedata.category(character) in _ESCAPED else character for character in text
    )


def printable_json(text: str) -> str:
    r"""Escape such characters in JSON as `\uXXXX`, except line breaks between tokens; the parsed value is the same.

    A JSON encoder escapes only those below a space; DEL, C1 and bidirectional marks would reach the terminal.
    """
    if text.isascii() and "\x7f" not in text:
        return text
    return _BEYOND_ASCII.sub(lambda match: _escape_json(match.group()), text)


@lru_cache(maxsize=4096)
def _escape_json(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED:
        return character
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
