"""Turns source rows into records: the transforms of the spec, then the record contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import EntityError
from engine.sync.counts import Flow
from engine.sync.model import Entity, Field, Rejection
from engine.sync.read import block
from engine.sync.read.block import ORIGIN, Block, Blocks, Header, Row
from engine.sync.shape import columns
from engine.sync.shape.columns import Convert, Values
from engine.sync.shape.transform import Transform


@dataclass(frozen=True, slots=True)
class _Contract:
    """The fields of a record: names, positions in the row, converters for a value and for a whole column."""

    names: Header
    positions: Sequence[int]
    converters: Sequence[Convert]
    columns: Sequence[Callable[[Values], Values]]


class Records(Blocks):
    """A petl table with the origin and exactly the fields of the contract, in order, converted."""

    def __init__(self, due: Any, entity: Entity, flow: Flow) -> None:
        self._due, self._entity, self._flow = due, entity, flow

    def blocks(self) -> tuple[Header, Iterator[Block]]:
        """Return the header, and the records block by block."""
        header, due = block.blocks(self._due)
        transform = Transform(header, self._entity) if self._entity.transform else None
        contract = _contract(self._entity, transform.header if transform else header)
        return contract.names, (self._shape(some, transform, contract) for some in due)

    def _shape(self, given: Block, transform: Transform | None, contract: _Contract) -> Block:
        if transform:
            given = self._transformed(given, transform)
        try:
            table = list(zip(*given.rows, strict=True)) or [()] * len(contract.names)
            made = [whole(table[at]) for whole, at in zip(contract.columns, contract.positions, strict=True)]
        except (ValueError, IndexError, RecursionError):
            return self._one_by_one(given, contract)
        return Block(given.ids, list(zip(*made, strict=True)) if made else [()] * len(given.ids), given.known)

    def _transformed(self, given: Block, transform: Transform) -> Block:
        changed, failures = transform.apply(given)
        for id_, reason in failures.items():
            self._flow.refuse(Rejection(id_, reason))
        self._flow.drop(set(given.ids).difference(changed.ids, failures))
        return changed

    def _one_by_one(self, given: Block, contract: _Contract) -> Block:
        """Convert row by row after a record broke its contract: reject that record, keep the others."""
        ids, rows = [], []
        for id_, row in zip(given.ids, given.rows, strict=True):
            try:
                made = tuple(
                    [convert(row[at]) for convert, at in zip(contract.converters, contract.positions, strict=True)]
                )
            except (ValueError, IndexError, RecursionError):
                self._flow.refuse(Rejection(id_, _first_broken(row, contract)))
                continue
            ids.append(id_)
            rows.append(made)
        return Block(ids, rows, given.known)


def records(due: Any, entity: Entity, flow: Flow) -> Records:
    """Return the records of a petl table with an origin column. One that breaks its contract is rejected with the reason.

    Records dropped by a `select` are counted and no longer pending. Iterating raises `EntityError` if a column that the
    spec names is missing.
    """
    return Records(due, entity, flow)


def _contract(entity: Entity, header: Header) -> _Contract:
    fields: Sequence[Field | None]
    if entity.fields is None:
        names = tuple(name for name in header if name != ORIGIN)
        fields = [None] * len(names)
    else:
        names = tuple(field.name for field in entity.fields)
        fields = entity.fields
        missing = [name for name in names if name not in header]
        if missing:
            there = ", ".join(name for name in header if name != ORIGIN)
            wanted = ", ".join(repr(name) for name in missing)
            raise EntityError(f"entity {entity.name!r}: no column gives the field {wanted}; there are: {there}")
    return _Contract(
        names,
        [header.index(name) for name in names],
        [columns.converter(field) for field in fields],
        [columns.column(field) for field in fields],
    )


def _first_broken(row: Row, contract: _Contract) -> str:
    for name, position, convert in zip(contract.names, contract.positions, contract.converters, strict=True):
        try:
            convert(row[position])
        except IndexError:
            return f"field {name!r}: the row is too short"
        except ValueError as failure:
            return f"field {name!r}: {failure}"
        except RecursionError:
            return f"field {name!r}: the value is nested too deeply"
    raise AssertionError("a row that failed converts now")  # pragma: no cover - converters are pure
