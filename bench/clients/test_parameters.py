"""Prepared statements with parameters."""

import datetime
import decimal

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
import pytest

UTC = datetime.timezone.utc
AT = datetime.datetime(2024, 2, 29, 1, 2, 3, 4)

# Columns of every type, and two rows of values.
COLUMNS = [
    ("flag", "boolean", pa.bool_(), True),
    ("small", "int", pa.int32(), -7),
    ("large", "bigint", pa.int64(), 2**62),
    ("single", "real", pa.float32(), 1.5),
    ("exact", "double", pa.float64(), -2.25),
    ("amount", "decimal(20, 3)", pa.decimal128(20, 3), decimal.Decimal("-123.456")),
    ("words", "varchar", pa.string(), "täxt ' ? $1"),
    ("bytes", "binary", pa.binary(), b"\x00\xff"),
    ("day", "date", pa.date32(), datetime.date(1969, 12, 31)),
    ("clock", "time", pa.time64("us"), datetime.time(23, 59, 59, 999999)),
    ("at", "timestamp", pa.timestamp("us"), AT),
    ("instant", "timestamptz", pa.timestamp("us", tz="UTC"), AT.replace(tzinfo=UTC)),
]


def make(cursor, table):
    cursor.execute(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind, _, _ in COLUMNS)})")


def test_every_type_goes_in_and_out(cursor, table):
    make(cursor, table)
    schema = pa.schema([(name, kind) for name, _, kind, _ in COLUMNS])
    rows = pa.Table.from_pylist([{name: value for name, _, _, value in COLUMNS}, {}], schema)
    cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(COLUMNS))})", rows)
    assert cursor.rowcount == 2
    cursor.execute(f"SELECT * FROM {table} ORDER BY flag NULLS LAST")
    assert cursor.fetch_arrow_table().to_pylist() == rows.to_pylist()
    for name, _, kind, value in COLUMNS:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE {name} = ?", pa.record_batch([pa.array([value], kind)], ["v"]))
        assert cursor.fetchall() == [(1,)], name
        cursor.execute(f"SELECT count(*) FROM {table} WHERE {name} = ?", (None,))
        assert cursor.fetchall() == [(0,)], name


def test_python_values(cursor):
    values = (1, 1.5, "x", b"y", True, None, datetime.date(2024, 1, 2), AT)
    cursor.execute("SELECT ?, ?, ?, ?, ?, ?, ?, ?", values)
    assert len(cursor.fetchone()) == len(values)


def test_executemany_is_one_commit(cursor, table):
    cursor.execute(f"CREATE TABLE {table} (a bigint, b varchar)")
    cursor.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(number, f"row {number}") for number in range(1_000)])
    assert cursor.rowcount == 1_000
    cursor.execute(f"SELECT count(*), sum(a) FROM {table}")
    assert cursor.fetchall() == [(1_000, 499_500)]
    cursor.execute(f'SELECT count(*) FROM s."{table}$snapshots"')
    assert cursor.fetchall() == [(1,)]


def test_executemany_of_columns_and_constants(cursor, table):
    cursor.execute(f"CREATE TABLE {table} (a bigint, b varchar, c int)")
    cursor.executemany(f"INSERT INTO {table} (b, a) VALUES ('same', ? + 1)", [(1,), (2,)])
    cursor.execute(f"SELECT a, b, c FROM {table} ORDER BY a")
    assert cursor.fetchall() == [(2, "same", None), (3, "same", None)]


def test_dollar_parameters_in_any_order(cursor):
    places = ", ".join(f"CAST(${number} AS bigint)" for number in range(12, 0, -1))
    cursor.execute(f"SELECT {places}", tuple(range(1, 13)))
    assert cursor.fetchone() == tuple(range(12, 0, -1))


def test_a_query_for_each_of_several_rows(cursor):
    cursor.executemany("SELECT CAST(? AS bigint) * 2 AS v", [(1,), (2,), (3,)])


def test_limit_and_offset(cursor):
    cursor.execute("SELECT value FROM generate_series(1, 100) ORDER BY value LIMIT ? OFFSET ?", (3, 10))
    assert cursor.fetchall() == [(11,), (12,), (13,)]


def test_the_types_of_parameters_are_told(cursor, table):
    make(cursor, table)
    schema = cursor.adbc_prepare(f"SELECT * FROM {table} WHERE large = $2 AND words = $1 LIMIT $3")
    assert [field.type for field in schema] == [pa.string(), pa.int64(), pa.int64()]
    assert all(field.nullable for field in schema)


def test_a_prepared_statement_runs_again(cursor):
    sql = "SELECT CAST(? AS bigint) + 1"
    cursor.adbc_prepare(sql)
    for number in range(5):
        cursor.execute(sql, (number,))
        assert cursor.fetchall() == [(number + 1,)]


def test_question_marks_in_texts_are_no_parameters(cursor):
    cursor.execute("SELECT '?' AS \"what?\", CAST(? AS int) -- ?", (1,))
    assert cursor.fetchall() == [("?", 1)]


@pytest.mark.parametrize("values", [(), (1,), (1, 2, 3)])
def test_the_number_of_values_is_checked(cursor, values):
    with pytest.raises(flightsql.Error):
        cursor.execute("SELECT CAST(? AS int), CAST(? AS int)", values)
        cursor.fetchall()


def test_values_that_do_not_fit_are_refused(cursor, table):
    cursor.execute(f"CREATE TABLE {table} (a int)")
    with pytest.raises(flightsql.Error, match="x"):
        cursor.executemany(f"INSERT INTO {table} VALUES (?)", [("1",), ("x",)])
    cursor.execute(f"SELECT count(*) FROM {table}")
    assert cursor.fetchall() == [(0,)]
