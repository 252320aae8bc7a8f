"""Fixtures of all tests: projects, a misbehaving API, private database servers."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from engine.observe import masks
from engine.observe.secrets import Secrets
from tests import servers
from tests.faultapi import FaultAPI
from tests.project import Project

settings.register_profile(
    "engine",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("engine")

ABSENT = "not on this machine: "


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


@pytest.fixture(autouse=True)
def _no_secrets_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process masks what any spec it has read keeps secret; a test has read its own alone."""
    monkeypatch.setattr(masks, "_ALL", Secrets())


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
    except servers.Absent as missing:
        absent(str(missing))


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[servers.Server]:
    """A private MariaDB for this test process."""
    try:
        with servers.mariadb() as server:
            yield server
    except servers.Absent as missing:
        absent(str(missing))


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """`database("postgresql" | "mysql" | "sqlite")` makes an empty database and gives its connection string."""

    def make(dialect: str) -> str:
        name = f"t{uuid.uuid4().hex[:12]}"
        if dialect == "sqlite":
            file = tmp_path / f"{name}.db"
            with sqlite3.connect(file) as connection:
                connection.execute("PRAGMA user_version = 1")  # a database, not a file that lost its content
            connection.close()
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
    """The last line of the run says how many tests were skipped, and why."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    skipped = reporter.stats.get("skipped", [])
    if skipped:
        reasons = sorted({_reason(report).partition(ABSENT)[2] or _reason(report) for report in skipped})
        print(f"{len(skipped)} tests were skipped; {ABSENT}{'; '.join(reasons)}")


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")[:120]


def absent(what: str) -> NoReturn:
    """Skip a test for want of something that this machine does not have."""
    pytest.skip(f"{ABSENT}{what}")


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
