"""The types that a field may have."""

from __future__ import annotations

from typing import Literal

FieldType = Literal["guid", "string", "int", "float", "decimal", "bool", "date", "datetime", "binary"]
