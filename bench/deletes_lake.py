"""Makes the lake of deletes.py: the same rows with deletes of three kinds, and without the deleted rows.

    base_pos       version 2: a Parquet file of deleted positions for each data file
    base_dv        version 3: the same positions as deletion vectors, a Puffin file for each data file
    compacted      the rows that those two leave, with no deletes
    base_eq        version 2: deleted values of `id`, in ten delete files of ten commits
    compacted_eq   the rows that it leaves, with no deletes

One row in ten is deleted by position, one in a hundred by value, in random places. The three tables with deletes have
the same data files (hard links). A finished lake is reused.
"""

import json
import os
import pathlib
import sys
import time
from importlib.metadata import version

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFileContent, ManifestContent
from pyiceberg.schema import Schema
from pyiceberg.types import DateType, DoubleType, IntegerType, LongType, NestedField, StringType

import duckdb_peer
import environment
import iceberg_writer
import lake as lakes
from iceberg_writer import Manifest, TableWriter
from make_lake import clear

NAMESPACE = "deletes"

# Raised when the generator writes something else than before.
FORMAT = 1

ROWS_PER_FILE = 1_250_000
ROWS_PER_GROUP = 200_000
POSITION_SHARE = 10
EQUALITY_SHARE = 100
EQUALITY_COMMITS = 10

# Values of `k` are below this, so that the sum of ten million of them fits a bigint.
K_BITS = 38

# Days the rows are spread over: a thousand rows with neighbouring ids share one.
DAYS = 365

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "k", LongType(), required=True),
    NestedField(3, "price", DoubleType(), required=True),
    NestedField(4, "qty", IntegerType(), required=True),
    NestedField(5, "name", StringType(), required=True),
    NestedField(6, "day", DateType(), required=True),
    schema_id=0,
)

# By the specification: the columns of position delete files and their reserved field ids.
POSITION_SCHEMA = Schema(
    NestedField(2147483546, "file_path", StringType(), required=True),
    NestedField(2147483545, "pos", LongType(), required=True),
)

EQUALITY_SCHEMA = Schema(SCHEMA.find_field("id"))


def default_dir(rows: int) -> pathlib.Path:
    return environment.home() / "lakes" / f"deletes-{rows}"


def ensure_lake(root: pathlib.Path, rows: int) -> lakes.Lake:
    """The lake in `root`, made first when it is not there with this many rows."""
    lake = lakes.Lake(root.absolute())
    wanted = {"kind": NAMESPACE, "format": FORMAT, "rows": rows}
    if lake.is_made(wanted):
        return lake
    clear(lake)
    say(f"making a lake of {rows} rows in {lake.root}")
    started = time.monotonic()
    with duckdb_peer.connect(threads=2, memory_limit="3GB") as con:
        choose_deletes(con, rows)
        lake.catalog().create_namespace(NAMESPACE)
        write_tables(lake, con, rows)
    versions = {name: version(name) for name in ("duckdb", "pyiceberg", "pyarrow", "fastavro", "pyroaring")}
    lake.marker.write_text(json.dumps(wanted | {"versions": versions}, indent=2) + "\n")
    say(f"lake finished in {time.monotonic() - started:.0f} s")
    return lake


