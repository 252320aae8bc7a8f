"""Generated HR master data: the five tables that `pipelines/sync.yaml` reads; the same rows for the same number."""

from __future__ import annotations

import random
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["guid", "text", "int", "bool", "decimal", "datetime"]
Row = tuple[Any, ...]

SQLITE_TYPES: dict[Kind, str] = {
    "guid": "NVARCHAR(36)", "text": "NVARCHAR(200)", "int": "INTEGER", "bool": "BOOLEAN",
    "decimal": "DECIMAL(9,4)", "datetime": "DATETIME",
}  # fmt: skip

_FIRST = [
    "Adi",
    "Bayu",
    "Citra",
    "Dewi",
    "Eko",
    "Fitri",
    "Gita",
    "Hadi",
    "Indah",
    "Joko",
    "Kartika",
    "Lestari",
    "Made",
    "Nur",
    "Putri",
    "Rizki",
    "Sari",
    "Tono",
    "Wulan",
    "Yusuf",
]
_LAST = [
    "Anggraini",
    "Gunawan",
    "Hidayat",
    "Kusuma",
    "Lubis",
    "Maharani",
    "Nugroho",
    "Pratama",
    "Rahayu",
    "Santoso",
    "Siregar",
    "Wibowo",
    "Wijaya",
    "Yulianti",
]
_UNITS = [
    "Body",
    "Press",
    "Paint",
    "Assembly",
    "Engine",
    "Casting",
    "Logistics",
    "Quality",
    "Purchasing",
    "Finance",
    "Legal",
    "IT",
    "Safety",
    "Training",
]


@dataclass(frozen=True, slots=True)
class HRTable:
    """One generated table; `share` is its number of rows per user."""

    name: str
    database: Literal["default", "ess"]
    share: float
    columns: tuple[tuple[str, Kind], ...]
    row: Callable[[random.Random, int], Row]

    def rows(self, users: int) -> Iterator[Row]:
        """Yield the rows for this many users; more users only append rows."""
        source = random.Random(self.name)  # noqa: S311 - sample data
        return (self.row(source, number) for number in range(self.count(users)))

    def count(self, users: int) -> int:
        """Return the number of rows for this many users."""
        return max(1, round(users * self.share))


def _guid(source: random.Random) -> str:
    return str(uuid.UUID(int=source.getrandbits(128), version=4))


def _moment(source: random.Random) -> str:
    return f"20{source.randrange(10, 26):02}-{source.randrange(1, 13):02}-{source.randrange(1, 29):02} {source.randrange(24):02}:{source.randrange(60):02}:00"


def _user(source: random.Random, number: int) -> Row:
    first, last = source.choice(_FIRST), source.choice(_LAST)
    email = f"{first}.{last}{number}@example.com".lower() if source.random() < 0.9 else None
    return (
        _guid(source),
        f"{100000 + number}",
        f"{first}.{number}".lower(),
        f"{first} {last}",
        source.choice("MF"),
        email,
        int(source.random() < 0.95),
    )


def _actual_org(source: random.Random, number: int) -> Row:
    unit, level = source.choice(_UNITS), source.randrange(1, 7)
    code = f"{50000000 + number}"
    return (
        _guid(source), code, f"{50000000 + number // 7}", f"{unit} Section {number % 40}", "Production" if source.random() < 0.7 else None,
        f"{100000 + number}", f"{source.choice(_FIRST)} {source.choice(_LAST)}", f"P{number}", f"{unit} Staff", f"J{number % 300}", f"{unit} Operator",
        "1", "Permanent", "A", "Monthly", "01", "Full time", "Karawang", "Plant 1" if source.random() < 0.5 else None,
        level, f"{source.randrange(0, 20000) / 10000:.4f}", int(level < 3), level, int(source.random() < 0.1), f"/{level}/{code}", f"{unit} “{code}”",
    )  # fmt: skip


def _actual_entity(source: random.Random, number: int) -> Row:
    unit = source.choice(_UNITS)
    return (_guid(source), f"{50000000 + number}", f"O{number}", f"{unit} {number}", f"{unit} unit")


