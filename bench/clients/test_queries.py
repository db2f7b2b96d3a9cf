"""Statements, their results and their errors."""

import datetime
import decimal

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow as pa
import pytest

UTC = datetime.timezone.utc

# A value of every type: as SQL, as the driver gives it, and its type in Arrow.
VALUES = [
    ("true", True, pa.bool_()),
    ("CAST(-128 AS tinyint)", -128, pa.int8()),
    ("CAST(-7 AS smallint)", -7, pa.int16()),
    ("CAST(2147483647 AS int)", 2147483647, pa.int32()),
    ("CAST(-9223372036854775808 AS bigint)", -(2**63), pa.int64()),
    ("CAST(1.5 AS real)", 1.5, pa.float32()),
    ("CAST(-2.25 AS double)", -2.25, pa.float64()),
    ("CAST('123.456' AS decimal(10, 3))", decimal.Decimal("123.456"), pa.decimal128(10, 3)),
    ("'täxt'", "täxt", pa.string()),
    ("X'00ff'", b"\x00\xff", pa.binary()),
    ("DATE '1969-12-31'", datetime.date(1969, 12, 31), pa.date32()),
    ("CAST('12:34:56.789' AS time)", datetime.time(12, 34, 56, 789000), None),
    ("CAST('2024-02-29 01:02:03.000004' AS timestamp)", datetime.datetime(2024, 2, 29, 1, 2, 3, 4), None),
    ("[1, NULL, 3]", [1, None, 3], pa.list_(pa.int64())),
    ("named_struct('a', CAST(1 AS int), 'b', 'x')", {"a": 1, "b": "x"}, None),
    ("map(['k'], [CAST(1 AS int)])", [("k", 1)], None),
    ("CAST(NULL AS int)", None, pa.int32()),
]


def test_the_driver_knows_whom_it_talks_to(connection):
    info = connection.adbc_get_info()
    assert info["vendor_name"] == "Inshore"
    assert info["vendor_version"]


@pytest.mark.parametrize("sql, value, kind", VALUES, ids=[sql for sql, _, _ in VALUES])
def test_values(cursor, sql, value, kind):
    cursor.execute(f"SELECT {sql} AS v")
    table = cursor.fetch_arrow_table()
    assert table.column_names == ["v"]
    assert table.column(0).to_pylist() == [value]
    if kind is not None:
        assert table.schema.field(0).type.equals(kind), table.schema


def test_timestamps_with_a_zone(cursor, table):
    cursor.execute(f"CREATE TABLE {table} (at timestamptz)")
    cursor.execute(f"INSERT INTO {table} VALUES ('2024-02-29 01:02:03+02:00')")
    cursor.execute(f"SELECT at FROM {table}")
    rows = cursor.fetch_arrow_table()
    assert rows.schema.field(0).type == pa.timestamp("us", tz="UTC")
    assert rows.column(0).to_pylist()[0].astimezone(UTC) == datetime.datetime(2024, 2, 28, 23, 2, 3, tzinfo=UTC)


def test_empty_results_have_a_schema(cursor):
    cursor.execute("SELECT 1 AS a, 'x' AS b WHERE false")
    assert [column[0] for column in cursor.description] == ["a", "b"]
    assert cursor.fetchall() == []
    cursor.execute("SELECT 1 AS a WHERE false")
    assert cursor.fetch_arrow_table().schema == pa.schema([("a", pa.int64())])


def test_rows_come_one_by_one(cursor):
    cursor.execute("SELECT value FROM generate_series(1, 20000) ORDER BY value")
    assert cursor.fetchone() == (1,)
    assert cursor.fetchmany(2) == [(2,), (3,)]
    assert len(cursor.fetchall()) == 19_997


def test_changes_run_once_and_tell_their_rows(cursor, table):
    cursor.execute(f"CREATE TABLE {table} AS SELECT value AS v FROM generate_series(1, 5)")
    assert cursor.rowcount == 5
    cursor.execute(f"INSERT INTO {table} VALUES (6), (7)")
    assert cursor.rowcount == 2
    # The result of a change may be asked for.
    assert cursor.fetch_arrow_table().num_rows == 0
    cursor.execute(f"SELECT count(*), count(DISTINCT v) FROM {table}")
    assert cursor.fetchall() == [(7, 7)]


@pytest.mark.parametrize(
    "sql, error, said",
    [
        ("SELEC 1", flightsql.ProgrammingError, "SELEC"),
        ("SELECT nope FROM system.workers", flightsql.ProgrammingError, "nope"),
        ("SELECT * FROM s.nothing", flightsql.ProgrammingError, "nothing"),
        ("SELECT CAST('x' AS int)", flightsql.ProgrammingError, "x"),
        ("BEGIN", flightsql.Error, ""),
    ],
)
def test_errors_say_what(cursor, sql, error, said):
    with pytest.raises(error) as raised:
        cursor.execute(sql)
        cursor.fetchall()
    assert said in str(raised.value)
    cursor.execute("SELECT 1")
    assert cursor.fetchall() == [(1,)]


def test_a_long_statement(cursor):
    values = ", ".join(str(number) for number in range(5_000))
    cursor.execute(f"SELECT count(*) FROM generate_series(0, 9999) AS s(v) WHERE v IN ({values})")
    assert cursor.fetchall() == [(5_000,)]


def test_transactions_are_refused(running):
    with pytest.warns(match="autocommit"):
        with flightsql.connect(running.uri) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)


def test_the_schema_is_known_without_running(cursor):
    schema = cursor.adbc_execute_schema("SELECT 1 AS a, 'x' AS b")
    assert schema == pa.schema([("a", pa.int64()), ("b", pa.string())])


def test_large_texts_and_many_columns(cursor):
    cursor.execute("SELECT repeat('ä', 3000000) AS t FROM generate_series(1, 3)")
    assert {len(text) for (text,) in cursor.fetchall()} == {3_000_000}
    cursor.execute("SELECT " + ", ".join(f"{number} AS c{number}" for number in range(1_000)))
    assert cursor.fetchone() == tuple(range(1_000))


def test_the_driver_refuses_nothing_that_it_should_not(connection):
    with pytest.raises(adbc_driver_manager.Error):
        connection.adbc_get_table_schema("not there", db_schema_filter="s")
