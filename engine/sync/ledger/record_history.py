"""The life of one record, as the ledger's tables tell it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.store.base import moment
from engine.sync.ledger import tracking
from engine.sync.ledger.carried import Carried, information
from engine.sync.ledger.rejects import Reject
from engine.sync.ledger.states import ContentKind
from engine.sync.ledger.store import Store
from engine.sync.ledger.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Act:
    """What a person did that touched the record."""

    what: str
    who: str
    when: Any

    def as_json(self) -> dict[str, Any]:
        """One item of `acts`."""
        return {"what": self.what, "who": self.who, "when": str(self.when)}


@dataclass(frozen=True, slots=True)
class Life:
    """All that the ledger holds of one record. `tracked` is when it was; `accepted` and `refused` are hashes of contents."""

    tracked: Any = None
    accepted: str | None = None
    refused: str | None = None
    batches: list[Carried] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    reject: Reject | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    unsearched: Any = None
    """Before this time other batches may have carried the record too; None where all were looked at."""
    now: Any = None
    """The database's time."""


def tracked(store: Store, entity: str, record: str) -> Any:
    """When the record was tracked; None when it is not."""
    ids = tracking.as_json(tracking.either_case([record]))
    rows = store.statement("tracked_row", entity=entity, ids=ids).rows
    return next((at for _, at in rows if at is not None), None)


def content(store: Store, entity: str, kind: ContentKind, record: str) -> str | None:
    """The hash of the content that the API accepted, or refused, last, where it is kept."""
    return tracking.contents(store, entity, kind, [record]).get(record)


def acts(store: Store, entity: str, record: str, tracked: Any, reject: Reject | None) -> list[Act]:
    """What people did to the record: by name, or to all of its entity when it was there already."""
    made: list[Act] = []
    rows = [
        (activity.partition(":")[0], who, when, information(said).get("EntityIds"))
        for activity, who, when, said in store.statement("acts_on", entity=entity).rows
    ]
    forgotten = [moment(when) for verb, _, when, ids in rows if verb == "Forget" and record in (ids or ())]
    for verb, who, when, ids in rows:
        if verb == "Baseline":
            # It has no list of IDs: it tracked what is tracked since before it, or was when it was forgotten later.
            meant = (tracked is not None and moment(tracked) <= moment(when)) or any(
                moment(when) < one for one in forgotten
            )
        elif verb == "Retry" and ids is None:
            meant = reject is not None and moment(reject.first_seen) <= moment(when)
        else:
            meant = record in (ids or ())
        if meant:
            made.append(Act(verb.casefold(), who or "", when))
    return made
