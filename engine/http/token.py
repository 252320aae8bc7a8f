"""Credentials that expire and are renewed."""

from __future__ import annotations

import requests
from requests.auth import AuthBase


class TokenRefused(requests.RequestException):
    """No token could be fetched; nothing was sent to the API."""


class Renewable(AuthBase):
    """Authentication with a token that can be renewed."""

    def forget(self) -> None:
        """Discard a token that the API refused; the next request fetches another."""
        raise NotImplementedError
