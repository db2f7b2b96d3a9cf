#!/usr/bin/env python3
"""The correctness oracle: the 22 TPC-H queries through Inshore give what DuckDB gives over the plain Parquet files.

DuckDB never reads the Iceberg tables here: what is checked includes that the tables are read rightly. Every
namespace of the lake is asked, on a cluster of one coordinator and two workers through ADBC, and embedded.
`--duckdb-iceberg` lets DuckDB's Iceberg extension answer instead of Inshore, which checks lake and oracle.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import contextlib  # noqa: E402
import pathlib  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402

import pyarrow as pa  # noqa: E402

import cluster  # noqa: E402
import duckdb_peer  # noqa: E402
import lake as lakes  # noqa: E402
import results  # noqa: E402
import tpch  # noqa: E402
from make_lake import ensure_lake  # noqa: E402

# Runs a query on a namespace.
Engine = Callable[[tpch.Query, str], pa.Table]


def oracle(lake: lakes.Lake, queries: list[tpch.Query]) -> dict[int, pa.Table]:
    """DuckDB's answers over the plain Parquet files."""
    con = duckdb_peer.connect(threads=2)
    schema = duckdb_peer.view_parquet(con, lake)
    return {query.number: duckdb_peer.fetch(con, query.sql(schema)) for query in queries}


@contextlib.contextmanager
def on_cluster(binary: pathlib.Path, lake: lakes.Lake, settings: tuple[str, ...]) -> Iterator[Engine]:
    with cluster.Cluster(binary, lake, settings=settings) as running, running.connect() as connection:
        yield lambda query, namespace: cluster.fetch(connection, query.sql(f"{tpch.CATALOG}.{namespace}"))


@contextlib.contextmanager
def embedded(binary: pathlib.Path, lake: lakes.Lake) -> Iterator[Engine]:
    yield lambda query, namespace: cluster.run_embedded(binary, lake, query.sql(f"{tpch.CATALOG}.{namespace}"))


@contextlib.contextmanager
def duckdb_iceberg(lake: lakes.Lake, namespaces: list[str]) -> Iterator[Engine]:
    with duckdb_peer.connect(threads=2) as con:
        duckdb_peer.load_iceberg(con)
        for namespace in namespaces:
            duckdb_peer.view_iceberg(con, lake, namespace)
        yield lambda query, namespace: duckdb_peer.fetch(con, query.sql(namespace))


def check(name: str, engine: Engine, namespaces: list[str], queries: list[tpch.Query], expected: dict) -> int:
    """Runs every query on every namespace, prints what came of it, and returns how many were wrong."""
    wrong = 0
    for namespace in namespaces:
        for query in queries:
            started = time.perf_counter()
            try:
                answer = engine(query, namespace)
                problems = results.compare(expected[query.number], answer, query.order)
                verdict = f"ok, {answer.num_rows} rows" if not problems else "DIFFERENT"
            except Exception as error:  # whatever a query fails with, the others are still asked
                problems = [f"{type(error).__name__}: {error}"]
                verdict = "FAILED"
            seconds = time.perf_counter() - started
            print(f"{name:9} {namespace:18} {query.name:4} {seconds:7.2f} s  {verdict}", flush=True)
            for problem in problems:
                print("    " + problem.replace("\n", "\n    "))
            wrong += bool(problems)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    lakes.add_arguments(parser, default_scale=1)
    cluster.add_arguments(parser)
    parser.add_argument("--cluster", action="store_true", help="only the cluster (default: cluster and embedded)")
    parser.add_argument("--embedded", action="store_true", help="only embedded (default: cluster and embedded)")
    parser.add_argument("--duckdb-iceberg", action="store_true", help="let DuckDB's Iceberg extension answer instead")
    parser.add_argument("--namespace", action="append", choices=tpch.NAMESPACES, help="repeatable (default: all four)")
    parser.add_argument("--queries", type=tpch.select, default=tpch.select(None), help='such as "1,3,6-9"')
    arguments = parser.parse_args()

    lake = ensure_lake(arguments.dir or lakes.default_dir(arguments.scale), arguments.scale)
    namespaces = arguments.namespace or list(tpch.NAMESPACES)
    both = arguments.cluster == arguments.embedded
    engines = []
    if arguments.duckdb_iceberg:
        engines.append(("duckdb", duckdb_iceberg(lake, namespaces)))
    else:
        binary = cluster.find_binary(arguments.inshore)
        if both or arguments.cluster:
            engines.append(("cluster", on_cluster(binary, lake, tuple(arguments.settings))))
        if both or arguments.embedded:
            engines.append(("embedded", embedded(binary, lake)))

    expected = oracle(lake, arguments.queries)
    wrong = 0
    for name, engine in engines:
        with engine as run:
            wrong += check(name, run, namespaces, arguments.queries, expected)
    asked = len(engines) * len(namespaces) * len(arguments.queries)
    print(f"{asked - wrong} of {asked} answers are right")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
