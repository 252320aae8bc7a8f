"""Writes what the documentation takes from the product itself: the spec reference (docs/reference.md) and the picture of a run.

python docs/generate.py             both
python docs/generate.py reference   the reference alone (quick; a test compares it)
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from engine.sync.spec.schema import SCHEMA

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- reference: made by docs/generate.py -->", "<!-- /reference -->"


def reference() -> str:
    """The table of every key of a spec."""
    schema = SCHEMA.whole
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, part, required in _keys(schema, schema, ""):
        default = "**required**" if required else f"`{json.dumps(part['default'])}`" if "default" in part else ""
        lines.append(
            f"| `{name}` | {_type(part)} | {_cell(default)} | {_cell(part['description'])} e.g. `{_cell(json.dumps(part['examples'][0]))}` |"
        )
    return "\n".join(lines)


def _keys(schema: dict[str, Any], part: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, inner in part.get("properties", {}).items():
        path = f"{prefix}{name}"
        if path == "defaults":
            yield path, inner, False
            continue
        yield path, inner, name in part.get("required", [])
        yield from _keys(schema, inner, f"{path}.")
        target = inner.get("items", {}).get("$ref", "").rpartition("/")[2]
        if target:
            yield from _keys(schema, schema["$defs"][target], f"{path}[].")


def _type(part: dict[str, Any]) -> str:
    if "enum" in part:
        return " \\| ".join(str(value) for value in part["enum"])
    kinds = part.get("type", "")
    words = {"object": "mapping", "array": "list", "string": "text", "integer": "whole number", "boolean": "true/false"}
    return " or ".join(
        words.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def write_reference() -> None:
    """Put the table between its markers in docs/reference.md."""
    page = ROOT / "docs" / "reference.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{reference()}\n{END}{after}", encoding="utf-8")


def write_picture() -> None:
    """Run the demo twice and draw what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        console = Console(record=True, width=108, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        for _ in range(2):
            command = [sys.executable, "-m", "engine", "demo", "--dir", folder]
            # The progress of a process without a terminal is plain lines; the table is what matters here.
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "106"}
            )
            console.print(Text("$ make demo", style="bold green"))
            console.print(Text(done.stdout.replace(folder, "var/demo")))
        svg = console.export_svg(title="SyncLedger: two runs", unique_id="run")
    # A picture fetches nothing: the reader's own monospaced font does.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (ROOT / "docs" / "run.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    write_reference()
    if sys.argv[1:] != ["reference"]:
        write_picture()
