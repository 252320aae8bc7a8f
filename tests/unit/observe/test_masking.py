"""A secret is found in a text in whatever encoding it stands, also in one encoding inside another; other text stays as it is."""

from __future__ import annotations

import base64
import html
import json
import random
import time
import uuid
from collections.abc import Callable
from html.entities import codepoint2name
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.observe import masks
from engine.observe.secrets import Secrets
from engine.sync.spec.load import Examined, examine
from tests.project import Project

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
SIGNS = "+/=&<>\"'\\}{%;:#@!?.,-_~$() \u00fc\u00e9\u65e5\u0416\U0001f600"

Encode = Callable[[str], str]


def partly(text: str) -> str:
    """Percent encoding of every other character, and of those that must be."""
    return "".join(
        character if position % 2 and character not in "%+" else "".join(f"%{byte:02x}" for byte in character.encode())
        for position, character in enumerate(text)
    )


def dot_net(text: str) -> str:
    """As System.Text.Json writes it."""
    escaped = (json.dumps(c)[1:-1] if ord(c) > 0xFFFF else f"\\u{ord(c):04X}" for c in text)
    return "".join(c if c.isascii() and c.isalnum() else e for c, e in zip(text, escaped, strict=True))


def go(text: str) -> str:
    written = json.dumps(text, ensure_ascii=False)[1:-1]
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def in_base64(alphabet: Encode, before: str, padded: bool) -> Encode:
    def encode(text: str) -> str:
        written = alphabet(before + text)
        return written if padded else written.rstrip("=")

    return encode


ENCODINGS: dict[str, Encode] = {
    "plain": lambda text: text,
    "json": lambda text: json.dumps(text)[1:-1],
    "json in utf-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json of php": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "json of .net": dot_net,
    "json of go": go,
    "json in lower case": lambda text: "".join(json.dumps(c)[1:-1] if ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in text),
    "html": html.escape,
    "html, named": lambda text: "".join(f"&{codepoint2name[ord(c)]};" if ord(c) in codepoint2name else c for c in text),
    "html, decimal": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "html, hexadecimal": lambda text: "".join(f"&#x{ord(c):X};" for c in text),
    "percent": lambda text: quote(text, safe=""),
    "percent, lower case": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "percent, partly": partly,
    "a path": quote,
    "a form": quote_plus,
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "repr of bytes": lambda text: repr(text.encode())[2:-1],
    "a connection string": lambda text: text.replace("}", "}}"),
    "backslashes": lambda text: "".join(c if c.isalnum() else f"\\{c}" for c in text),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal, upper case": lambda text: text.encode().hex().upper(),
    "hexadecimal of .net": lambda text: text.encode().hex("-").upper(),
    "base64 in lines": lambda text: base64.encodebytes(text.encode()).decode(),
}  # fmt: skip
for kind, function in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
    for before in ("", "u", "u:", "us:"):
        for padded in (True, False):
            name = f"{kind} after {len(before)}{'' if padded else ', no padding'}"
            ENCODINGS[name] = in_base64(lambda text, f=function: f(text.encode()).decode(), before, padded)  # type: ignore[misc]


secret_texts = st.text(LETTERS + SIGNS, min_size=8, max_size=40).filter(lambda text: text == text.strip())


@settings(derandomize=True, max_examples=8)
@given(
    secret_texts, st.sampled_from(["", "Bearer ", "key=", '{"token":"', "/v1/"]), st.sampled_from(["", " ", '"}', "&x"])
)
@example("Sup3r+geh/e}im&<\u00fc>'\"\\x", "", "")
def test_no_encoding_of_a_secret_and_no_pair_of_encodings_survives(secret: str, before: str, after: str) -> None:
    secrets = Secrets([secret])
    for inner, encode in ENCODINGS.items():
        written = encode(secret)
        for outer, again in ENCODINGS.items():
            encoded = again(written)
            masked = secrets.mask(before + encoded + after)
            assert encoded not in masked, (inner, outer, masked)
            assert "***" in masked, (inner, outer, masked)
            # The text around it stays, and of the encoding at most what `user:` and padding came to.
            beside = len(masked.replace(before, "", 1)) - len(after) - len("***")
            assert beside <= 6 * len(again(encode(""))) + 6 * 8, (inner, outer, masked)


