"""Puts the configured credentials on a request."""

from __future__ import annotations

from collections.abc import Callable

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from engine.http.oauth import ClientCredentials
from engine.http.settings import Api, BasicAuth, BearerAuth, HeaderAuth, OAuth2


class _Header(AuthBase):
    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._name] = self._value
        return request


def build(api: Api, prepare: Callable[[requests.Session], None], learned: Callable[[str], None]) -> AuthBase | None:
    """Build the authentication that the spec asks for. `prepare` sets TLS and proxy on the session that fetches tokens."""
    match api.auth:
        case BearerAuth(token):
            return _Header("Authorization", f"Bearer {token}")
        case BasicAuth(user, password):
            return HTTPBasicAuth(user.encode(), password.encode())
        case HeaderAuth(name, value):
            return _Header(name, value)
        case OAuth2():
            return ClientCredentials(api.auth, prepare, api.timeout, learned)
    return None
