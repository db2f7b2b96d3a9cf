"""A coordinator and two workers over an empty lake, for the whole run, and connections to it."""

import contextlib
import dataclasses
import os
import pathlib
import sys

import adbc_driver_flightsql.dbapi as flightsql
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import cluster  # noqa: E402
import lake as lakes  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Rows of the large tests."""

    ingested: int
    fetched: int


@pytest.fixture(scope="session")
def sizes() -> Sizes:
    quick = os.environ.get("CLIENTS_QUICK") == "1"
    return Sizes(ingested=50_000, fetched=200_000) if quick else Sizes(ingested=5_000_000, fetched=10_000_000)


@pytest.fixture(scope="session")
def running():
    binary = pathlib.Path(os.environ["CLIENTS_INSHORE"])
    with lakes.temporary() as lake, cluster.Cluster(binary, lake, 2, schema="s") as started:
        with started.connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA s")
        yield started


@pytest.fixture
def connect(running):
    """Opens connections, which are closed after the test."""
    with contextlib.ExitStack() as stack:

        def opened(**options) -> flightsql.Connection:
            return stack.enter_context(flightsql.connect(running.uri, db_kwargs=options, autocommit=True))

        yield opened


@pytest.fixture
def connection(connect):
    return connect()


@pytest.fixture
def cursor(connection):
    with connection.cursor() as cursor:
        yield cursor


@pytest.fixture
def table(request, running):
    """The name of a table that is gone after the test."""
    name = request.node.name.split("[")[0].removeprefix("test_")
    yield name
    with running.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {name} PURGE")
