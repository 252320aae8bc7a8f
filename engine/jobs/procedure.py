"""Calls a stored procedure: arguments checked against its signature, its outputs read back, its errors understood."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.db.connection import Connection
from engine.db.statement import Statement
from engine.db.templates import Sql
from engine.errors import DatabaseError
from engine.jobs.model import Errors
from engine.jobs.values import Values
from engine.spec.suggest import did_you_mean

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_ ]*(\([0-9, max]+\))?[A-Za-z0-9_ ]*", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST = 1_000_000
"""Characters of an error output that are read as XML."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One parameter of a procedure as a call names it. `variable` holds what it gives back; `type` is the database's own word."""

    name: str
    out: bool
    type: Sql
    variable: Sql
    named: Sql
    at: int
    value: Any = None


def signature(connection: Connection, procedure: str) -> list[Argument]:
    """The parameters of a procedure, in order, from the database's catalogue; none also for one that is not there. Raises `DatabaseError`."""
    schema, _, name = procedure.rpartition(".")
    found = connection.run("catalogue/parameters.sql.j2", name=name, schema=schema or None, whole=procedure)
    made = []
    for at, (parameter, mode, kind) in enumerate(found.rows):
        if not _NAME.fullmatch(str(parameter)) or not _TYPE.fullmatch(str(kind)):
            raise DatabaseError(
                f"the parameter {parameter!r} of {procedure} has a name or a type ({kind}) that cannot be called"
            )
        variable = f"@a{at}" if connection.dialect.name == "mssql" else f"@syncledger_{at}"
        made.append(Argument(str(parameter), mode == "out", Sql(kind), Sql(variable), Sql(f"@{parameter}"), at))
    return made


def statements(
    connection: Connection, procedure: str, given: Mapping[str, Any], errors: Errors | None
) -> list[Statement]:
    """The call, and where the dialect needs one the query of what it gave back.

    Raises `DatabaseError` for arguments that the procedure does not have, and for those that it needs and are not given.
    """
    known = signature(connection, procedure)
    by_name = {one.name.casefold(): one for one in known}
    unknown = [name for name in given if name.casefold() not in by_name]
    if unknown:
        there = did_you_mean(unknown[0], [one.name for one in known])
        missing = "" if known else "; is it there, and may this user see it?"
        raise DatabaseError(f"the procedure {procedure} has no parameter {unknown[0]!r}{there}{missing}")
    values = {name.casefold(): value for name, value in given.items()}
    absent = [one.name for one in known if not one.out and one.name.casefold() not in values]
    if absent:
        raise DatabaseError(f"the procedure {procedure} needs the argument {absent[0]!r}")
    if errors and errors.output.casefold() not in by_name:
        raise DatabaseError(
            f"the procedure {procedure} has no output {errors.output!r}{did_you_mean(errors.output, [one.name for one in known])}"
        )
    full = [replace(one, value=values.get(one.name.casefold())) for one in known]
    made = [connection.templates.statement("jobs/call.sql.j2", procedure=procedure, given=full)]
    if connection.dialect.name == "mysql" and any(one.out for one in full):
        made.append(connection.templates.statement("jobs/called.sql.j2", given=full))
    return made


def check(row: Values, errors: Errors) -> None:
    """Raises `DatabaseError` where the error output of a call says so, with the code and the message of its first error."""
    said = row.get(errors.output)
    if said is None or not str(said).strip():
        return
    text = str(said)
    if errors.xml is None:
        raise DatabaseError(text)
    found = _elements(text, errors)
    if found:
        code, message = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise DatabaseError(f"{message or text[:300]}{more}", code)


def _elements(text: str, errors: Errors) -> list[tuple[str | None, str | None]]:
    from xml.etree.ElementTree import ParseError  # noqa: PLC0415 - only for a procedure that reports its errors in XML

    from defusedxml import DefusedXmlException  # noqa: PLC0415
    from defusedxml.ElementTree import fromstring  # noqa: PLC0415

    if len(text) > _LONGEST:
        raise DatabaseError(
            f"the error output {errors.output!r} has {len(text):,} characters; at most {_LONGEST:,} are read"
        )
    try:
        root = fromstring(f"<output>{re.sub(r'^<[?]xml.*?[?]>', '', text.strip())}</output>")
        return [(_part(one, errors.code), _part(one, errors.message)) for one in root.iterfind(errors.xml or ".")]
    except (ParseError, DefusedXmlException, SyntaxError, ValueError) as failure:
        raise DatabaseError(
            f"the error output {errors.output!r} is no XML that can be read ({failure}): {text[:200]}"
        ) from failure


def _part(element: Any, path: str | None) -> str | None:
    """`@code` is an attribute, `.` the element's own text, anything else the text of an element below."""
    if path is None:
        return None
    found = (
        element.get(path[1:])
        if path.startswith("@")
        else "".join(element.itertext())
        if path == "."
        else element.findtext(path)
    )
    return str(found).strip() if found is not None else None
