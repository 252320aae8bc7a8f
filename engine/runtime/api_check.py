"""Tries the API's credentials with a request that stores nothing: `api.check`, and the token where one has to be fetched."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import requests

from engine.errors import Problem
from engine.http.session import Answer, Caller
from engine.http.token import TokenRefused
from engine.spec.reader import Place
from engine.sync.spec.load import Loaded

_AUTH: Place = ("api", "auth")
_CHECK: Place = ("api", "check")


@dataclass(slots=True)
class Tried:
    """What was found. `answered` says what the API said; `unreachable` when there was no answer."""

    problems: list[Problem] = field(default_factory=list)
    answered: str | None = None
    unreachable: bool = False


def check_api(loaded: Loaded) -> Tried:
    """Fetch the token, if there is one to fetch, and make the request of `api.check` once."""
    pipeline, tried = loaded.pipeline, Tried()
    caller = Caller(replace(pipeline.api, gzip=False), loaded.secrets.add)
    try:
        caller.authenticate()
        if pipeline.api.check is None:
            message = "the API was not tried: name a request that stores nothing, for example `check: GET /health` under `api`"
            tried.problems.append(loaded.document.problem(("api",), message, warning=True))
        else:
            _request(loaded, tried, caller, *pipeline.api.check)
    except TokenRefused as failure:
        tried.unreachable = isinstance(failure.__cause__, (requests.ConnectionError, requests.Timeout))
        tried.problems.append(loaded.document.problem(_AUTH, str(failure)))
    finally:
        caller.close()
    return tried


def _request(loaded: Loaded, tried: Tried, caller: Caller, method: str, path: str) -> None:
    url = caller.url(path)
    answer = caller.call(method, url, b"", None)
    if not isinstance(answer, Answer):
        tried.unreachable = True
        tried.problems.append(loaded.document.problem(_CHECK, f"{method} {url}: no answer: {answer.reason}"))
        return
    said = f"{method} {url} was answered with {answer.status}"
    tried.answered = said
    if answer.status in (401, 403):
        message = f"{said}: the API refuses these credentials; check `auth` and what the token may do"
        tried.problems.append(loaded.document.problem(_AUTH, message))
    elif not 200 <= answer.status < 300:
        message = f"{said}, which says nothing of the credentials; name a request that is answered with 2xx"
        tried.problems.append(loaded.document.problem(_CHECK, message, warning=True))
