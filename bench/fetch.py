#!/usr/bin/env python3
"""How fast a client gets a large result: 10 million rows of 8 columns through ADBC, from Inshore and from a bare Flight
server of the same library that streams the same rows from memory.

In turns, the whole result read batch by batch and dropped. Inshore's rows come from an Iceberg table, read by two workers
(`table`), and from rows that are
made on the way (`series`). Values are compared by sums of every column. Memory of client and servers is the highest
resident set.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import contextlib  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import adbc_driver_flightsql.dbapi as flightsql  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402

import cluster  # noqa: E402
import lake as lakes  # noqa: E402

RATIO_BAR = 0.8
MIB = 1 << 20

# The same values as `testkit/examples/bare_flight.rs` makes.
SERIES = """SELECT i AS id, CAST(i * 7919 % 200000 AS int) AS part, i * CAST(0.01 AS double) AS price,
    (i % 1000) / CAST(1000 AS double) AS share, CAST('1970-01-01' AS date) + CAST(i % 2500 + 8000 AS int) AS day,
    CAST(i * 1000000 AS timestamp) AS at, CASE i % 3 WHEN 0 THEN 'A' WHEN 1 THEN 'N' ELSE 'R' END AS flag,
    'item ' || CAST(i % 100000 AS text) AS name
FROM (SELECT value AS i FROM generate_series(0, {last})) AS series"""
TABLE = "CREATE TABLE fetched.rows AS "


def bare_binary(inshore: pathlib.Path) -> pathlib.Path:
    """The bare server, built like the binary that it is compared with."""
    profile = inshore.parent
    binary = profile / "examples" / "bare_flight"
    release = [] if cluster.is_debug(inshore) else ["--release"]
    command = ["cargo", "build", "--locked", "--workspace", *release, "--example", "bare_flight"]
    environ = {**os.environ, "CARGO_TARGET_DIR": str(profile.parent)}
    subprocess.run(command, cwd=cluster.REPOSITORY, env=environ, check=True)
    return binary


@contextlib.contextmanager
def bare_server(binary: pathlib.Path, rows: int):
    """A process that serves `rows` rows; gives the process and its URI."""
    child = subprocess.Popen([binary, str(rows)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield child, "grpc://" + child.stdout.readline().strip()
    finally:
        child.stdin.close()
        child.wait(timeout=30)


def read(connection: flightsql.Connection, sql: str) -> tuple[float, int, int]:
    """Reads a result to its end: seconds, rows, bytes."""
    began = time.monotonic()
    rows = size = 0
    with connection.cursor() as cursor:
        cursor.execute(sql)
        for batch in cursor.fetch_record_batch():
            rows += batch.num_rows
            size += batch.nbytes
    return time.monotonic() - began, rows, size


def sums(connection: flightsql.Connection, sql: str) -> list:
    """A figure of every column, whatever the order of the rows."""
    totals = [0] * 8
    with connection.cursor() as cursor:
        cursor.execute(sql)
        for batch in cursor.fetch_record_batch():
            for index, column in enumerate(batch.columns):
                if pa.types.is_string(column.type):
                    column = pc.binary_length(column)
                elif pa.types.is_temporal(column.type):
                    column = column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32())
                totals[index] += pc.sum(pc.cast(column, pa.float64())).as_py() or 0
    return [round(total, 2) for total in totals]


def measure(sources: dict[str, tuple[flightsql.Connection, str]], rounds: int, rows: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in sources}
    for number in range(rounds + 1):
        order = list(sources)[:: 1 if number % 2 else -1]
        for name in order:
            seconds, found, size = read(*sources[name])
            if found != rows:
                sys.exit(f"{name}: {found} rows instead of {rows}")
            if number:
                times[name].append(seconds)
                print(f"  {name:8} {seconds:6.2f} s, {size / seconds / MIB:6.0f} MiB/s", flush=True)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cluster.add_arguments(parser)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the result (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default: %(default)s)")
    parser.add_argument("--min-ratio", type=float, default=RATIO_BAR, help="of the bare server's speed (default: 0.8)")
    arguments = parser.parse_args()
    binary = cluster.find_binary(arguments.inshore)
    bare = bare_binary(binary)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(lakes.temporary())
        running = stack.enter_context(cluster.Cluster(binary, folder, 2, tuple(arguments.settings)))
        server, uri = stack.enter_context(bare_server(bare, arguments.rows))
        ours, theirs = stack.enter_context(running.connect()), stack.enter_context(cluster.connect(uri))
        series = SERIES.format(last=arguments.rows - 1)
        with ours.cursor() as cursor:
            cursor.execute("CREATE SCHEMA fetched")
            cursor.execute(TABLE + series)
        table = "SELECT * FROM fetched.rows"
        if (expected := sums(theirs, "rows")) != (found := sums(ours, table)):
            print(f"the rows differ: {found} instead of {expected}")
            return 1
        sources = {"bare": (theirs, "rows"), "table": (ours, table), "series": (ours, series)}
        times = measure(sources, arguments.rounds, arguments.rows)
        for process in running.processes:
            print(f"{process.name}: {cluster.rss_bytes(process.pid, 'VmHWM') / MIB:.0f} MiB at most")
        print(f"bare server: {cluster.rss_bytes(server.pid, 'VmHWM') / MIB:.0f} MiB at most")
        print(f"client: {cluster.rss_bytes(os.getpid(), 'VmHWM') / MIB:.0f} MiB at most")
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in medians.items():
        print(f"{name:8} {seconds:.2f} s, {medians['bare'] / seconds:.2f} of the bare server's speed")
    return 0 if medians["bare"] / medians["table"] >= arguments.min_ratio else 1


if __name__ == "__main__":
    sys.exit(main())
