#!/usr/bin/env python3
"""Makes a TPC-H lake: Parquet files, and from those the same rows as Iceberg tables written by PyIceberg, four times.

    tpch_append         plain tables, written by Table.append
    tpch_add            plain tables, the Parquet files added in place by Table.add_files
    tpch_append_month   lineitem by month(l_shipdate), orders by month(o_orderdate), the rest plain; Table.append
    tpch_add_month      the same partitions, from Parquet files that hold one month each; Table.add_files

Memory is bounded by the generator's chunk and by ROWS_PER_APPEND, whatever the scale. A finished lake is reused.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import collections  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from importlib.metadata import version  # noqa: E402

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from pyiceberg.table import Table  # noqa: E402
from pyiceberg.transforms import MonthTransform  # noqa: E402

import duckdb_peer  # noqa: E402
import tpch  # noqa: E402
from lake import FORMAT, Lake, add_arguments, default_dir  # noqa: E402

# Rows held at once while appending to a partitioned table: about 700 MB of lineitem.
ROWS_PER_APPEND = 4_000_000

# By the TPC-H specification.
ORDERS_PER_SCALE = 1_500_000


def ensure_lake(root: pathlib.Path, scale: float) -> Lake:
    """The lake in `root`, made first when it is not there at this scale."""
    lake = Lake(root.absolute())
    if lake.is_complete(scale):
        return lake
    clear(lake)
    say(f"making a TPC-H lake at scale {scale:g} in {lake.root}")
    started = time.monotonic()
    generate_parquet(lake, scale)
    split_by_month(lake)
    catalog = lake.catalog()
    rows = {}
    for namespace in tpch.NAMESPACES:
        catalog.create_namespace(namespace)
        for table in tpch.TABLES:
            rows[f"{namespace}.{table}"] = write_table(lake, namespace, table)
    check_row_counts(rows, scale)
    versions = {name: version(name) for name in ("duckdb", "pyiceberg", "pyarrow")}
    marker = {"format": FORMAT, "scale": scale, "rows": rows, "versions": versions}
    lake.marker.write_text(json.dumps(marker, indent=2) + "\n")
    say(f"lake finished in {time.monotonic() - started:.0f} s")
    return lake


def clear(lake: Lake) -> None:
    """Removes an unfinished lake, and refuses to touch a folder that holds anything else."""
    lake.root.mkdir(parents=True, exist_ok=True)
    ours = {"bench-lake.json", "catalog.db", "catalog.db-journal", "warehouse", "parquet", "parquet_month", "generate"}
    if foreign := sorted(path.name for path in lake.root.iterdir() if path.name not in ours):
        sys.exit(f"{lake.root} holds {foreign[0]}, which is not part of a generated lake: give another --dir")
    lake.marker.unlink(missing_ok=True)  # first: what is left is unfinished from here on
    for path in lake.root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def generate_parquet(lake: Lake, scale: float) -> None:
    """One file per table and scale unit, by DuckDB's generator."""
    chunks = max(1, math.ceil(scale))
    scratch = lake.root / "generate"
    scratch.mkdir()
    con = duckdb_peer.connect(threads=2, memory_limit="3GB")
    con.execute("LOAD tpch")
    con.execute(f"SET temp_directory = {duckdb_peer.quote(scratch)}")
    for chunk in range(chunks):
        # On disk, so that the chunk need not fit the memory limit.
        con.execute(f"ATTACH {duckdb_peer.quote(scratch / f'{chunk}.db')} AS chunk")
        con.execute("USE chunk")
        part = f", children = {chunks}, step = {chunk}" if chunks > 1 else ""
        con.execute(f"CALL dbgen(sf = {scale}{part})")
        for table in tpch.TABLES:
            if con.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0:
                continue  # nation and region have fewer rows than there may be chunks
            lake.parquet_dir(table).mkdir(parents=True, exist_ok=True)
            target = lake.parquet_dir(table) / f"{chunk:04}.parquet"
            con.execute(f"COPY {table} TO {duckdb_peer.quote(target)} (FORMAT parquet, COMPRESSION snappy)")
        con.execute("USE memory")
        con.execute("DETACH chunk")
        say(f"generated chunk {chunk + 1} of {chunks}")
    con.close()
    shutil.rmtree(scratch)


