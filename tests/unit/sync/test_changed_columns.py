"""A source table that is altered while it is read: no page with other columns than the first is ever sent."""

from __future__ import annotations

import sqlite3

import pytest

from tests.faultapi import FaultAPI, Handler, Request, answer
from tests.project import Project, check_sums


@pytest.mark.parametrize("exclude", ["lookup", "ids_first"])
def test_a_page_with_other_columns_than_the_first_is_not_sent(project: Project, api: FaultAPI, exclude: str) -> None:
    project.fill(
        "Users", "Id INTEGER PRIMARY KEY, First TEXT, Last TEXT", [(n, f"f{n}", f"l{n}") for n in range(1, 41)]
    )
    project.entity(batch_size=10, page_size=10, exclude=exclude)

    def swap(handler: Handler, request: Request) -> None:
        if len(api.requests) == 1:
            with sqlite3.connect(project.folder / "source.db") as source:
                source.execute("CREATE TABLE New (Id INTEGER PRIMARY KEY, Last TEXT, First TEXT)")
                source.execute("INSERT INTO New SELECT Id, Last, First FROM Users")
                source.execute("DROP TABLE Users")
                source.execute("ALTER TABLE New RENAME TO Users")
            source.close()
        answer()(handler, request)

    api.script("/users", swap)
    report = project.run(code=4)
    check_sums(report)
    assert "columns of its SQL changed while it was read" in report["entities"][0]["error"]
    sent = [record for request in api.requests for record in request.records]
    assert sent
    assert all(record["First"] == f"f{record['Id']}" and record["Last"] == f"l{record['Id']}" for record in sent)
    assert len(project.tracked()) == len(sent)

    again = project.run()
    assert len(project.tracked()) == 40
    assert again["status"] == "delivered"
