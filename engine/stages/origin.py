"""What travels with a row from the source to the batch: who it is, and whether something failed on the way."""

from __future__ import annotations

from dataclasses import dataclass

ORIGIN = "(origin)"
"""The first column of every table between `exclude` and `chunk`; holds an `Origin`."""


@dataclass(slots=True)
class Origin:
    """A row's canonical ID and the first failure of a transform for it.

    `accepted` and `refused` are hashes of contents that the API has seen: a record that still has one of them is not due.
    `accepted` is "" where the record was delivered with a content that nobody knows.
    """

    id: str
    failure: str | None = None
    pending: set[str] | None = None
    accepted: str | None = None
    refused: str | None = None

    def leave(self) -> None:
        """This record will not be sent: another of the same ID may be."""
        if self.pending is not None:
            self.pending.discard(self.id)

    def fail(self, reason: str) -> None:
        """Keep the first reason: later ones follow from it."""
        if self.failure is None:
            self.failure = reason