@settings(derandomize=True, max_examples=50)
@given(secret_texts, st.sampled_from(sorted(ENCODINGS)))
def test_an_encoding_is_masked_to_its_last_character(secret: str, name: str) -> None:
    text = f"before {ENCODINGS[name](secret)} after"
    masked = Secrets([secret]).mask(text)
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    left = masked.removeprefix("before ").removesuffix(" after").replace("***", "").strip("=\n")
    assert len(left) <= 4, (name, masked)


ORDINARY = [
    "HTTP 422 Unprocessable Entity: {\"errors\": [{\"path\": \"items[3].Name\", \"message\": \"is too long\\nby 3\"}]}",
    "https://api.partner.example/v1/hr/users?page=2&filter=a%20b",
    "C:\\Users\\hr\\new folder\\token.txt",
    "<p>Caf&eacute; &amp; Bar &#8211; R&uuml;ckstand</p>",
    "Chlo\u00e9 \u65e5\u672c \u0416 \U0001f600 50% of 12's \"done\" {{ x }}",
    "aGVsbG8gd29ybGQgaG93IGFyZSB5b3U= 48656c6c6f20776f726c64 DE-AD-BE-EF-00-11-22-33",
    "batch 1f0c9d5e-8c36-4d0a-9d3b-0b5f7f3f2a11, run 7b3c, 3,000 records",
]  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert Secrets(["hunter2-Geheim", "Sup3r+geh/e}im", "abcd", "q7", "\u00fc%41\\n&lt;zzz"]).mask(text) == text


@settings(derandomize=True, max_examples=200)
@given(st.text(LETTERS + SIGNS, max_size=200), secret_texts)
def test_any_text_without_the_secret_stays_as_it_is(text: str, secret: str) -> None:
    word = f"Q{secret}Z{uuid.UUID(int=random.Random(secret).getrandbits(128)).hex}"
    assert Secrets([word]).mask(text) == text


def test_utf_16_as_dot_net_writes_it_is_read_too() -> None:
    secrets = Secrets(["hunter2-Geheim/\u65e5\u672c"])
    for text in ("hunter2-Geheim/\u65e5\u672c", "hunter2-Geheim\\/\\u65e5\\u672c"):
        written = base64.b64encode(text.encode("utf-16-le")).decode()
        assert len(secrets.mask(written).replace("***", "")) <= 8


def test_a_short_secret_is_masked_as_a_word_alone() -> None:
    secrets = Secrets(["a+b", "7"])
    assert secrets.mask("a+b xa+b 7 17 \\u0037 &#55; %37") == "*** xa+b *** 17 *** *** ***"


def test_secrets_that_overlap_leave_nothing_of_each_other() -> None:
    assert Secrets(["abcdef", "defghi"]).mask("xabcdefghiy") == "x***y"
    assert Secrets(["abab"]).mask("xabababy") == "x***y"


def test_a_token_that_is_learned_later_is_masked_on_every_screen_too() -> None:
    secrets = Secrets(["hunter2-Geheim"])
    masks.remember(secrets)
    secrets.add("eyJ-a-fetched-token")
    assert masks.masked("hunter2-Geheim eyJ-a-fetched-token") == "*** ***"


def test_a_process_that_runs_for_months_keeps_the_newest_secrets_only() -> None:
    secrets = Secrets(["configured-secret"], newest=3)
    for number in range(10):
        secrets.add(f"token-{number}", "configured-secret")
    assert secrets.mask("token-9 token-8 token-1 configured-secret") == "*** *** token-1 ***"


WORST = ["\\", "%", "&", "&#", "A", "4", "41", "41-", "41-4", "%41", "%25", "\\u0041", "&#65;", "}", "QUFB", "/", "\u00c3\u00a9", "\n",
         "hunter2-Gehei"]  # fmt: skip


