"""Libraries above the driver: pandas, polars and SQLAlchemy; and a plain Flight client."""

import pandas
import polars
import pyarrow as pa
import pyarrow.flight as flight
import pytest

FRAME = {"id": [1, 2, 3], "words": ["a", None, "ü"], "share": [0.5, 1.5, None]}


def test_pandas_writes_and_reads(connection, table):
    frame = pandas.DataFrame(FRAME)
    frame.to_sql(table, connection, schema="s", index=False, if_exists="fail")
    read = pandas.read_sql(f"SELECT * FROM {table} ORDER BY id", connection)
    assert read["id"].tolist() == FRAME["id"]
    assert read["words"].tolist()[::2] == ["a", "ü"]
    frame.to_sql(table, connection, schema="s", index=False, if_exists="append")
    assert pandas.read_sql(f"SELECT count(*) AS n FROM {table}", connection)["n"].tolist() == [6]


def test_polars_writes_and_reads(connection, table):
    polars.DataFrame(FRAME).write_database(table, connection, engine="adbc")
    read = polars.read_database(f"SELECT * FROM {table} ORDER BY id", connection)
    assert read.to_dict(as_series=False) == FRAME


def message(field: int, data: bytes) -> bytes:
    """A field of bytes in a protobuf message."""
    length, prefix = len(data), []
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([field << 3 | 2, *prefix, length]) + data


def command(name: str, body: bytes) -> flight.FlightDescriptor:
    kind = f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()
    return flight.FlightDescriptor.for_command(message(1, kind) + message(2, body))


def test_a_plain_flight_client(running):
    client = flight.connect(running.uri.replace("grpc://", "grpc+tcp://"))
    query = command("CommandStatementQuery", message(1, b"SELECT 1 AS a UNION ALL SELECT 2"))
    assert client.get_schema(query).schema.names == ["a"]
    info = client.get_flight_info(query)
    assert info.schema == client.get_schema(query).schema
    [endpoint] = info.endpoints
    reader = client.do_get(endpoint.ticket)
    assert reader.schema == info.schema
    assert sorted(reader.read_all().column("a").to_pylist()) == [1, 2]
    actions = {action.type for action in client.list_actions()}
    assert {"CreatePreparedStatement", "CancelFlightInfo", "CloseSession"} <= actions
    assert "BeginTransaction" not in actions
    with pytest.raises(pa.ArrowInvalid):
        client.get_flight_info(flight.FlightDescriptor.for_command(b"no command"))
    client.close()
