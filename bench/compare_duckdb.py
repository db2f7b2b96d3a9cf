#!/usr/bin/env python3
"""Times the 22 TPC-H queries on Inshore (a coordinator and two workers, through ADBC) against DuckDB with its Iceberg
extension, on the same tables written by PyIceberg.

Both run in turns within one run, so that what else the machine does meets both alike; who goes first changes every
round. A figure is the median of the timed runs, each until the whole answer is in Arrow. The answers are compared.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import datetime  # noqa: E402
import functools  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import platform  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from importlib.metadata import version  # noqa: E402

import pyarrow as pa  # noqa: E402

import cluster  # noqa: E402
import duckdb_peer  # noqa: E402
import lake as lakes  # noqa: E402
import results  # noqa: E402
import tpch  # noqa: E402
from make_lake import ensure_lake  # noqa: E402


@dataclasses.dataclass
class Measured:
    """Both engines on one query; times in seconds."""

    query: tpch.Query
    rows: int = 0
    inshore: list[float] = dataclasses.field(default_factory=list)
    duckdb: list[float] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    @property
    def inshore_median(self) -> float:
        return statistics.median(self.inshore)

    @property
    def duckdb_median(self) -> float:
        return statistics.median(self.duckdb)

    @property
    def ratio(self) -> float:
        return self.inshore_median / self.duckdb_median


def measure(query: tpch.Query, inshore: Callable[[], pa.Table], duckdb: Callable[[], pa.Table], runs: int) -> Measured:
    """One run of each to warm up, whose answers are compared; then `runs` timed ones of each, in turns."""
    measured = Measured(query)
    expected = duckdb()
    measured.rows = expected.num_rows
    try:
        measured.problems = results.compare(expected, inshore(), query.order)
        for run in range(runs):
            turns = [(inshore, measured.inshore), (duckdb, measured.duckdb)]
            for engine, times in turns if run % 2 == 0 else reversed(turns):
                started = time.perf_counter()
                answer = engine()
                times.append(time.perf_counter() - started)
                if answer.num_rows != measured.rows:
                    measured.problems.append(f"{answer.num_rows} rows instead of {measured.rows} in run {run + 1}")
    except Exception as error:  # a query that fails is reported beside the others' figures
        measured.problems.append(f"{type(error).__name__}: {error}")
        measured.inshore = measured.duckdb = [math.nan]  # makes the totals NaN too: half a total says nothing
    return measured


def summary(all_measured: list[Measured]) -> dict:
    inshore = sum(measured.inshore_median for measured in all_measured)
    duckdb = sum(measured.duckdb_median for measured in all_measured)
    return {
        "inshore_total_s": inshore,
        "duckdb_total_s": duckdb,
        "total_ratio": inshore / duckdb,
        "geometric_mean_ratio": math.exp(statistics.fmean(math.log(measured.ratio) for measured in all_measured)),
    }


def table(all_measured: list[Measured], total: dict) -> str:
    """The figures as Markdown."""
    lines = [
        "| query | rows | Inshore, s | DuckDB, s | ratio | answer |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for measured in all_measured:
        verdict = "DIFFERENT" if measured.problems else "equal"
        lines.append(
            f"| {measured.query.name} | {measured.rows} | {measured.inshore_median:.3f} | {measured.duckdb_median:.3f}"
            f" | {measured.ratio:.2f} | {verdict} |"
        )
    lines.append(
        f"| total | | {total['inshore_total_s']:.3f} | {total['duckdb_total_s']:.3f} | {total['total_ratio']:.2f} | |"
    )
    lines.append(f"| geometric mean | | | | {total['geometric_mean_ratio']:.2f} | |")
    return "\n".join(lines)


def conditions(arguments: argparse.Namespace, binary: pathlib.Path, con) -> dict[str, str]:
    """What the figures depend on."""
    packages = ("duckdb", "duckdb-extension-iceberg", "pyiceberg", "pyarrow", "adbc-driver-flightsql")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "inshore": cluster.binary_version(binary) + (" (debug build)" if cluster.is_debug(binary) else ""),
        **{package: version(package) for package in packages},
        "machine": f"{os.cpu_count()} cores, {processor()}, {memory_gib():.0f} GiB, {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "lake": f"TPC-H scale {arguments.scale:g}, {arguments.namespace}",
        "cluster": "1 coordinator, 2 workers, on loopback, nothing pinned; "
        + ("; ".join(arguments.settings) or "default settings"),
        "duckdb threads": str(con.execute("SELECT current_setting('threads')").fetchone()[0]),
        "runs": f"1 to warm up, median of {arguments.runs}, in turns",
    }


def processor() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)


def write_report(output: pathlib.Path, facts: dict, all_measured: list[Measured], total: dict, memory: dict) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    queries = [
        {
            "query": measured.query.number,
            "rows": measured.rows,
            "inshore_s": measured.inshore,
            "duckdb_s": measured.duckdb,
            "ratio": measured.ratio,
            "problems": measured.problems,
        }
        for measured in all_measured
    ]
    report = {"conditions": facts, "total": total, "peak_memory_bytes": memory, "queries": queries}
    # NaN is not JSON; what was not measured is null.
    report = json.loads(json.dumps(report), parse_constant=lambda _: None)
    output.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    heading = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    output.with_suffix(".md").write_text(f"{heading}\n\n{table(all_measured, total)}\n")
    print(f"written: {output.with_suffix('.json')} and {output.with_suffix('.md')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    lakes.add_arguments(parser, default_scale=1)
    cluster.add_arguments(parser)
    parser.add_argument("--namespace", choices=tpch.NAMESPACES, default="tpch_append_month")
    parser.add_argument("--queries", type=tpch.select, default=tpch.select(None), help='such as "1,3,6-9"')
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each engine (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of DuckDB (default: %(default)s)")
    parser.add_argument("--max-ratio", type=float, help="fail when the ratio of the totals is above this")
    parser.add_argument(
        "--output", type=pathlib.Path, help="where the report goes, as .json and .md (default: the bench home)"
    )
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs must be at least 1")

    lake = ensure_lake(arguments.dir or lakes.default_dir(arguments.scale), arguments.scale)
    binary = cluster.find_binary(arguments.inshore)
    con = duckdb_peer.connect(arguments.threads)
    duckdb_peer.load_iceberg(con)
    duckdb_schema = duckdb_peer.view_iceberg(con, lake, arguments.namespace)
    facts = conditions(arguments, binary, con)
    for name, value in facts.items():
        print(f"{name + ':':26} {value}")

    print(f"\n{'':5} {'Inshore':>9} {'DuckDB':>9} {'ratio':>6}")
    all_measured = []
    inshore_schema = f"{tpch.CATALOG}.{arguments.namespace}"
    with cluster.Cluster(binary, lake, settings=tuple(arguments.settings)) as running, running.connect() as connection:
        for query in arguments.queries:
            measured = measure(
                query,
                inshore=functools.partial(cluster.fetch, connection, query.sql(inshore_schema)),
                duckdb=functools.partial(duckdb_peer.fetch, con, query.sql(duckdb_schema)),
                runs=arguments.runs,
            )
            all_measured.append(measured)
            medians = f"{measured.inshore_median:7.3f} s {measured.duckdb_median:7.3f} s"
            print(f"{query.name:5} {medians} {measured.ratio:6.2f}", flush=True)
            for problem in measured.problems:
                print("      " + problem.replace("\n", "\n      "))
        memory = {process.name: cluster.rss_bytes(process.pid, "VmHWM") for process in running.processes}

    total = summary(all_measured)
    print(f"total {total['inshore_total_s']:7.3f} s {total['duckdb_total_s']:7.3f} s {total['total_ratio']:6.2f}")
    print(f"geometric mean of the ratios: {total['geometric_mean_ratio']:.2f}")
    print("peak memory: " + ", ".join(f"{name} {size / (1 << 20):.0f} MiB" for name, size in memory.items()))
    output = arguments.output or environment.home() / "results" / f"compare-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    write_report(output, facts, all_measured, total, memory)

    if any(measured.problems for measured in all_measured):
        sys.exit("answers differ or queries failed")
    if arguments.max_ratio is not None and not total["total_ratio"] <= arguments.max_ratio:
        sys.exit(f"total ratio {total['total_ratio']:.2f} is above {arguments.max_ratio:g}")


if __name__ == "__main__":
    main()
