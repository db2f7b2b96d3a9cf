#!/usr/bin/env python3
"""What deletes cost: scans of Iceberg tables with position deletes, deletion vectors and equality deletes, against
scans of the same rows in tables without deletes.

All tables are read in turns within one run through ADBC, on a coordinator and two workers, so that what else the
machine does meets all alike; who goes first changes every round. The first run of a query on a table is shown apart:
in it the first query has to load the deletes, which are kept afterwards. A total is the median over the rounds of the
time all queries took together, and its ratio to that of the table without deletes has to stay below a bar: 1.3 for
position deletes and deletion vectors, 2.0 for equality deletes. The answers are compared in every round.

With --check nothing is measured: DuckDB's Iceberg extension, and PyIceberg where it can, show that the tables mean
what they should.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import collections  # noqa: E402
import dataclasses  # noqa: E402
import functools  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import platform  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import pyarrow as pa  # noqa: E402

import cluster  # noqa: E402
import deletes_lake  # noqa: E402
import duckdb_peer  # noqa: E402
import lake as lakes  # noqa: E402
import results  # noqa: E402
import tpch  # noqa: E402
from compare_duckdb import memory_gib, processor  # noqa: E402

SCHEMA = f"{tpch.CATALOG}.{deletes_lake.NAMESPACE}"

ROWS = 10_000_000

# DuckDB compares every row with every deleted value: ten million rows take it very long.
CHECK_ROWS = 200_000


@dataclasses.dataclass(frozen=True)
class Pair:
    """A table with deletes, the table of the rows it leaves, and the most its scans may take of the other's time."""

    table: str
    compacted: str
    bar: float


PAIRS = (Pair("base_pos", "compacted", 1.3), Pair("base_dv", "compacted", 1.3), Pair("base_eq", "compacted_eq", 2.0))
TABLES = tuple(dict.fromkeys(name for pair in PAIRS for name in (pair.table, pair.compacted)))

QUERIES = {
    "all columns": (
        "select count(*) as n, sum(k) as sum_k, sum(price) as sum_price, sum(qty) as sum_qty, min(name) as min_name,"
        " max(day) as max_day from {table}"
    ),
    "by day": "select day, count(*) as n, sum(price) as sum_price from {table} group by day",
    # One row in a hundred, in random places: no file, row group or page can be left out.
    "filter": (
        "select count(*) as n, sum(price) as sum_price, max(name) as max_name from {table}"
        f" where k < {(1 << deletes_lake.K_BITS) // 100}"
    ),
}

Fetch = Callable[[str], pa.Table]


class Measured:
    """Times in seconds and what went wrong, by table and query."""

    def __init__(self):
        self.first: dict[tuple[str, str], float] = {}
        self.times: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
        self.problems: dict[str, list[str]] = collections.defaultdict(list)

    def failed(self, *tables: str) -> bool:
        return any(self.problems[table] for table in tables)

    def median(self, table: str, query: str) -> float:
        return statistics.median(self.times[table, query])

    def first_total(self, table: str) -> float:
        return sum(self.first[table, query] for query in QUERIES)

    def total(self, table: str) -> float:
        """The median over the rounds of what all queries took together."""
        return statistics.median(map(sum, zip(*(self.times[table, query] for query in QUERIES))))


def measure(fetch: Fetch, schema: str, rounds: int) -> Measured:
    """The first run of each query on each table, then `rounds` more, in turns. A table that fails is left out."""
    measured = Measured()
    for number in range(rounds + 1):
        for query, text in QUERIES.items():
            answers = {}
            shift = number % len(TABLES)
            for table in TABLES[shift:] + TABLES[:shift]:
                if measured.failed(table):
                    continue
                started = time.perf_counter()
                try:
                    answers[table] = fetch(text.format(table=f"{schema}.{table}"))
                except Exception as error:  # the other tables are measured all the same
                    if cluster.interrupted(error):
                        raise
                    measured.problems[table].append(f"{query}: {type(error).__name__}: {error}")
                    continue
                seconds = time.perf_counter() - started
                if number == 0:
                    measured.first[table, query] = seconds
                else:
                    measured.times[table, query].append(seconds)
            compare(query, answers, measured.problems)
    return measured


