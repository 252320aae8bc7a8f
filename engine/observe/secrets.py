"""Masks known secrets in text."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache

from engine.observe.decoding import Span, View, unescaped, views

MASK = "***"
_SHORT = 3
"""A secret of up to this many characters is masked only as a whole word, and not in base64 or hexadecimal."""
_REMEMBERED = 1000
"""The masked form of a text of up to this many characters is cached."""


class Secrets:
    """Masks known secret values, also where they are encoded once or twice."""

    def __init__(self, values: Iterable[str] = (), newest: int | None = None) -> None:
        """`newest` limits the number of values: a process that runs for months sees ever new tokens."""
        self._known: dict[str, set[str]] = {}
        self._newest = newest
        self._followers: list[Secrets] = []
        self._needles: tuple[str, ...] = ()
        self._words: re.Pattern[str] | None = None
        self._shortest = sys.maxsize
        self._lock = threading.Lock()
        self.add(*values)

    def add(self, *values: str) -> None:
        """Mask these values too, from now on."""
        with self._lock:
            self._learn([value for value in values if value])
        for follower in self._followers:
            follower.add(*values)

    def _learn(self, values: list[str]) -> None:
        known = dict(self._known)
        for value in values:
            known[value] = known.pop(value, set()) or _readings(value)
        self._known = dict(list(known.items())[-self._newest :]) if self._newest else known
        # A short secret is masked only as a whole word: masking every `a` would make texts unreadable.
        long = [value for value in self._known if len(value) > _SHORT]
        words = [re.escape(_folded(value)) for value in self._known if len(value) <= _SHORT]
        self._needles = tuple({_folded(form): None for value in long for form in self._known[value]})
        self._words = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)") if words else None
        self._shortest = min(map(len, long), default=sys.maxsize)
        self._remembered = lru_cache(maxsize=4096)(self._masked)

    def tell(self, follower: Secrets) -> None:
        """Let `follower` mask these values too, and all that are added later."""
        self._followers.append(follower)
        follower.add(*self._known)

    def mask(self, text: str) -> str:
        """Return the text with every secret masked, up to the last character of its encoding."""
        if not self._known:
            return text
        # The same URLs, reasons and names recur.
        return self._remembered(text) if len(text) <= _REMEMBERED else self._masked(text)

    def _masked(self, text: str) -> str:
        spans = [view.source(*span) for view in views(text, self._shortest) for span in self._found(view)]
        return _replaced(text, spans) if spans else text

    def _found(self, view: View) -> Iterator[Span]:
        text = _folded(view.text)
        for needle in self._needles:
            at = text.find(needle)
            while at >= 0:
                yield at, at + len(needle)
                at = text.find(needle, at + 1)
        if self._words and not view.bytewise:
            yield from (match.span() for match in self._words.finditer(text))


def _folded(text: str) -> str:
    """Form encoding writes a space as `+`: treat the two as equal."""
    return text.replace("+", " ")


def _readings(value: str) -> set[str]:
    """Return the value, and what it becomes when its bytes or escapes are decoded differently."""
    utf16 = value.encode("utf-16-le", "surrogatepass").decode("latin-1").strip("\0")
    latin1 = value
    with suppress(UnicodeEncodeError):
        latin1 = value.encode("latin-1").decode("utf-8", "replace")
    return {
        value,
        *(form for form in (value.strip(), latin1, *unescaped(value), *unescaped(utf16), utf16) if len(form) > _SHORT),
    }


def _replaced(text: str, spans: list[Span]) -> str:
    parts: list[str] = []
    done = 0
    for start, end in sorted(spans):
        if start >= done:
            parts += (text[done:start], MASK)
        done = max(done, end)
    return "".join([*parts, text[done:]])
