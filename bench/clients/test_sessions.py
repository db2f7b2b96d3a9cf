"""Many clients at once, cancelling, and large results."""

import concurrent.futures
import os
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pytest

import cluster

MIB = 1 << 20
ENDLESS = "SELECT count(*) FROM generate_series(1, 3000000) AS a(x), generate_series(1, 3000000) AS b(y) WHERE x + y = 7"


def settings(connect, number: int) -> set:
    connection = connect()
    zone = f"+{number % 12:02}:00"
    found = set()
    with connection.cursor() as cursor:
        cursor.execute(f"SET datafusion.execution.time_zone = '{zone}'")
        cursor.execute(f"CREATE TEMPORARY VIEW mine AS SELECT {number} AS n")
        for _ in range(10):
            cursor.execute("SHOW datafusion.execution.time_zone")
            found.add(cursor.fetchone()[1] == zone)
            cursor.execute("SELECT n FROM mine")
            found.add(cursor.fetchone() == (number,))
    return found


def test_twenty_sessions_have_settings_of_their_own(connect):
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda number: settings(connect, number), range(20)))
    assert results == [{True}] * 20


def test_session_options(connect):
    connection = connect(**{"adbc.flight.sql.rpc.with_cookie_middleware": "true"})
    connection.adbc_connection.set_options(**{"adbc.connection.db_schema": "system"})
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM workers")
        assert cursor.fetchone() == (2,)
    assert connection.adbc_current_db_schema == "system"
    assert connection.adbc_current_catalog == "lake"


def busy(running) -> int:
    with running.connect() as connection:
        rows = cluster.fetch(connection, "SELECT sum(running_tasks) AS n FROM system.workers").to_pylist()
    return rows[0]["n"]


def test_cancel_from_another_thread(running, connect):
    connection = connect()
    with connection.cursor() as cursor:
        timer = threading.Timer(1.0, cursor.adbc_cancel)
        timer.start()
        began = time.monotonic()
        with pytest.raises(adbc_driver_manager.Error):
            cursor.execute(ENDLESS)
            cursor.fetchall()
        assert time.monotonic() - began < 3
        timer.join()
    time.sleep(1.0)
    with running.connect() as other:
        states = cluster.fetch(other, "SELECT sql, state FROM system.queries").to_pylist()
    assert [row["state"] for row in states if row["sql"] == ENDLESS] == ["CANCELLED"]


def test_a_result_that_is_dropped_ends(running, connect):
    sql = "SELECT value, 'dropped' AS why FROM generate_series(1, 1000000000)"
    with connect().cursor() as cursor:
        cursor.execute(sql)
        reader = cursor.fetch_record_batch()
        reader.read_next_batch()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        with running.connect() as other:
            rows = cluster.fetch(other, "SELECT sql, state FROM system.queries").to_pylist()
        if [row["state"] for row in rows if row["sql"] == sql] == ["CANCELLED"]:
            return
        time.sleep(0.1)
    pytest.fail(str([row for row in rows if row["sql"] == sql]))


def test_large_results_take_bounded_memory(running, connect, cursor, table, sizes):
    rows = sizes.fetched
    cursor.execute(
        f"CREATE TABLE {table} AS SELECT value AS a, value * 2 AS b, 'text ' || value AS c"
        f" FROM generate_series(1, {rows})"
    )
    before = {process.pid: cluster.rss_bytes(process.pid) for process in running.processes}
    before[os.getpid()] = cluster.rss_bytes(os.getpid())
    highest = dict(before)
    found = total = 0
    with connect().cursor() as other:
        other.execute(f"SELECT * FROM {table}")
        for number, batch in enumerate(other.fetch_record_batch()):
            found += batch.num_rows
            total += sum(batch.column(0)[i].as_py() for i in (0, batch.num_rows - 1))
            if number % 20 == 0:
                highest = {pid: max(most, cluster.rss_bytes(pid)) for pid, most in highest.items()}
    assert found == rows
    assert all(highest[pid] - before[pid] < 500 * MIB for pid in before), (before, highest)


def test_statement_timeout(connect):
    with connect().cursor() as cursor:
        with pytest.raises(flightsql.Error):
            cursor.execute("SET statement_timeout = '1s'")
            cursor.execute(ENDLESS)
            cursor.fetchall()
