"""Reads YAML 1.2 core text into plain data and records the position of every key and value.

PyYAML reads YAML 1.1, where `NO` is false and `22:30` is 1350. Only its scanner and parser are used; scalars are
resolved by the core schema of YAML 1.2.2, section 10.3.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from engine.errors import Problem, SpecError
from engine.spec import hints

Key = str | int | float | bool | None
Place = tuple[Key | int, ...]

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 100_000

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# YAML 1.2.2, section 5.1: everything but these is printable.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff")
_INFINITE = re.compile(r"[-+]?(\.inf|\.Inf|\.INF)|(\.nan|\.NaN|\.NAN)")


@dataclass(slots=True)
class Document:
    """The data of one file and the positions of its parts. Lines and columns count from 1."""

    file: str
    data: Any = None
    keys: dict[Place, tuple[int, int]] = field(default_factory=dict)
    values: dict[Place, tuple[int, int]] = field(default_factory=dict)
    raw: dict[Place, str] = field(default_factory=dict)
    block_scalars: set[Place] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)

    def problem(
        self, place: Place, message: str, *, at_key: bool = False, warning: bool = False, unset: bool = False
    ) -> Problem:
        """Build a problem at a value (or its key), or at its nearest parent that exists."""
        marks = self.keys if at_key else self.values
        while place and place not in marks:
            place = place[:-1]
            marks = self.values
        line, column = marks.get(place, (1, 1))
        return Problem(self.file, line, column, message, "warning" if warning else "error", unset)


def read(path: Path, shown: str) -> Document:
    """Read and parse a file. Raises `SpecError` with the line and column of the error."""
    try:
        if path.is_dir():
            raise _error(shown, "this is a directory; name a YAML file in it")
        if path.stat().st_size > MAX_BYTES:
            size = path.stat().st_size / 1e6
            raise _error(shown, f"the file has {size:.1f} MB; a spec over {MAX_BYTES // 1_000_000} MB is refused")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise _error(shown, "no such file") from None
    except (OSError, ValueError) as failure:
        raise _error(shown, f"cannot be read: {getattr(failure, 'strerror', None) or failure}") from None
    return parse(raw, shown)


def parse(raw: bytes, shown: str) -> Document:
    """Parse the bytes of a spec. Raises `SpecError`."""
    try:
        raw = raw.removeprefix(codecs.BOM_UTF8)
        text = raw.decode()
    except UnicodeDecodeError as failure:
        line, column = _place(raw[: failure.start].decode())
        raise _error(
            shown, f"not UTF-8: byte 0x{raw[failure.start]:02x}; save the file as UTF-8", line, column
        ) from None
    document = Document(shown, lines=text.splitlines())
    builder = _Builder(document)
    try:
        builder.build(iter(yaml.parse(text, Loader=_LOADER)))
    except yaml.MarkedYAMLError as failure:
        message, mark = hints.for_yaml(failure, document.lines)
        raise _error(shown, message, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1) from None
    except yaml.reader.ReaderError as failure:
        bad = next((match for match in _FORBIDDEN.finditer(text)), None)
        line, column = _place(text[: bad.start()]) if bad else (1, 1)
        named = f"character U+{ord(bad.group()):04X}" if bad else "a character"
        raise _error(shown, f"{named} is not allowed in YAML", line, column) from failure
    if builder.problems:
        raise SpecError(builder.problems)
    return document


# The C loader is several times faster; the Python loader gives the same result.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Builder:
    """Builds data from parser events; recurses at most `MAX_DEPTH` levels."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self._anchors: dict[str, tuple[Any, Place, list[Place]]] = {}
        self._order: list[Place] = []
        self._nodes = 0

    def build(self, events: Iterator[yaml.Event]) -> None:
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop(event, "a second YAML document; a spec is one document")
            elif isinstance(event, yaml.NodeEvent):
                self.document.data = self._node(event, events, ())
        if not documents:
            raise _error(self.document.file, "the file is empty; `syncledger init DIR` writes a spec to start from")

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], place: Place) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(event, f"more than {MAX_NODES:,} values")
        if len(place) > MAX_DEPTH:
            self._stop(event, f"nested deeper than {MAX_DEPTH} levels")
        self.document.values[place] = _mark(event)
        began = len(self._order)
        self._order.append(place)
        self._check_tag(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(events, place)
        else:
            value = self._mapping(events, place)
        anchor: str | None = getattr(event, "anchor", None)
        if anchor:
            self._anchors[anchor] = (value, place, self._order[began:])
        return value

    def _alias(self, event: yaml.AliasEvent, place: Place) -> Any:
        """Return the anchor's value and copy its positions. Every copy counts as nodes, against exponential expansion."""
        if event.anchor is None or event.anchor not in self._anchors:
            self._stop(
                event,
                "unknown anchor; an anchor is written before it is used (a text that begins with * stands in quotes)",
            )
        value, origin, places = self._anchors[event.anchor]
        self._nodes += len(places)
        if self._nodes > MAX_NODES:
            self._stop(event, f"more than {MAX_NODES:,} values")
        document = self.document
        for known in places[1:]:
            copy = place + known[len(origin) :]
            self._order.append(copy)
            document.values[copy] = document.values[known]
            if known in document.keys:
                document.keys[copy] = document.keys[known]
        for known in places:
            copy = place + known[len(origin) :]
            if known in document.raw:
                document.raw[copy] = document.raw[known]
            if known in document.block_scalars:
                document.block_scalars.add(copy)
        document.values[place] = document.values[origin]
        return value

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> Any:
        self.document.raw[place] = event.value
        if event.style in ("|", ">"):
            self.document.block_scalars.add(place)
        if event.style or event.tag:
            return event.value
        return resolve(event.value)

    def _check_tag(self, event: yaml.Event) -> None:
        sequence = isinstance(event, yaml.SequenceStartEvent)
        kind = "seq" if sequence else "map" if isinstance(event, yaml.MappingStartEvent) else "str"
        if getattr(event, "tag", None) not in (None, "!", f"tag:yaml.org,2002:{kind}"):
            self.problems.append(
                self._problem(event, "unknown tag; write the plain value (a text that begins with ! stands in quotes)")
            )

    def _sequence(self, events: Iterator[yaml.Event], place: Place) -> list[Any]:
        items: list[Any] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, (*place, len(items))))
        return items

    def _mapping(self, events: Iterator[yaml.Event], place: Place) -> dict[Key, Any]:
        mapping: dict[Key, Any] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event)
            inner = (*place, key)
            if key in mapping:
                line = self.document.keys[inner][0]
                self.problems.append(self._problem(event, f"duplicate key {str(key)!r}; it stands in line {line} too"))
            else:
                self.document.keys[inner] = _mark(event)
            value = self._node(next(events), events, inner)
            mapping.setdefault(key, value)
        return mapping

    def _key(self, event: yaml.Event) -> Key:
        if not isinstance(event, yaml.ScalarEvent):
            self._stop(event, "a key is plain text here, not a list, a mapping or an alias")
        self._check_tag(event)
        key: Key = event.value if event.style or event.tag else resolve(event.value)
        return key

    def _problem(self, event: yaml.Event, message: str) -> Problem:
        line, column = _mark(event)
        return Problem(self.document.file, line, column, message)

    def _stop(self, event: yaml.Event, message: str) -> NoReturn:
        raise SpecError([*self.problems, self._problem(event, message)])


def resolve(text: str) -> Any:
    """Resolve a plain scalar by the core schema of YAML 1.2.2."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text[0] in "tT"
    if len(text) <= 400 and _INT.fullmatch(text):
        return int(text)
    if len(text) <= 400 and _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if len(text) <= 400 and _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def _mark(event: yaml.Event) -> tuple[int, int]:
    mark: Any = event.start_mark
    return mark.line + 1, mark.column + 1


def _error(file: str, message: str, line: int = 1, column: int = 1) -> SpecError:
    return SpecError([Problem(file, line, column, message)])


def _place(before: str) -> tuple[int, int]:
    """The line and column after a text."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