def compare(query: str, answers: dict[str, pa.Table], problems: dict[str, list[str]]) -> None:
    """Both tables of a pair must give the same answer."""
    for pair in PAIRS:
        if pair.table in answers and pair.compacted in answers:
            differences = results.compare(answers[pair.compacted], answers[pair.table])
            problems[pair.table] += [f"{query}: {difference}" for difference in differences]


def show(title: str, measured: Measured) -> None:
    print(f"\n{title}\n{'':14} {'':12} {'first, s':>9} {'ratio':>6} {'then, s':>9} {'ratio':>6}")
    for pair in PAIRS:
        if measured.failed(pair.table, pair.compacted):
            print(f"{pair.table:14} failed")
            continue
        figures = [
            (query, [(measured.first[table, query], measured.median(table, query)) for table in tables(pair)])
            for query in QUERIES
        ]
        totals = [(measured.first_total(table), measured.total(table)) for table in tables(pair)]
        for name, ((first, then), (first_compacted, then_compacted)) in [*figures, ("total", totals)]:
            print(
                f"{pair.table:14} {name:12} {first:9.3f} {first / first_compacted:6.2f}"
                f" {then:9.3f} {then / then_compacted:6.2f}"
            )
    for table in dict.fromkeys(pair.compacted for pair in PAIRS if not measured.failed(pair.compacted)):
        print(f"{table:14} {'total':12} {measured.first_total(table):9.3f} {'':6} {measured.total(table):9.3f}")
    for table, problems in measured.problems.items():
        for problem in problems[:8]:
            print(f"{table}: " + problem.replace("\n", "\n      "))


def tables(pair: Pair) -> tuple[str, str]:
    return pair.table, pair.compacted


def verdicts(measured: Measured) -> list[str]:
    """The bars that are missed."""
    missed = []
    for pair in PAIRS:
        if measured.failed(pair.table, pair.compacted):
            missed.append(f"{pair.table}: a query failed or its answer differs")
        elif not (ratio := measured.total(pair.table) / measured.total(pair.compacted)) <= pair.bar:
            missed.append(f"{pair.table}: ratio {ratio:.2f} is above {pair.bar:g}")
    return missed


def read_through(lake: lakes.Lake) -> None:
    """Reads all files once: the first run of a query differs by what the engine keeps, not by the disk."""
    for path in sorted(lake.warehouse.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                while file.read(1 << 24):
                    pass


def conditions(arguments: argparse.Namespace, binary: pathlib.Path) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "inshore": cluster.binary_version(binary) + (" (debug build)" if cluster.is_debug(binary) else ""),
        "machine": f"{os.cpu_count()} cores, {processor()}, {memory_gib():.0f} GiB, {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "lake": f"{arguments.rows} rows, one in {deletes_lake.POSITION_SHARE} deleted by position,"
        f" one in {deletes_lake.EQUALITY_SHARE} by value",
        "cluster": "1 coordinator, 2 workers, on loopback, nothing pinned; "
        + ("; ".join(arguments.settings) or "default settings"),
        "runs": f"the first, then the median of {arguments.runs}, in turns",
    }


