"""DuckDB with the extensions of this environment, over the lake's Parquet files or its Iceberg tables."""

import pathlib

import duckdb
import pyarrow as pa

import environment
import lake as lakes
import tpch


def connect(threads: int, memory_limit: str | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database that never asks the network for an extension."""
    con = duckdb.connect(
        config={
            "extension_directory": str(environment.extension_dir()),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "threads": threads,
        }
    )
    con.execute("SET enable_progress_bar = false")
    if memory_limit:
        con.execute(f"SET memory_limit = '{memory_limit}'")
    return con


def load_iceberg(con: duckdb.DuckDBPyConnection) -> None:
    for extension in ("avro", "httpfs", "iceberg"):
        con.execute(f"LOAD {extension}")


def view_parquet(con: duckdb.DuckDBPyConnection, lake: lakes.Lake, schema: str = "parquet") -> str:
    """Views over the plain Parquet files that every namespace of the lake was made from."""
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for table in tpch.TABLES:
        files = quote_list(lake.parquet_files(table))
        con.execute(f"CREATE VIEW {schema}.{table} AS SELECT * FROM read_parquet({files})")
    return schema


def view_iceberg(con: duckdb.DuckDBPyConnection, lake: lakes.Lake, namespace: str) -> str:
    """Views over the current metadata file of each Iceberg table of a namespace. DuckDB reads no SQL catalog."""
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {namespace}")
    for table in tpch.TABLES:
        metadata = lake.metadata_file(namespace, table)
        con.execute(f"CREATE VIEW {namespace}.{table} AS SELECT * FROM iceberg_scan({quote(metadata)})")
    return namespace


def fetch(con: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    return con.execute(sql).to_arrow_table()


def quote(text: str | pathlib.Path) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def quote_list(paths: list[pathlib.Path]) -> str:
    return "[" + ", ".join(quote(path) for path in paths) + "]"
