"""Makes the ORC files beside it: pip install pyarrow==26.0.0 && python make_orc.py

Their values are computed again in lake/tests/formats_suite/orc.rs.
"""

import datetime
import decimal
import pathlib

import pyarrow as pa
from pyarrow import orc

HERE = pathlib.Path(__file__).parent
ROWS = 600
STRIPE_ROWS = 200


def field(name, type_, id_, attributes=None):
    metadata = {"iceberg.id": str(id_), "iceberg.required": "false"}
    return pa.field(name, type_, metadata=metadata | (attributes or {}))


def every(n, step, value):
    """NULL in every row that `step` divides."""
    return None if n % step == 0 else value


SCHEMA = pa.schema(
    [
        field("id", pa.int64(), 1),
        field("number", pa.int32(), 2),
        field("flag", pa.bool_(), 3),
        field("single", pa.float32(), 4),
        field("double", pa.float64(), 5),
        field("kind", pa.string(), 6),
        field("text", pa.string(), 7),
        field("bytes", pa.binary(), 8),
        field("day", pa.date32(), 9),
        field("amount", pa.decimal128(20, 3), 10),
        field("at", pa.timestamp("us"), 11),
        field("instant", pa.timestamp("us", tz="UTC"), 12),
        field("nanos", pa.timestamp("ns"), 13, {"iceberg.timestamp-unit": "NANOS"}),
        field("uuid", pa.binary(), 14, {"iceberg.binary-type": "UUID"}),
        field(
            "fixed",
            pa.binary(),
            15,
            {"iceberg.binary-type": "FIXED", "iceberg.length": "3"},
        ),
        field("time", pa.int64(), 16, {"iceberg.long-type": "TIME"}),
        field(
            "item",
            pa.struct([field("a", pa.int32(), 18), field("b", pa.string(), 19)]),
            17,
        ),
        field("list", pa.list_(field("element", pa.int32(), 21)), 20),
        field(
            "map",
            pa.map_(
                field("key", pa.string(), 23).with_nullable(False),
                field("value", pa.int64(), 24),
            ),
            22,
        ),
        field(
            "deep",
            pa.list_(
                field(
                    "element",
                    pa.struct([field("tags", pa.list_(field("element", pa.string(), 28)), 27)]),
                    26,
                )
            ),
            25,
        ),
        field("nothing", pa.int64(), 29),
    ]
)


def row(n):
    return {
        "id": n,
        "number": every(n, 5, (n * 7919) % 1000 - 500),
        "flag": every(n, 7, n % 3 == 0),
        "single": every(n, 11, n / 4),
        "double": n * 1.5,
        "kind": every(n, 13, f"kind {n % 4}"),
        "text": f"text {n * n}",
        "bytes": every(n, 3, bytes([n % 256]) * (n % 4)),
        "day": datetime.date(1970, 1, 1) + datetime.timedelta(days=n * 100 - 30_000),
        "amount": every(n, 6, decimal.Decimal((n - 300) * 12_345_678_901).scaleb(-3)),
        "at": every(n, 9, (n - 300) * 39_876_543_210_987),
        "instant": (n - 300) * 39_876_543_210_987,
        "nanos": (n - 300) * 9_876_543_210_987_654,
        "uuid": bytes(range(n % 200, n % 200 + 16)),
        "fixed": every(n, 4, bytes([n % 256, 1, 2])),
        "time": n * 1_000_000,
        "item": every(n, 5, {"a": every(n, 2, n), "b": f"b{n}"}),
        "list": every(n, 8, [every(n + i, 3, n + i) for i in range(n % 4)]),
        "map": every(n, 10, [(f"k{i}", every(n + i, 2, n * i)) for i in range(n % 3)]),
        "deep": [{"tags": every(n + i, 4, [f"{n}", f"{i}"])} for i in range(n % 3)],
        "nothing": None,
    }


def write(name, columns=None, **options):
    rows = [row(n) for n in range(ROWS)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    if columns:
        table = table.select(columns)
    with orc.ORCWriter(
        HERE / name, batch_size=STRIPE_ROWS, stripe_size=1, **options
    ) as writer:
        writer.write(table)


FEW = ["id", "number", "kind", "text", "amount", "at", "list", "nothing"]

write("nested.orc", compression="zlib", dictionary_key_size_threshold=0.5)
write("plain.orc", FEW, compression="uncompressed")
write("snappy.orc", FEW, compression="snappy")
write("zstd.orc", FEW, compression="zstd")
write("lz4.orc", FEW, compression="lz4")
write("first.orc", FEW, compression="zstd", file_version="0.11",
      dictionary_key_size_threshold=0.5)
