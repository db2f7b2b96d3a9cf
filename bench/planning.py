#!/usr/bin/env python3
"""How long planning takes over a table of 100,000 data files in 1,000 manifests, partitioned by day.

EXPLAIN, through ADBC on a coordinator with one worker, of four kinds of query: a filter that only the bounds of the
files can answer, a filter by partition, none, and a count that the metadata answers, which is run as well. Cold is the
first statement of a freshly started coordinator, which has to read the manifests (from the system's cache of files);
warm is the same statement again. The plan has to name as few files as the filter allows. Cold has to stay at or below
1.5 s, warm 0.1 s, except without a filter, where the plan is of all files.

The data files do not exist, so nothing but the metadata can answer. With --check nothing is measured: PyIceberg plans
the same filters over the table.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import platform  # noqa: E402
import re  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import pyarrow as pa  # noqa: E402

import cluster  # noqa: E402
import lake as lakes  # noqa: E402
import planning_lake  # noqa: E402
import tpch  # noqa: E402
from compare_duckdb import memory_gib, processor  # noqa: E402
from planning_lake import ROWS_PER_FILE, Size  # noqa: E402

TABLE = f"{tpch.CATALOG}.{planning_lake.NAMESPACE}.{planning_lake.TABLE}"

COLD_BAR_S = 1.5
WARM_BAR_S = 0.1

# What a scan shows in the plan: manifests read of all, files left of all.
SCAN = re.compile(r"\biceberg: table=\S+?,.*?\bmanifests=(\d+)/(\d+), files=(\d+)/(\d+)")


@dataclasses.dataclass
class Case:
    """A statement, and the counts of manifests and files that are left for it; None where the plan need not scan."""

    name: str
    sql: str
    manifests: int | None
    files: int | None
    barred: bool = True
    row_filter: str = "true"
    cold: list[float] = dataclasses.field(default_factory=list)
    warm: list[float] = dataclasses.field(default_factory=list)
    peak_bytes: int = 0
    shown: str = ""
    problems: list[str] = dataclasses.field(default_factory=list)

    @property
    def explains(self) -> bool:
        return self.sql.startswith("explain ")


def cases(size: Size) -> list[Case]:
    middle = size.files // 2
    ids = (middle * ROWS_PER_FILE + 10, middle * ROWS_PER_FILE + 1000)
    day = size.day(middle)
    this, following = planning_lake.date(day), planning_lake.date(day + 1)
    by_id = f"event_id >= {ids[0]} and event_id <= {ids[1]}"
    by_day = "event_time >= {}'{}T00:00:00' and event_time < {}'{}T00:00:00'"
    sums = f"select country, count(*), sum(price) from {TABLE}"
    return [
        Case(
            "column filter",
            f"explain {sums} where {by_id} group by country",
            size.manifests,
            size.files_of_ids(*ids),
            row_filter=by_id,
        ),
        Case(
            "partition filter",
            f"explain {sums} where {by_day.format('timestamp ', this, 'timestamp ', following)} group by country",
            size.manifests_of_day(day),
            size.files_of_day(day),
            row_filter=by_day.format("", this, "", following),
        ),
        Case("no filter", f"explain {sums} group by country", size.manifests, size.files, barred=False),
        Case("explain count(*)", f"explain select count(*) from {TABLE}", None, None),
        Case("count(*)", f"select count(*) from {TABLE}", None, None),
    ]


def measure(case: Case, lake: lakes.Lake, binary: pathlib.Path, size: Size, arguments: argparse.Namespace) -> None:
    """Cold with every start of the coordinator, warm in the last one."""
    try:
        for _ in range(arguments.starts):
            with (
                cluster.Cluster(binary, lake, workers=1, settings=tuple(arguments.settings)) as running,
                running.connect() as connection,
            ):
                seconds, answer = timed(connection, case.sql)
                case.cold.append(seconds)
                check_answer(case, answer, size)
                for _ in range(arguments.runs if len(case.cold) == arguments.starts else 0):
                    case.warm.append(timed(connection, case.sql)[0])
                case.peak_bytes = max(case.peak_bytes, cluster.rss_bytes(running.coordinator.pid, "VmHWM"))
    except Exception as error:  # the other cases are measured all the same
        if cluster.interrupted(error):
            raise
        case.problems.append(f"{type(error).__name__}: {error}")


def timed(connection, sql: str) -> tuple[float, pa.Table]:
    started = time.perf_counter()
    answer = cluster.fetch(connection, sql)
    return time.perf_counter() - started, answer


def check_answer(case: Case, answer: pa.Table, size: Size) -> None:
    """A count must be right, and a plan must name as few files as the metadata allows."""
    problems = []
    if not case.explains:
        count = answer.column(0)[0].as_py()
        case.shown = f"{count} rows"
        if count != size.files * ROWS_PER_FILE:
            problems.append(f"{count} rows instead of {size.files * ROWS_PER_FILE}")
    else:
        plan = "\n".join(answer.column("plan").to_pylist())
        scans = {tuple(map(int, scan)) for scan in SCAN.findall(plan)}
        shown = ", ".join(f"{read}/{manifests} {left}/{files}" for read, manifests, left, files in scans)
        case.shown = f"{shown or 'no scan'}, {len(plan) / 1024:.0f} KiB"
        if case.files is not None and not scans:
            problems.append("the plan shows no scan")
        if case.files is None and scans:
            problems.append("the plan scans files for what the metadata says")
        for read, manifests, left, files in scans if case.files is not None else ():
            if (manifests, files) != (size.manifests, size.files):
                problems.append(f"the plan has {manifests} manifests and {files} files in all")
            if read > case.manifests or left != case.files:
                problems.append(f"{read} manifests, {left} files are left, not {case.manifests}, {case.files}")
    case.problems += [problem for problem in problems if problem not in case.problems]


def misses(case: Case) -> list[str]:
    """The bars that a case misses."""
    figures = ((statistics.median(case.cold), COLD_BAR_S, "cold"), (statistics.median(case.warm), WARM_BAR_S, "warm"))
    return [f"{name} {seconds:.3f} s is above {bar:g} s" for seconds, bar, name in figures if not seconds <= bar]


def show(case: Case) -> None:
    cold, warm = case.cold or [math.nan], case.warm or [math.nan]
    verdict = "failed" if case.problems else ""
    if not verdict:
        verdict = ("missed" if misses(case) else "met") if case.barred else "no bar" + ("" if misses(case) else ", met")
    print(
        f"{case.name:17} {statistics.median(cold):8.3f} {max(cold):8.3f} {statistics.median(warm):8.4f}"
        f" {max(warm):8.4f} {case.peak_bytes / (1 << 20):6.0f} {verdict:12} {case.shown}",
        flush=True,
    )
    for problem in case.problems:
        print("      " + problem.replace("\n", "\n      "))


def read_through(lake: lakes.Lake) -> None:
    """Reads all metadata once: what is measured is planning, not the disk."""
    for path in (lake.warehouse / planning_lake.NAMESPACE).rglob("*"):
        if path.is_file():
            path.read_bytes()


def run(lake: lakes.Lake, binary: pathlib.Path, size: Size, arguments: argparse.Namespace) -> list[str]:
    facts = {
        "inshore": cluster.binary_version(binary) + (" (debug build)" if cluster.is_debug(binary) else ""),
        "machine": f"{os.cpu_count()} cores, {processor()}, {memory_gib():.0f} GiB, {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "table": f"{size.files} files in {size.manifests} manifests,"
        f" {planning_lake.manifest_bytes(lake) / (1 << 20):.0f} MiB",
        "cluster": "1 coordinator, 1 worker, on loopback; " + ("; ".join(arguments.settings) or "default settings"),
        "runs": f"cold: median of {arguments.starts} starts, warm: median of {arguments.runs}",
    }
    for name, value in facts.items():
        print(f"{name + ':':14} {value}")
    read_through(lake)
    print(f"\n{'':17} {'cold, s':>8} {'max':>8} {'warm, s':>8} {'max':>8} {'MiB':>6} {'bar':12} manifests, files, plan")
    problems = []
    for case in cases(size):
        measure(case, lake, binary, size, arguments)
        show(case)
        missed = misses(case) if case.barred and not case.problems else []
        problems += [f"{case.name}: {problem}" for problem in [*case.problems, *missed]]
    return problems


def check(lake: lakes.Lake, size: Size) -> list[str]:
    """What PyIceberg plans for the filters; returns where that is not what is asked of Inshore."""
    table = lake.catalog().load_table((planning_lake.NAMESPACE, planning_lake.TABLE))
    problems = []
    for case in cases(size):
        if case.files is None:
            continue
        tasks = list(table.scan(row_filter=case.row_filter).plan_files())
        print(f"{case.name}: {len(tasks)} files by PyIceberg, {case.files} expected")
        if len(tasks) != case.files:
            problems.append(f"{case.name}: {len(tasks)} files by PyIceberg, {case.files} expected")
        if sum(task.file.record_count for task in tasks) != case.files * ROWS_PER_FILE:
            problems.append(f"{case.name}: wrong row counts")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="data files of the table (default: %(default)s)")
    parser.add_argument("--manifests", type=int, help="that they are in (default: one per 100 files)")
    parser.add_argument("--dir", type=pathlib.Path, help="the lake's folder (default: one per size in the bench home)")
    cluster.add_arguments(parser)
    parser.add_argument("--starts", type=int, default=5, help="of the coordinator per statement (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=20, help="warm runs (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="let PyIceberg check the table, measure nothing")
    arguments = parser.parse_args()
    if arguments.starts < 1 or arguments.runs < 1:
        parser.error("--starts and --runs must be at least 1")
    size = Size(arguments.files, arguments.manifests or max(1, arguments.files // 100))
    if size.files < 2 or not 1 <= size.manifests <= size.files or size.files % size.manifests:
        parser.error("--files must be at least 2 and a multiple of --manifests")
    binary = None if arguments.check else cluster.find_binary(arguments.inshore)
    lake = planning_lake.ensure_lake(arguments.dir or planning_lake.default_dir(size), size)
    problems = check(lake, size) if arguments.check else run(lake, binary, size, arguments)
    for problem in problems:
        print(f"WRONG: {problem}" if arguments.check else f"MISSED: {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
