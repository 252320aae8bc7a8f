r"""Decodes text in the encodings a secret may appear in, and maps each decoded character back to its source.

JSON and other backslash escapes, HTML entities, percent encoding, doubled quotes and braces, base64, hexadecimal. Every
pattern consumes a character once, so the time is linear in the length of the text, whatever it holds.
"""

from __future__ import annotations

import binascii
import html
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

Span = tuple[int, int]
_Decode = Callable[[re.Match[str]], str]

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]{1,6}\}"
    r"|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|[0-7]{3}|.)",
    re.DOTALL,
)
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0", "e": "\x1b"}
_ENTITY = re.compile(r"&(?:#[0-9]{1,9};?|#[xX][0-9a-fA-F]{1,8};?|[A-Za-z][A-Za-z0-9]{1,31};?)")
_PERCENT = re.compile(r"%(?:u[0-9a-fA-F]{4}|[0-9a-fA-F]{2})")
_DOUBLED = re.compile(r"\}\}|\{\{|''|\"\"")
# UTF-8 read as Latin-1: the result of decoding its bytes one by one.
_UTF8 = re.compile("[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_NUL = re.compile("\0")
_BASE64 = r"A-Za-z0-9+/_\-"
_HEX = "0-9A-Fa-f"
_STANDARD = str.maketrans("-_", "+/")
_FRAGMENT_END = "\n"
_LONGEST_LINE = 60
"""Line-wrapped base64 has at least this many characters per line."""


@dataclass(frozen=True, slots=True)
class View:
    """A decoded text. `origin` maps a span of it to the span of `before` that it comes from."""

    text: str
    before: View | None = None
    origin: Callable[[int, int], Span] = lambda start, end: (start, end)
    bytewise: bool = False
    """True for base64 and hexadecimal, which decode any word to something."""

    def source(self, start: int, end: int) -> Span:
        """Map a span of this text to the span of the original text."""
        view: View | None = self
        while view is not None:
            start, end = view.origin(start, end)
            view = view.before
        return start, end


def views(text: str, shortest: int) -> Iterator[View]:
    """Yield the text, then its decodings once and twice over. `shortest`: the minimum number of bytes worth decoding."""
    seen = {text}
    level = [View(text)]
    yield level[0]
    for _ in range(2):
        level = [decoded for view in level for decoded in _decoded(view, shortest)]
        level = [view for view in level if view.text not in seen and not seen.add(view.text)]  # type: ignore[func-returns-value]
        yield from level


def unescaped(text: str) -> set[str]:
    """Return the text decoded by each encoding that leaves most characters unchanged."""
    return {view.text for view in _escapes(View(text))}


def _decoded(view: View, shortest: int) -> Iterator[View]:
    yield from _escapes(view)
    if len(view.text) >= shortest:
        yield from _base64(view, shortest)
        yield from _hexadecimal(view, shortest)


def _escapes(view: View) -> Iterator[View]:
    text = view.text
    if "\\" in text:
        yield _as_utf8(_substituted(view, _ESCAPE, _unescape))
    if "&" in text:
        yield _substituted(view, _ENTITY, lambda match: html.unescape(match.group()))
    if "%" in text:
        yield _as_utf8(_substituted(view, _PERCENT, lambda match: chr(int(match.group().lstrip("%u"), 16))))
    if any(pair in text for pair in ("}}", "{{", "''", '""')):
        yield _substituted(view, _DOUBLED, lambda match: match.group()[0])
    if not text.isascii():
        yield _as_utf8(view)


def _unescape(match: re.Match[str]) -> str:
    body = match.group()[1:]
    if len(body) == 1:
        return _NAMED.get(body, body)
    if len(body) == 11:
        return chr(0x10000 + ((int(body[1:5], 16) & 0x3FF) << 10) + (int(body[7:], 16) & 0x3FF))
    number = int(body, 8) if body[0] in "01234567" else int(body[1:].strip("{}"), 16)
    return chr(number) if number <= 0x10FFFF else body


def _as_utf8(view: View) -> View:
    """Decode bytes that were escaped one by one as UTF-8, where they are valid."""
    return view if view.text.isascii() else _substituted(view, _UTF8, _utf8)


def _utf8(match: re.Match[str]) -> str:
    try:
        return match.group().encode("latin-1").decode()
    except UnicodeDecodeError:
        return match.group()


def _substituted(view: View, pattern: re.Pattern[str], decode: _Decode) -> View:
    """Replace every match by its decoded text."""
    text = view.text
    parts: list[str] = []
    # Per match: start and end in the new text, then start and end in the old one.
    begins, ends, starts, stops = [0], [0], [0], [0]
    length = 0
    for match in pattern.finditer(text):
        meant, kept = decode(match), text[stops[-1] : match.start()]
        parts += (kept, meant)
        begins.append(length + len(kept))
        length += len(kept) + len(meant)
        ends.append(length)
        starts.append(match.start())
        stops.append(match.end())
    parts.append(text[stops[-1] :])

    def origin(start: int, end: int) -> Span:
        first, last = bisect_right(begins, start) - 1, bisect_right(begins, end - 1) - 1
        inside, under = start < ends[first], end - 1 < ends[last]
        return (
            starts[first] if inside else stops[first] + start - ends[first],
            stops[last] if under else stops[last] + end - ends[last],
        )

    return View("".join(parts), view, origin, view.bytewise)


@dataclass(frozen=True, slots=True)
class _Run:
    """Characters that may encode bytes: without separators, and with the source position of each."""

    text: str
    places: range | list[int]


@cache
def _run(alphabet: str, between: str, least: int) -> re.Pattern[str]:
    # The lookbehind anchors a match at the start of a run, so that a run that is too short is scanned only once.
    return re.compile(f"(?<![{alphabet}])[{alphabet}]{{{least}}}[{alphabet}{between}]*+")


@cache
def _pairs(least: int) -> re.Pattern[str]:
    pair = f"[{_HEX}]{{2}}"
    return re.compile(f"(?<![{_HEX}]){pair}(?:[-: ]{pair}){{{least - 1}}}(?:[-: ]{pair})*+")


def _runs(text: str, pattern: re.Pattern[str], separators: str) -> Iterator[_Run]:
    for match in pattern.finditer(text):
        run, start = match.group(), match.start()
        if not any(separator in run for separator in separators):
            yield _Run(run, range(start, match.end()))
        else:
            places = [at for at, character in enumerate(run, start) if character not in separators]
            yield _Run("".join(text[at] for at in places), places)


def _base64(view: View, shortest: int) -> Iterator[View]:
    """Decode each run at four offsets: the characters before an encoded text may look like part of it."""
    least = min(shortest * 4 // 3, _LONGEST_LINE)
    found = _runs(view.text, _run(_BASE64, "\r\n", least), "\r\n")
    runs = [_Run(run.text.translate(_STANDARD), run.places) for run in found]
    for skip in range(4) if runs else ():
        yield from _read(view, runs, skip, group=4, size=3)


def _hexadecimal(view: View, shortest: int) -> Iterator[View]:
    """Decode runs of hexadecimal digits at two offsets, and separated pairs as in `AB-CD-EF`."""
    runs = list(_runs(view.text, _run(_HEX, "", shortest * 2), ""))
    for skip in range(2) if runs else ():
        yield from _read(view, runs, skip, group=2, size=1)
    apart = list(_runs(view.text, _pairs(shortest), "-: "))
    if apart:
        yield from _read(view, apart, 0, group=2, size=1)


def _read(view: View, runs: list[_Run], skip: int, *, group: int, size: int) -> Iterator[View]:
    """Decode runs to bytes, one line per run; `group` characters encode `size` bytes."""
    parts: list[str] = []
    begins: list[int] = []
    length = 0
    for run in runs:
        parts.append(_bytes(run.text[skip:], group).decode("latin-1"))
        begins.append(length)
        length += len(parts[-1]) + len(_FRAGMENT_END)

    def place(at: int, *, end: bool) -> int:
        number = bisect_right(begins, at) - 1
        places = runs[number].places
        position = skip + (at - begins[number]) // size * group + (group - 1 if end else 0)
        return places[min(position, len(places) - 1)]

    def origin(start: int, end: int) -> Span:
        return place(start, end=False), place(end - 1, end=True) + 1

    made = View(_FRAGMENT_END.join(parts), view, origin, bytewise=True)
    yield _as_utf8(made)
    if "\0" in made.text:  # UTF-16, as .NET's Encoding.Unicode writes it
        yield _substituted(made, _NUL, lambda _: "")


def _bytes(text: str, group: int) -> bytes:
    if group == 2:
        return bytes.fromhex(text[: len(text) // 2 * 2])
    whole = text if len(text) % 4 != 1 else text[:-1]
    return binascii.a2b_base64(whole + "=" * (-len(whole) % 4))
