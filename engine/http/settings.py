"""How an API is called, from the spec: credentials, retries, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class BearerAuth:
    """`Authorization: Bearer`, RFC 6750."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """User and password, RFC 7617."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeaderAuth:
    """A custom header."""

    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OAuth2:
    """Client credentials grant, RFC 6749 section 4.4."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str | None


Auth = BearerAuth | BasicAuth | HeaderAuth | OAuth2


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call is attempted. `attempts` includes the first; waits are in seconds."""

    attempts: int
    wait: float
    max_wait: float
    statuses: frozenset[int]


@dataclass(frozen=True, slots=True)
class Breaker:
    """How many failed batches in a row park an endpoint, and for how many seconds."""

    after: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Api:
    """The partner's API. `timeout` is in seconds, for one whole attempt."""

    base_url: str
    auth: Auth | None
    headers: Mapping[str, str] = field(repr=False)
    timeout: float
    retry: Retry
    in_flight: int
    idempotency_header: str | None
    in_doubt: Literal["resend", "hold"]
    in_doubt_statuses: frozenset[int]
    proxy: str | None = field(repr=False)
    verify: bool | Path
    cert: Path | None
    cert_key: Path | None
    gzip: bool
    idempotency_max_age: float
    """Seconds for which the API remembers an idempotency key."""
    idempotency_quoted: bool
    pause: float
    """Minimum seconds from the start of one call to the start of the next."""
    breaker: Breaker | None
    expect: Literal["json"] | None
    """What the body of a 2xx must be."""
    check: tuple[str, str] | None
    """Method and path of a request that stores nothing, to test the credentials."""