def run(lake: lakes.Lake, binary: pathlib.Path, arguments: argparse.Namespace) -> list[str]:
    for name, value in conditions(arguments, binary).items():
        print(f"{name + ':':14} {value}")
    read_through(lake)
    with cluster.Cluster(binary, lake, settings=tuple(arguments.settings)) as running, running.connect() as connection:
        measured = measure(functools.partial(cluster.fetch, connection), SCHEMA, arguments.runs)
        memory = {process.name: cluster.rss_bytes(process.pid, "VmHWM") for process in running.processes}
    show("cluster", measured)
    print("peak memory: " + ", ".join(f"{name} {size / (1 << 20):.0f} MiB" for name, size in memory.items()))
    missed = verdicts(measured)
    if arguments.embedded:
        # A process for each statement: its start is part of the time, and it loads the deletes each time. So it has
        # no bar.
        embedded = measure(functools.partial(cluster.run_embedded, binary, lake), SCHEMA, arguments.runs)
        show("embedded, a process for each statement, its start included", embedded)
        missed += [f"embedded: {table} failed or its answer differs" for table in TABLES if embedded.failed(table)]
    return missed


def check(lake: lakes.Lake, rows: int) -> list[str]:
    """What other readers find in the tables; returns what is wrong with them."""
    by_position = rows - rows // deletes_lake.POSITION_SHARE
    by_value = rows - rows // deletes_lake.EQUALITY_SHARE
    left = {table: by_position for table in ("base_pos", "base_dv", "compacted")}
    left |= {table: by_value for table in ("base_eq", "compacted_eq")}
    problems: dict[str, list[str]] = collections.defaultdict(list)
    with duckdb_peer.connect(threads=2) as con:
        duckdb_peer.load_iceberg(con)
        schema = deletes_lake.NAMESPACE
        con.execute(f"CREATE SCHEMA {schema}")
        for table in TABLES:
            metadata = duckdb_peer.quote(lake.metadata_file(deletes_lake.NAMESPACE, table))
            con.execute(f"CREATE VIEW {schema}.{table} AS SELECT * FROM iceberg_scan({metadata})")
            # DuckDB itself counts rows by reading a column: a count of the manifests would not show the deletes.
            (count,) = con.execute(f"SELECT count(id) FROM {schema}.{table}").fetchone()
            print(f"{table}: {count} rows by DuckDB")
            if count != left[table]:
                problems[table].append(f"{count} rows instead of {left[table]}")
        for query, text in QUERIES.items():
            answers = {table: duckdb_peer.fetch(con, text.format(table=f"{schema}.{table}")) for table in TABLES}
            compare(query, answers, problems)
    for table in ("base_pos", "base_dv"):
        ids = lake.catalog().load_table((deletes_lake.NAMESPACE, table)).scan(selected_fields=("id",)).to_arrow()
        print(f"{table}: {ids.num_rows} rows by PyIceberg")
        expected = lake.catalog().load_table((deletes_lake.NAMESPACE, "compacted")).scan(selected_fields=("id",))
        if ids.sort_by("id").column("id") != expected.to_arrow().sort_by("id").column("id"):
            problems[table].append("PyIceberg reads other rows")
    return [f"{table}: {problem}" for table, found in problems.items() for problem in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=int, help=f"of each table (default: {ROWS}, with --check {CHECK_ROWS})"
    )
    parser.add_argument("--dir", type=pathlib.Path, help="the lake's folder (default: one per size in the bench home)")
    cluster.add_arguments(parser)
    parser.add_argument("--runs", type=int, default=7, help="timed runs after the first (default: %(default)s)")
    parser.add_argument("--embedded", action="store_true", help="measure `inshore sql` without a cluster too")
    parser.add_argument("--check", action="store_true", help="let other readers check the tables, measure nothing")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs must be at least 1")
    arguments.rows = arguments.rows or (CHECK_ROWS if arguments.check else ROWS)
    if arguments.rows < 1000:
        parser.error("--rows must be at least 1000")
    binary = None if arguments.check else cluster.find_binary(arguments.inshore)
    lake = deletes_lake.ensure_lake(arguments.dir or deletes_lake.default_dir(arguments.rows), arguments.rows)
    problems = check(lake, arguments.rows) if arguments.check else run(lake, binary, arguments)
    for problem in problems:
        print(f"WRONG: {problem}" if arguments.check else f"MISSED: {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