@pytest.mark.parametrize("letter", WORST)
def test_masking_costs_time_in_proportion_to_the_text(letter: str) -> None:
    """No pattern goes back and forth: 100,000 of the worst letters take a moment, not minutes."""
    secrets = Secrets(["hunter2-Geheim", "abcd"])
    began = time.monotonic()
    secrets.mask((letter * 100_000)[:100_000])
    assert time.monotonic() - began < 20


# What a variable gave of a URL


URLS: list[tuple[dict[str, str], str, str]] = [
    ({"endpoint": "/x?api_key=${V}"}, "S3cret+/==", "/x?api_key=***"),
    ({"endpoint": "/x?a=1&api_key=k-${V}&b=2"}, "S3cret", "/x?a=1&api_key=k-***&b=2"),
    ({"endpoint": "/bot${V}/send"}, "123:abcdef", "/bot***/send"),
    ({"endpoint": "${V}"}, "/hooks/S3cret?key=Oth3r", "/***?key=***"),
    ({"endpoint": "/x?${V}"}, "a=4711abc&key=Oth3r", "/x?a=***&key=***"),
    ({"base_url": "https://api.example.com/${V}/v1"}, "S3cret", "https://api.example.com/***/v1/users"),
    ({"base_url": "https://hr:${V}@api.example.com"}, "p/a?s#s", "https://hr:***@api.example.com/users"),
    ({"base_url": "https://${V}@api.example.com"}, "t0kenuser", "https://***@api.example.com/users"),
    ({"base_url": "https://${V}:S3cret@api.example.com"}, "payroll", "https://payroll:***@api.example.com/users"),
    ({"base_url": "${V}"}, "https://api.example.com/hr-sync/v2", "https://api.example.com/hr-sync/v2/users"),
    ({"base_url": "${V}/v2"}, "https://api.example.com/hr", "https://api.example.com/hr/v2/users"),
    ({"base_url": "https://${V}:8443/api"}, "api.example.com", "https://api.example.com:8443/api/users"),
    ({"base_url": "${V}"}, "https://hr:S3cret@h.example/api", "https://hr:***@h.example/api/users"),
    ({"base_url": "${V}"}, "https://h.example/services/T0001/B00012345", "https://h.example/services/***/***/users"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "value", "shown"), URLS)
def test_what_a_variable_gave_of_a_url_is_masked_but_for_host_and_plain_words(
    project: Project, keys: dict[str, str], value: str, shown: str
) -> None:
    """User information, query values and path parts that came from `${...}` are masked; what makes up the base URL can be read."""
    project.entity(endpoint=keys.get("endpoint", "/users"))
    project.spec["api"]["base_url"] = keys.get("base_url", "http://h")
    loaded = _loaded(project, value)
    assert loaded.loaded is not None, loaded.problems
    pipeline = loaded.loaded.pipeline
    base, endpoint = pipeline.api.base_url, pipeline.entities[0].endpoint
    assert value in base + endpoint
    assert loaded.secrets.mask(base + endpoint).removeprefix("http://h/") == shown.removeprefix("/")


def test_a_proxy_and_a_token_url_from_variables_are_masked_too(project: Project) -> None:
    project.entity()
    project.spec["api"]["proxy"] = "http://hr:${V}@proxy.example:3128"
    oauth2 = {
        "token_url": "https://id.example/${V}/token?k=${V}",
        "client_id": "hr",
        "client_secret": "x-client-secret",
    }
    project.spec["api"]["auth"] = {"oauth2": oauth2}
    mask = _loaded(project, "S3cret").secrets.mask
    assert mask("https://id.example/S3cret/token?k=S3cret") == "https://id.example/***/token?k=***"
    assert mask("http://hr:S3cret@proxy.example:3128") == "http://hr:***@proxy.example:3128"


def _loaded(project: Project, value: str) -> Examined:
    return examine(project.write(), {"V": value})
