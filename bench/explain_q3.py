#!/usr/bin/env python3
"""EXPLAIN ANALYZE of Q3 on tables partitioned by month: stages have tasks on both workers, and no file of a month
that the filters exclude is opened.

Three kinds of evidence. The plan shows its stages, their tasks, and the files of each scan, which must be no more than
PyIceberg plans for the same filters. The operating system counts what each worker process read. And in a lake made for
this purpose the data files of the excluded months are deleted, after which Q3 still answers rightly while a query that
needs them fails.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import pathlib  # noqa: E402
import re  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402

import cluster  # noqa: E402
import duckdb_peer  # noqa: E402
import lake as lakes  # noqa: E402
import results  # noqa: E402
import tpch  # noqa: E402
from make_lake import ensure_lake  # noqa: E402

NAMESPACE = "tpch_append_month"
SCHEMA = f"{tpch.CATALOG}.{NAMESPACE}"

# What Q3 asks of the partitioned tables.
FILTERS = {"orders": "o_orderdate < '1995-03-15'", "lineitem": "l_shipdate > '1995-03-15'"}

# A worker that read less than this from files has not read its part of the lake.
READ_BYTES_LEAST = 64 * 1024

# A stage's headline, and what each of its tasks reports of its own in it.
STAGE = re.compile(r"Stage (\d+) .*?\btasks=(\d+).*?plan_finished_at=\{(.*?)\}")
TASK = re.compile(r"\b(\d+):")

# Each task's part of a scan repeats the figures of the whole scan: table, files left after pruning, files in all.
SCAN = re.compile(r"\biceberg: table=(\S+?),.*?\bfiles=(\d+)/(\d+)")
DATA_FILE = re.compile(r"[^\s\[{,]+\.parquet")


def planned_files(lake: lakes.Lake, table: str, row_filter: str) -> set[str]:
    """The data files PyIceberg opens for a filter: it prunes by partition and by column bounds."""
    scan = lake.catalog().load_table((NAMESPACE, table)).scan(row_filter=row_filter)
    return {task.file.file_path for task in scan.plan_files()}


def read_bytes(process: cluster.Process) -> int:
    """What a process has read from files so far; the network does not count."""
    for line in pathlib.Path(f"/proc/{process.pid}/io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    return 0


def check_stages(plan: str, workers: int) -> list[str]:
    stages = [(int(number), min(int(count), len(TASK.findall(done)))) for number, count, done in STAGE.findall(plan)]
    print("stages and tasks: " + (", ".join(f"stage {number}: {tasks}" for number, tasks in stages) or "none"))
    if not any(tasks >= workers for _, tasks in stages):
        return [f"no stage has {workers} tasks"]
    return []


def check_files(plan: str, planned: dict[str, set[str]], all_files: dict[str, int]) -> list[str]:
    """The scans of the two tables open no more files than PyIceberg plans, and none that it does not."""
    problems = []
    for table in FILTERS:
        scans = {(int(left), int(total)) for name, left, total in SCAN.findall(plan) if name.strip('"').endswith(table)}
        shown = ", ".join(f"{left} of {total}" for left, total in scans) or "none"
        print(f"files of {table}: {shown} by the plan, {len(planned[table])} of {all_files[table]} by PyIceberg")
        if not scans:
            problems.append(f"the plan names no files of {table}")
        for left, total in scans:
            if left > len(planned[table]) or total != all_files[table]:
                problems.append(f"the plan opens {left} of {total} files of {table}")
        for path in DATA_FILE.findall(plan):
            # The plan's paths are relative to the root of their store.
            if f"/{table}/" in path and not any(file.endswith(path) for file in planned[table]):
                problems.append(f"the plan opens {path}, which the filter excludes")
    return problems


def check_reads(before: dict[str, int], after: dict[str, int]) -> list[str]:
    problems = []
    for name in before:
        grown = after[name] - before[name]
        print(f"{name} read {grown / 1024:.0f} KiB from files")
        if name.startswith("worker") and grown < READ_BYTES_LEAST:
            problems.append(f"{name} read only {grown} bytes: it had no part in the scan")
    return problems


def delete_unplanned(lake: lakes.Lake, planned: dict[str, set[str]]) -> None:
    for table, row_filter in FILTERS.items():
        unplanned = planned_files(lake, table, "true") - planned[table]
        for file in unplanned:
            pathlib.Path(file.removeprefix("file://")).unlink()
        print(f"deleted {len(unplanned)} data files of {table} that {row_filter} excludes")


def check_without_pruned_files(connection, query: tpch.Query, expected) -> list[str]:
    """Q3 is still right, and a query over everything fails and says which file it misses."""
    problems = results.compare(expected, cluster.fetch(connection, query.sql(SCHEMA)), query.order)
    print("Q3 without the files of excluded months: " + ("DIFFERENT" if problems else "right"))
    try:
        cluster.fetch(connection, f"select sum(l_quantity) from {SCHEMA}.lineitem")
        return [*problems, "a query over all months succeeded: the files are not really away"]
    except Exception as error:
        print(f"a query over all months fails, as it must: {error}")
        if ".parquet" not in str(error):
            problems.append("that error does not name the missing file")
    return problems


def run(lake: lakes.Lake, binary: pathlib.Path, settings: tuple[str, ...]) -> list[str]:
    (query,) = tpch.select("3")
    with duckdb_peer.connect(threads=2) as con:
        expected = duckdb_peer.fetch(con, query.sql(duckdb_peer.view_parquet(con, lake)))
    planned = {table: planned_files(lake, table, row_filter) for table, row_filter in FILTERS.items()}
    all_files = {table: len(planned_files(lake, table, "true")) for table in FILTERS}

    with cluster.Cluster(binary, lake, settings=settings) as running:
        with running.connect() as connection:
            before = {process.name: read_bytes(process) for process in running.processes}
            plan = cluster.fetch(connection, "explain analyze " + query.sql(SCHEMA)).column("plan")[0].as_py()
            after = {process.name: read_bytes(process) for process in running.processes}
            print(plan)
            problems = check_stages(plan, running.worker_count)
            problems += check_files(plan, planned, all_files)
            problems += check_reads(before, after)
    delete_unplanned(lake, planned)
    # A new cluster: nothing about the deleted files is cached in it.
    with cluster.Cluster(binary, lake, settings=settings) as running, running.connect() as connection:
        return problems + check_without_pruned_files(connection, query, expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scale", type=lakes.scale_factor, default=0.1, help="of the lake made for this (default: %(default)g)"
    )
    cluster.add_arguments(parser)
    arguments = parser.parse_args()
    binary = cluster.find_binary(arguments.inshore)
    with tempfile.TemporaryDirectory(prefix="inshore-bench-") as folder:
        lake = ensure_lake(pathlib.Path(folder) / "lake", arguments.scale)
        problems = run(lake, binary, tuple(arguments.settings))
    for problem in problems:
        print(f"WRONG: {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
