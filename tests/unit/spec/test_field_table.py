"""docs/fields.md is held against the converters."""

from __future__ import annotations

import ast
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.sync.shape.fields import CONVERTERS, Broken

TEXT = (Path(__file__).parent.parent.parent.parent / "docs" / "fields.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| `(.*)` \| (?:`(.*)`|rejected) \|$", TEXT, re.MULTILINE)


def test_the_table_has_every_type_once_and_no_other() -> None:
    first = TEXT.split("Values, as")[0]
    assert re.findall(r"^\| `(\w+)` \|", first, re.MULTILINE) == list(CONVERTERS)
    assert {row[0] for row in ROWS} == set(CONVERTERS)


@pytest.mark.parametrize(("kind", "value", "sent"), ROWS)
def test_each_example_is_what_the_converter_does(kind: Any, value: str, sent: str) -> None:
    convert = CONVERTERS[kind]
    if not sent:
        with pytest.raises(Broken):
            convert(ast.literal_eval(value))
        return
    made = convert(ast.literal_eval(value))
    assert (str(made) if isinstance(made, Decimal) else orjson.dumps(made).decode()) == sent
