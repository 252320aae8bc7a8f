"""Errors, sorted by what happens next. Failures of single records are values, never exceptions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Literal


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with a spec or a template. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str
    severity: Literal["error", "warning"] = "error"
    unset: bool = False
    """A variable is not set: `validate` warns of it, and nothing can run."""

    @property
    def is_error(self) -> bool:
        """True for what makes the document wrong."""
        return self.severity == "error"

    def in_the_way(self) -> Problem | None:
        """The problem as an error, where it keeps a document from running; else None."""
        return replace(self, severity="error") if self.is_error or self.unset else None

    def __str__(self) -> str:
        prefix = "warning: " if self.severity == "warning" else ""
        return f"{self.file}:{self.line}:{self.column}: {prefix}{self.message}"


class Exit(IntEnum):
    """The codes that the process exits with."""

    OK = 0
    INCOMPLETE = 1
    """Something was not delivered, or needs a person."""
    USAGE = 2
    """The spec, a template or the command line is wrong."""
    REFUSED = 3
    """Another run holds the lease."""
    DATABASE = 4
    """A database could not be opened, read or written."""
    WAITING = 5
    """A run of a job waits for a person's word."""
    BUG = 70
    """An error in SyncLedger itself (EX_SOFTWARE of sysexits.h)."""
    CANCELLED = 130
    """Ended by Ctrl-C, as shells report SIGINT."""


class SyncLedgerError(Exception):
    """Base of every error that a user can cause and mend. The text says what, where and what to do."""

    exit_code = Exit.DATABASE


class SpecError(SyncLedgerError):
    """The spec, a template or the usage is wrong: mend it (exit 2)."""

    exit_code = Exit.USAGE

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConnectionFailed(SyncLedgerError):
    """A database could not be opened: driver missing, server away, credentials refused (exit 4)."""


class DatabaseError(SyncLedgerError):
    """A statement failed. `sqlstate` is the driver's, where it has one (sqlite3 has none).

    `lost`: the connection is gone, a new one may work. `refused`: the statement fails again however often it is tried.
    `undecodable`: a row holds text that is not UTF-8.
    """

    def __init__(
        self,
        message: str,
        sqlstate: str | None = None,
        *,
        lost: bool = False,
        refused: bool = False,
        undecodable: bool = False,
    ) -> None:
        self.sqlstate, self.lost, self.refused, self.undecodable = sqlstate, lost, refused, undecodable
        super().__init__(message)


class SourceError(SyncLedgerError):
    """A source could not be read; other entities still run (exit 4)."""


class LedgerError(SyncLedgerError):
    """The ledger could not be read or written; nothing more is sent (exit 4)."""


class StoreError(SyncLedgerError):
    """The store of runs could not be read or written; no further step starts (exit 4)."""


class ParametersWrong(SyncLedgerError):
    """Parameters of a run are missing or wrong; nothing has run (exit 2). The text has one line for each."""

    exit_code = Exit.USAGE


class RunRefused(SyncLedgerError):
    """The run is in a state in which this cannot be done (exit 3)."""

    exit_code = Exit.REFUSED


class LeaseHeld(SyncLedgerError):
    """Another run of the pipeline is going on (exit 3). `holder` says who, where and since when."""

    exit_code = Exit.REFUSED

    def __init__(self, holder: Any) -> None:
        self.holder = holder
        super().__init__(f"another run holds the lease: {holder}; wait for it, or break it with `unlock SPEC`")


class EntityError(SyncLedgerError):
    """An entity cannot be shaped as its spec says, whatever the record; other entities still run (exit 1)."""

    exit_code = Exit.INCOMPLETE


class NotConfirmed(SyncLedgerError):
    """Nothing was sent: more is due than this run may send without a person's word (exit 1)."""

    exit_code = Exit.INCOMPLETE
