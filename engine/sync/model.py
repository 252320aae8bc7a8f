"""The typed, frozen values that everything below the spec works with. No dict from YAML goes further than `engine.spec`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from engine.db.timeouts import Timeouts
from engine.http.settings import Api
from engine.runs.times import Schedule
from engine.spec.field_types import FieldType
from engine.spec.reader import Place
from engine.sync.payload import content_hash, records

Exclusion = Literal["lookup", "ids_first", "in_database"]


@dataclass(frozen=True, slots=True)
class Field:
    """One key of the record as it is sent."""

    name: str
    type: FieldType
    nullable: bool


@dataclass(frozen=True, slots=True)
class Named:
    """A column that an operation of `transform` names, and where below it the spec does so: as a key or as a value."""

    at: Place
    column: str
    at_key: bool


@dataclass(frozen=True, slots=True)
class Expressed:
    """An expression of an operation, where below it the spec has it, and the names that it knows beside the columns."""

    at: Place
    text: str
    also: frozenset[str] = frozenset()


class Operation(Protocol):
    """One step of `transform` (`engine.sync.shape.operations`)."""

    @property
    def name(self) -> str:
        """As the spec has it."""

    @property
    def names_all(self) -> bool:
        """True where the columns afterwards do not depend on those before."""

    def columns(self) -> Iterator[Named]:
        """The columns that must be there."""

    def expressions(self) -> Iterator[Expressed]:
        """The expressions."""

    def after(self, names: Sequence[str]) -> list[str]:
        """The columns that are there afterwards."""

    def table(self, given: Any, failures: dict[str, str]) -> Any:
        """The petl table that does it; a record that fails is added to `failures`, by its ID."""


@dataclass(frozen=True, slots=True)
class Results:
    """Where an answer names its records: JMESPath expressions. Without `id` the verdicts stand in the order of the records."""

    path: str
    id: str | None
    accepted: str
    retryable: str | None = None
    duplicate: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ChangedSince:
    """Read only the rows whose column is at or above what it was, less `overlap` (seconds, or a number for a number's column).

    Everything is read all the same once `full_check_every` seconds have passed.
    """

    column: str
    overlap: float
    counted: bool
    """True where `overlap` is a number, not seconds."""
    full_check_every: float


@dataclass(frozen=True, slots=True)
class Guard:
    """The most that one run may send of an entity: records, and a share (0 to 1) of its source's rows."""

    max_records: int | None = None
    max_share: float | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    """One kind of record: where it is read, how it is shaped, where it is sent."""

    name: str
    connection: str
    template: str | None
    query: str | None
    id: tuple[str, ...]
    endpoint: str
    method: str
    batch_size: int
    page_size: int
    transform: tuple[Operation, ...]
    fields: tuple[Field, ...] | None
    wrap: str | None
    results: Results | None
    isolate: tuple[int, ...]
    isolate_calls: int | None
    """Calls at most to find the bad records of one refused batch; None for some per bad record."""
    reject_delay: float
    """Seconds before a record that the API rejected is offered again; doubles with every refusal."""
    reject_after: int
    """Refusals after which a record is parked."""
    resend: Literal["once", "changed"]
    max_bytes: int | None
    exclude: Exclusion | None
    partitions: int | None
    changed_since: ChangedSince | None
    guard: Guard | None


@dataclass(frozen=True, slots=True)
class LedgerSpec:
    """Where the durable state lives and what its tables are called."""

    connection: str
    tracking_table: str
    log_table: str
    application: str
    visible_as: str | None
    create: bool
    """A first run may send any number of records."""
    wait: float
    """Seconds for which a ledger that does not answer is asked again."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A checked spec. `root` is the project folder from which templates and relative files are taken."""

    name: str
    description: str
    file: Path
    root: Path
    connections: Mapping[str, str] = field(repr=False)
    schedule: Schedule | None
    ledger: LedgerSpec
    lease_expires: float
    api: Api
    entities: tuple[Entity, ...]
    timeouts: Timeouts
    shown: str = ""
    """The spec's path as the user typed it."""
    entities_at: tuple[int, int] = (1, 1)
    """Line and column of the key `entities`."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that the API or its own contract refused. `id` is canonical; '' when the record has none.

    `retryable` marks a refusal that the API itself calls passing: it does not count towards parking. `duplicate` marks one that says
    that the API has the record already. `spare` marks a second row of an ID: it says nothing of the record itself.
    """

    id: str
    reason: str
    status: int | None = None
    retryable: bool = False
    spare: bool = False
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call carries: the canonical IDs, the exact bytes and the key that names it to the API.

    `resent` marks a batch of an earlier run that may have been processed then.
    """

    id: str
    entity: str
    key: str
    ids: tuple[str, ...]
    payload: bytes = field(repr=False)
    resent: bool = False
    hashes: tuple[str, ...] = field(default=(), repr=False)
    """Of each record's content, in the order of `ids`; empty where nobody looks for changes."""

    def contents(self) -> dict[str, str]:
        """The hash of each record's content, by its ID."""
        hashes = self.hashes or [content_hash(record) for record in records(self.payload)]
        return dict(zip(self.ids, hashes, strict=True))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One API call of a batch, as `SchedulerLog` keeps it. `status` is None where no answer came."""

    batch: Batch
    number: int
    url: str
    status: int | None
    seconds: float
    error: str | None
    started: datetime
    verdicts: tuple[int, int, int] | None = None
    """Records accepted, rejected and unknown, where the API answered."""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def success(self) -> bool:
        """True when the call was answered with a 2xx."""
        return self.error is None and self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait of so many seconds before the next of `attempts` attempts; `number` is the one that has failed, with `reason`."""

    batch: Batch
    number: int
    attempts: int
    seconds: float
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}; trying again in {self.seconds:.0f} s (attempt {self.number + 1} of {self.attempts})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: `accepted + rejected + failed + in_doubt` are all its records, each once.

    `refused` is a status that means that some of its (failed) records are bad; `park` the seconds for which the API asks
    to be left alone. `repeated` says that a sending before the last one may have been processed.
    """

    batch: Batch
    accepted: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    failed: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()
    reason: str | None = None
    closes_endpoint: bool = False
    answered: bool = False
    attempts: int = 0
    status: int | None = None
    refused: int | None = None
    park: float | None = None
    repeated: bool = False
    last: Attempt | None = None
    """The last call, whose row in the log table is not written yet: the settlement writes it."""

    def __post_init__(self) -> None:
        told = len(self.accepted) + len(self.rejected) + len(self.failed) + len(self.in_doubt)
        if told != len(self.batch.ids):
            raise ValueError(f"batch {self.batch.id}: {len(self.batch.ids)} records were sent and {told} accounted for")
