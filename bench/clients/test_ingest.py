"""Bulk ingest."""

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pytest

import cluster

MIB = 1 << 20
BATCH_ROWS = 50_000


def batch(start: int, rows: int = BATCH_ROWS) -> pa.RecordBatch:
    numbers = pa.array(range(start, start + rows), pa.int64())
    texts = pa.array([f"text {number % 1000}" for number in range(start, start + rows)])
    return pa.record_batch([numbers, texts], ["id", "words"])


def stream(rows: int) -> pa.RecordBatchReader:
    step = min(rows, BATCH_ROWS)
    return pa.RecordBatchReader.from_batches(
        batch(0, 1).schema, (batch(start, min(step, rows - start)) for start in range(0, rows, step))
    )


def snapshots(cursor, table: str) -> int:
    cursor.execute(f'SELECT count(*) FROM s."{table}$snapshots"')
    return cursor.fetchone()[0]


def count(cursor, table: str) -> tuple:
    cursor.execute(f"SELECT count(*), sum(id), count(DISTINCT words) FROM {table}")
    return cursor.fetchone()


def test_millions_of_rows_in_one_commit(running, cursor, table, sizes):
    rows = sizes.ingested
    before = {process.name: cluster.rss_bytes(process.pid) for process in running.processes}
    assert cursor.adbc_ingest(table, stream(rows), mode="create") == rows
    assert count(cursor, table) == (rows, rows * (rows - 1) // 2, 1_000)
    assert snapshots(cursor, table) == 1
    for process in running.processes:
        assert cluster.rss_bytes(process.pid, "VmHWM") < before[process.name] + 700 * MIB, process.name


def test_modes(cursor, table):
    with pytest.raises(flightsql.Error):
        cursor.adbc_ingest(table, batch(0, 10), mode="append")
    assert cursor.adbc_ingest(table, batch(0, 10), mode="create_append") == 10
    assert cursor.adbc_ingest(table, batch(10, 10), mode="create_append") == 10
    assert cursor.adbc_ingest(table, batch(20, 10), mode="append") == 10
    with pytest.raises(flightsql.Error):
        cursor.adbc_ingest(table, batch(0, 10), mode="create")
    assert count(cursor, table)[:2] == (30, 435)
    assert snapshots(cursor, table) == 3
    assert cursor.adbc_ingest(table, batch(0, 5), mode="replace") == 5
    assert count(cursor, table)[:2] == (5, 10)


def test_columns_are_found_by_name(cursor, table):
    cursor.execute(f"CREATE TABLE {table} (words varchar, id bigint, more int)")
    cursor.adbc_ingest(table, batch(0, 3), mode="append")
    cursor.execute(f"SELECT words, id, more FROM {table} ORDER BY id")
    assert cursor.fetchall() == [("text 0", 0, None), ("text 1", 1, None), ("text 2", 2, None)]
    with pytest.raises(flightsql.Error, match="stranger"):
        cursor.adbc_ingest(table, pa.table({"stranger": [1]}), mode="append")


def test_another_schema(cursor, connection):
    cursor.execute("CREATE SCHEMA IF NOT EXISTS elsewhere")
    cursor.adbc_ingest("t", batch(0, 3), mode="create", catalog_name="lake", db_schema_name="elsewhere")
    cursor.execute("SELECT count(*) FROM lake.elsewhere.t")
    assert cursor.fetchone() == (3,)
    cursor.execute("DROP TABLE elsewhere.t PURGE")
    cursor.execute("DROP SCHEMA elsewhere")


def test_temporary_tables_are_refused(cursor):
    with pytest.raises(flightsql.Error):
        cursor.adbc_ingest("t", batch(0, 3), mode="create", temporary=True)


def test_a_stream_that_breaks_leaves_nothing(cursor, connect, table):
    def broken():
        yield batch(0)
        raise RuntimeError("broken")

    reader = pa.RecordBatchReader.from_batches(batch(0, 1).schema, broken())
    with connect().cursor() as other, pytest.raises(Exception):
        other.adbc_ingest(table, reader, mode="create")
    with pytest.raises(flightsql.Error):
        cursor.execute(f"SELECT * FROM {table}")
