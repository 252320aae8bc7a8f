"""Recognizes an HTML page in place of an API's answer: a login form, a proxy's notice, a wrong URL."""

from __future__ import annotations

import html

_LOOKED_AT = 65536
_SHOWN = 100


def title(body: bytes) -> str | None:
    """Return the title of an HTML page, '' if it has none; None if the body is not HTML."""
    text = body[:_LOOKED_AT].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    folded = text.lower()
    if not folded.startswith(("<!doctype html", "<html", "<head", "<body")):
        return None
    # A regular expression for this takes quadratic time on many `<title`.
    start = folded.find(">", folded.find("<title")) + 1 if "<title" in folded else 0
    end = folded.find("<", start)
    return " ".join(html.unescape(text[start:end][:1000]).split()) if start and end > start else ""


def shown(found: str) -> str:
    """Describe a page with this title."""
    return f"an HTML page ({found[:_SHOWN]!r})" if found else "an HTML page"
