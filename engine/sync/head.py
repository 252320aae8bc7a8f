"""The head of the path, the same for `run`, `plan` and whoever else asks what is due: read, exclude, shape, chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.sync.counts import Flow
from engine.sync.ledger.lookup import Lookup
from engine.sync.ledger.watermarks import Watermark
from engine.sync.model import Batch
from engine.sync.read import exclude, exclusion, incremental
from engine.sync.read.exclusion import Narrowed
from engine.sync.read.incremental import Look
from engine.sync.read.source import WHOLE, Reader, Span
from engine.sync.send import chunk
from engine.sync.shape import shape


@dataclass(frozen=True, slots=True)
class Reading:
    """How an entity is read: by whom, which of its rows, and what to remember when all of them were delivered."""

    reader: Reader
    span: Span
    look: Look | None

    @property
    def since(self) -> str | None:
        """From where on it is read, for people; None where everything is."""
        return str(self.span.since) if self.span.since else None


def reading(reader: Reader, tracking_table: str, watermark: Callable[[str], Watermark | None]) -> Reading:
    """Everything, or what changed lately where the spec says so and the watermark can serve. Raises `SourceError`, `EntityError`."""
    look = incremental.look(reader, tracking_table, watermark)
    return Reading(reader, Span(since=look.since) if look else WHOLE, look)


@dataclass(frozen=True, slots=True)
class Due:
    """What is due of an entity: how delivered records are left out, and the batches, read as they are asked for."""

    source: Narrowed
    batches: Iterator[Batch]


def due(
    reader: Reader,
    lookup: Lookup,
    visible: str | None,
    flow: Flow,
    span: Span,
    *,
    limit: int | None = None,
    adopt: chunk.Adopt = lambda _id, _hash: None,
) -> Due:
    """Every stage in its order. `visible` is the tracking table as the source sees it; `flow` hears of single records."""
    entity = reader.entity
    source = exclusion.pages(reader.connection, entity, reader.run, lookup, visible, flow, span)
    rows = exclude.tracked(source.rows, entity.id, lookup, flow, page_size=entity.page_size, limit=limit)
    return Due(source, chunk.batches(shape.records(rows, entity, flow), entity, flow, adopt=adopt))