def choose_deletes(con: duckdb.DuckDBPyConnection, rows: int) -> None:
    """Tables of the deleted ids. A row's id is its number, so its position follows from it."""
    for table, salt, count in (
        ("by_position", "p", rows // POSITION_SHARE),
        ("by_value", "v", rows // EQUALITY_SHARE),
    ):
        con.execute(
            f"CREATE TABLE {table} AS SELECT id, row_number() OVER (ORDER BY hash(id, '{salt}'), id) AS number"
            f" FROM range({rows}) AS all_rows(id) QUALIFY number <= {count}"
        )


def write_tables(lake: lakes.Lake, con: duckdb.DuckDBPyConnection, rows: int) -> None:
    def table(name: str, version: int = 2) -> TableWriter:
        return TableWriter(lake, NAMESPACE, name, SCHEMA, version=version)

    file_count = max(2, rows // ROWS_PER_FILE)
    edges = [rows * index // file_count for index in range(file_count + 1)]
    by_position, by_vector, by_value = table("base_pos"), table("base_dv", version=3), table("base_eq")
    compacted, compacted_by_value = table("compacted"), table("compacted_eq")
    paths = {writer: [] for writer in (by_position, by_vector, by_value, compacted, compacted_by_value)}
    for index, (start, end) in enumerate(zip(edges, edges[1:])):
        name = f"{index:05}-0-data.parquet"
        made = by_position.data_dir / name
        write_parquet(made, SCHEMA, con, row_query(start, end))
        for writer, left_out in ((compacted, "by_position"), (compacted_by_value, "by_value")):
            kept = row_query(start, end, f"AND id NOT IN (SELECT id FROM {left_out})")
            write_parquet(writer.data_dir / name, SCHEMA, con, kept)
        for writer in (by_vector, by_value):
            os.link(made, writer.data_dir / name)
        for writer in paths:
            paths[writer].append(writer.data_dir / name)
        say(f"wrote file {index + 1} of {file_count}, rows {start} to {end - 1}")
    for writer, files in paths.items():
        writer.commit([Manifest([iceberg_writer.parquet_file(path, SCHEMA) for path in files])])
    starts = list(zip(edges, edges[1:]))
    delete_positions(by_position, con, list(zip(paths[by_position], starts)))
    delete_by_vectors(by_vector, con, list(zip(paths[by_vector], starts)))
    delete_values(by_value, con)
    for writer in paths:
        writer.register()


def row_query(start: int, end: int, condition: str = "") -> str:
    """The rows of one file, derived from their number alone."""
    return f"""
        SELECT id, (hash(id, 'k') >> {64 - K_BITS})::BIGINT AS k, (hash(id, 'price') % 10000000) / 100 AS price,
            (1 + hash(id, 'qty') % 50)::INTEGER AS qty, 'customer ' || hash(id, 'name') % 1000000 AS name,
            DATE '2025-01-01' + (hash(id // 1000) % {DAYS})::INTEGER AS day
        FROM range({start}, {end}) AS all_rows(id) WHERE true {condition} ORDER BY id"""


def deleted_positions(con: duckdb.DuckDBPyConnection, start: int, end: int) -> pa.ChunkedArray:
    sql = f"SELECT id - {start} AS pos FROM by_position WHERE id >= {start} AND id < {end} ORDER BY id"
    return duckdb_peer.fetch(con, sql).column("pos")


def delete_positions(writer: TableWriter, con: duckdb.DuckDBPyConnection, files: list) -> None:
    deletes = []
    for index, (path, (start, end)) in enumerate(files):
        location = f"file://{path}"
        sql = (
            f"SELECT {duckdb_peer.quote(location)} AS file_path, id - {start} AS pos FROM by_position"
            f" WHERE id >= {start} AND id < {end} ORDER BY id"
        )
        made = writer.data_dir / f"{index:05}-1-deletes.parquet"
        write_parquet(made, POSITION_SCHEMA, con, sql)
        # Writers keep the path's bounds whole: they say which data file the deletes are for.
        entry = iceberg_writer.parquet_file(
            made,
            POSITION_SCHEMA,
            DataFileContent.POSITION_DELETES,
            text_bound=len(location),
            referenced_data_file=location,
        )
        deletes.append(entry)
    writer.commit([Manifest(deletes, ManifestContent.DELETES)], "delete")


def delete_by_vectors(writer: TableWriter, con: duckdb.DuckDBPyConnection, files: list) -> None:
    deletes = []
    for index, (path, (start, end)) in enumerate(files):
        positions = deleted_positions(con, start, end).to_pylist()
        made = writer.data_dir / f"{index:05}-1-deletes.puffin"
        deletes += iceberg_writer.write_vectors(made, {f"file://{path}": positions})
    writer.commit([Manifest(deletes, ManifestContent.DELETES)], "delete")


def delete_values(writer: TableWriter, con: duckdb.DuckDBPyConnection) -> None:
    for index in range(EQUALITY_COMMITS):
        made = writer.data_dir / f"{index:05}-2-deletes.parquet"
        sql = f"SELECT id FROM by_value WHERE number % {EQUALITY_COMMITS} = {index} ORDER BY id"
        write_parquet(made, EQUALITY_SCHEMA, con, sql)
        entry = iceberg_writer.parquet_file(
            made, EQUALITY_SCHEMA, DataFileContent.EQUALITY_DELETES, equality_ids=[1], sort_order_id=0
        )
        writer.commit([Manifest([entry], ManifestContent.DELETES)], "delete")


def write_parquet(path: pathlib.Path, schema: Schema, con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """The answer of a query as a Parquet file with field ids, compressed and indexed as Iceberg's Java writer does."""
    target = schema_to_pyarrow(schema)
    rows = duckdb_peer.fetch(con, sql).cast(target)
    groups = {"row_group_size": min(ROWS_PER_GROUP, rows.num_rows // 4 + 1)}
    pq.write_table(rows, path, compression="zstd", compression_level=3, write_page_index=True, **groups)


def say(text: str) -> None:
    print(f"deletes_lake: {text}", file=sys.stderr, flush=True)
