"""Fixtures of all tests: projects, a misbehaving API, private database servers."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import servers
from tests.faultapi import FaultAPI
from tests.project import Project

settings.register_profile(
    "engine", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.load_profile("engine")

_ABSENT = "not on this machine: "


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never see the connections or proxies of whoever runs them."""
    for name in (
        "DEFAULT_CONNECTION",
        "ESS_CONNECTION",
        "LOG_CONNECTION",
        "API_BASE_URL",
        "API_TOKEN",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def api() -> Iterator[FaultAPI]:
    """A local API that does as it is told."""
    server = FaultAPI()
    yield server
    server.stop()


@pytest.fixture
def project(tmp_path: Path, api: FaultAPI) -> Project:
    """An empty project whose API is `api`."""
    return Project(tmp_path / "project", api.url)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[servers.Server]:
    """A private PostgreSQL for this test process."""
    try:
        with servers.postgresql() as server:
            yield server
    except servers.Absent as absent:
        pytest.skip(f"{_ABSENT}{absent}")


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[servers.Server]:
    """A private MariaDB for this test process."""
    try:
        with servers.mariadb() as server:
            yield server
    except servers.Absent as absent:
        pytest.skip(f"{_ABSENT}{absent}")


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """`database("postgresql" | "mysql" | "sqlite")` makes an empty database and gives its connection string."""

    def make(dialect: str) -> str:
        name = f"t{uuid.uuid4().hex[:12]}"
        if dialect == "sqlite":
            file = tmp_path / f"{name}.db"
            file.touch()
            return f"sqlite:///{file}"
        server: servers.Server = request.getfixturevalue(
            {"postgresql": "postgresql_server", "mysql": "mariadb_server"}[dialect]
        )
        return server.database(name)

    return make


@pytest.fixture
def away(postgresql_server: servers.Server) -> Callable[[str, bool], None]:
    """`away(text, True)`: a PostgreSQL database that ends all sessions and lets nobody in, until `away(text, False)`."""

    def make(text: str, gone: bool) -> None:
        import pyodbc

        name = text.partition("Database=")[2].partition(";")[0]
        allowed = "false" if gone else "true"
        with closing(pyodbc.connect(postgresql_server.maintenance, autocommit=True)) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")
            if gone:
                connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    return make


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line of the run says what was skipped for want of a server, and why."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    skipped = [report for report in reporter.stats.get("skipped", []) if _ABSENT in str(report.longrepr)]
    if skipped:
        reasons = sorted(
            {
                str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr).split(_ABSENT)[-1][
                    :80
                ]
                for report in skipped
            }
        )
        print(f"{len(skipped)} tests were skipped because this is {_ABSENT}{'; '.join(reasons)}")


def fill(text: str, *statements: str) -> None:
    """Run statements on a database, SQLite or over ODBC."""
    if text.startswith("sqlite:///"):
        with sqlite3.connect(text.removeprefix("sqlite:///")) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()
        return
    import pyodbc

    with pyodbc.connect(text, autocommit=True) as odbc:
        for statement in statements:
            odbc.execute(statement)
    odbc.close()
