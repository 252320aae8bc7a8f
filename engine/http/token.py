"""Credentials that end and are fetched anew."""

from __future__ import annotations

import requests
from requests.auth import AuthBase


class TokenRefused(requests.RequestException):
    """No token could be had; nothing was sent to the API."""


class Renewable(AuthBase):
    """Authentication with a token that is fetched, and can be fetched anew."""

    def forget(self) -> None:
        """The API refused the token: fetch another next time."""
        raise NotImplementedError
