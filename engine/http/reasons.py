"""Why a call failed, in plain words."""

from __future__ import annotations

import http.client
import re

import requests
import urllib3

NO_ANSWER = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)
"""Raised if no complete answer arrived: by requests, by the libraries below it, and by our own reading of the answer."""
_LONGEST = 2000
_OBJECT_NAME = re.compile(r"^<?[\w.]+(\([^)]*\)| object at 0x[0-9a-f]+>)?: (?=Failed|\[)")
"""What urllib3 puts before the cause: `<urllib3.connection.HTTPConnection object at 0x7f>: [Errno 111] ...`."""
_NOISE = re.compile(r"\[Errno -?\d+\] |\(_ssl\.c:\d+\)|<[\w.]+ object at 0x[0-9a-f]+>:? ?")


def causes(failure: BaseException) -> list[BaseException]:
    """Return the failure and its causes, the innermost last."""
    seen: list[BaseException] = []
    current: BaseException | None = failure
    while current is not None and current not in seen:
        seen.append(current)
        inner = getattr(current, "reason", None)
        arguments = [argument for argument in current.args if isinstance(argument, BaseException)]
        current = (
            inner if isinstance(inner, BaseException) else arguments[-1] if arguments else current.__cause__ or None
        )
    return seen


def plain(causes: list[BaseException]) -> str:
    """Describe the innermost cause in plain words, without the names of Python objects."""
    if isinstance(causes[-1], http.client.IncompleteRead):
        return "the body of the answer breaks off, or its chunks are not framed as chunks"
    # Cut before it is parsed: a server may put 65,000 characters into its status line.
    text = (str(causes[-1]) or type(causes[-1]).__name__)[:_LONGEST]
    text = _OBJECT_NAME.sub("", text)
    text = _NOISE.sub("", text).strip()
    named = next((type(error).__name__ for error in causes if "SSL" in type(error).__name__), None)
    if named:
        return f"TLS failure: {text}"
    if any("NameResolution" in type(error).__name__ for error in causes):
        return f"DNS failure: {text}"
    return text