def split_by_month(lake: Lake) -> None:
    """Copies the partitioned tables into files of a single month each, as add_files needs."""
    # One thread: one file per month. No insertion order: rows are not held back to keep it.
    con = duckdb_peer.connect(threads=1, memory_limit="3GB")
    con.execute("SET preserve_insertion_order = false")
    con.execute("SET partitioned_write_max_open_files = 200")
    for table, column in tpch.MONTH_COLUMN.items():
        lake.month_dir(table).parent.mkdir(exist_ok=True)
        con.execute(
            f"COPY (SELECT *, strftime({column}, '%Y-%m') AS month"
            f" FROM read_parquet({duckdb_peer.quote_list(lake.parquet_files(table))}))"
            f" TO {duckdb_peer.quote(lake.month_dir(table))}"
            " (FORMAT parquet, COMPRESSION snappy, PARTITION_BY (month))"
        )
        say(f"split {table} into {len(lake.month_files(table))} files by month of {column}")
    con.close()


def write_table(lake: Lake, namespace: str, name: str) -> int:
    """Writes one Iceberg table and returns its number of rows."""
    started = time.monotonic()
    by_month = namespace.endswith("_month") and name in tpch.MONTH_COLUMN
    files = lake.month_files(name) if by_month else lake.parquet_files(name)
    schema = pq.read_schema(files[0])
    catalog = lake.catalog()
    table = catalog.create_table((namespace, name), schema=schema)
    if by_month:
        add_month_partition(table, tpch.MONTH_COLUMN[name])
    if namespace.startswith("tpch_add"):
        table.add_files([f"file://{file}" for file in files])
    elif by_month:
        append_by_month(table, files)
    else:
        append_stream(table, schema, files)
    table = catalog.load_table((namespace, name))
    tasks = list(table.scan().plan_files())
    rows = sum(task.file.record_count for task in tasks)
    say(f"{namespace}.{name}: {rows} rows in {len(tasks)} files, {time.monotonic() - started:.1f} s")
    return rows


def add_month_partition(table: Table, column: str) -> None:
    with table.update_spec() as update:
        update.add_field(column, MonthTransform(), f"{column}_month")


def append_stream(table: Table, schema: pa.Schema, files: list[pathlib.Path]) -> None:
    """One append that reads the files as it writes: PyIceberg holds one target file at a time."""
    batches = (batch for file in files for batch in pq.ParquetFile(file).iter_batches(batch_size=1 << 17))
    table.append(pa.RecordBatchReader.from_batches(schema, batches))


def append_by_month(table: Table, files: list[pathlib.Path]) -> None:
    """Appends whole months, as many at once as ROWS_PER_APPEND allows, so that a month becomes one file."""
    months = collections.defaultdict(list)
    for file in files:
        months[file.parent.name].append(file)
    group: list[pa.Table] = []
    rows = 0
    for month in sorted(months):
        data = pa.concat_tables(pq.ParquetFile(file).read() for file in months[month])
        if group and rows + data.num_rows > ROWS_PER_APPEND:
            table.append(pa.concat_tables(group))
            group, rows = [], 0
        group.append(data)
        rows += data.num_rows
    table.append(pa.concat_tables(group))


def check_row_counts(rows: dict[str, int], scale: float) -> None:
    """Every namespace holds the same rows, and as many as the scale promises."""
    for table in tpch.TABLES:
        counts = {namespace: rows[f"{namespace}.{table}"] for namespace in tpch.NAMESPACES}
        if len(set(counts.values())) != 1:
            sys.exit(f"row counts of {table} differ between namespaces: {counts}")
    orders = rows[f"{tpch.NAMESPACES[0]}.orders"]
    if abs(orders - ORDERS_PER_SCALE * scale) > 0.01 * orders:
        sys.exit(f"{orders} orders were generated, which is not scale {scale:g}")


def say(text: str) -> None:
    print(f"make_lake: {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, default_scale=1)
    arguments = parser.parse_args()
    os.nice(5)
    lake = ensure_lake(arguments.dir or default_dir(arguments.scale), arguments.scale)
    print(lake.root)


if __name__ == "__main__":
    main()