def _org_object(source: random.Random, number: int) -> Row:
    unit = source.choice(_UNITS)
    return (
        _guid(source),
        f"{60000000 + number}",
        source.choice("OSCP"),
        unit[:4].upper(),
        unit if source.random() < 0.9 else None,
        _moment(source),
        "9999-12-31 00:00:00",
        None,
    )


def _event(source: random.Random, number: int) -> Row:
    changed = source.random() < 0.3
    return (
        _guid(source), f"Event {number}", source.choice(["HOLIDAY", "TRAINING", "AUDIT"]), _moment(source), _moment(source),
        "All plants" if source.random() < 0.5 else None, "system", _moment(source), "hr.admin" if changed else None, _moment(source) if changed else None, 1,
    )  # fmt: skip


def _columns(text: str) -> tuple[tuple[str, Kind], ...]:
    pairs = [word.partition(":") for word in text.split()]
    return tuple((name, kind or "text") for name, _, kind in pairs)  # type: ignore[misc]  # the words below are kinds


TABLES = (
    HRTable("TB_M_USER", "default", 1.0, _columns("Id:guid NoReg Username Name Gender Email IsActive:int"), _user),
    HRTable(
        "TB_M_ACTUAL_ORG", "default", 0.8,
        _columns(
            "Id:guid OrgCode ParentOrgCode OrgName Service NoReg Name PostCode PostName JobCode JobName EmployeeGroup EmployeeGroupText "
            "EmployeeSubgroup EmployeeSubgroupText WorkContract WorkContractText PersonalArea PersonalSubarea DepthLevel:int Staffing:decimal "
            "Chief:int OrgLevel:int Vacant:int Structure ObjectDescription"
        ),
        _actual_org,
    ),
    HRTable("TB_M_ACTUAL_ENTITY", "default", 0.2, _columns("Id:guid OrgCode ObjectCode ObjectText ObjectDescription"), _actual_entity),
    HRTable(
        "TB_M_ORG_OBJECT", "default", 0.3,
        _columns("Id:guid ObjectID ObjectType Abbreviation ObjectText StartDate:datetime EndDate:datetime ObjectDescription"), _org_object,
    ),
    HRTable(
        "TB_M_EVENTS_CALENDAR", "ess", 0.05,
        _columns(
            "Id:guid Title EventTypeCode StartDate:datetime EndDate:datetime Description CreatedBy CreatedOn:datetime ModifiedBy "
            "ModifiedOn:datetime RowStatus:bool"
        ),
        _event,
    ),
)  # fmt: skip


def create_table(table: HRTable, types: dict[Kind, str]) -> str:
    """Return the CREATE TABLE statement with these column types."""
    columns = ", ".join(
        f"{name} {types[kind]}{' NOT NULL PRIMARY KEY' if name == 'Id' else ''}" for name, kind in table.columns
    )
    return f"CREATE TABLE {table.name} ({columns})"


def fill_sqlite(folder: Path, users: int) -> dict[str, int]:
    """Create or extend `mdm.db` and `ess.db` in a folder; returns the number of rows of each table."""
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for file, database in (("mdm.db", "default"), ("ess.db", "ess")):
        connection = sqlite3.connect(folder / file)
        with connection:
            for table in TABLES:
                if table.database == database:
                    counts[table.name] = _fill(connection, table, users)
        connection.close()
    return counts


def _fill(connection: sqlite3.Connection, table: HRTable, users: int) -> int:
    connection.execute(create_table(table, SQLITE_TYPES).replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))
    have = connection.execute(f"SELECT COUNT(*) FROM {table.name}").fetchone()[0]  # noqa: S608 - a constant above
    if have < table.count(users):
        marks = ", ".join("?" * len(table.columns))
        connection.executemany(f"INSERT OR IGNORE INTO {table.name} VALUES ({marks})", table.rows(users))  # noqa: S608
    return max(int(have), table.count(users))
