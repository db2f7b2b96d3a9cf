#!/usr/bin/env python3
"""What it takes to make a table of a table: `CREATE TABLE ... PARTITIONED BY (month(l_shipdate)) AS SELECT * FROM lineitem`
on a coordinator and two workers, in turns with DuckDB's `COPY ... TO (FORMAT parquet, PARTITION_BY ...)` of the same
Parquet files, both compressed by zstd.

Inshore has to take at most 1.3 times as long, no process of it more than 2 GiB of memory when its operators may reserve
1 GiB, and each month has to be in as few files as the target size allows. DuckDB reads both outputs, which have to hold the same rows.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import collections  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import pathlib  # noqa: E402
import shutil  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import duckdb  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import cluster  # noqa: E402
import duckdb_peer  # noqa: E402
import lake as lakes  # noqa: E402
import tpch  # noqa: E402
from compare_duckdb import memory_gib, processor  # noqa: E402
from make_lake import clear  # noqa: E402

NAMESPACE = "ctas"
SOURCE = f"{tpch.CATALOG}.{NAMESPACE}.lineitem"
TARGET = f"{tpch.CATALOG}.{NAMESPACE}.by_month"

MEMORY_BAR_BYTES = 2 << 30

# What operators of one node may reserve; batches under way, caches and the program itself come on top. Without a limit
# an exchange between writers that are not equally quick may hold more than the bar.
MEMORY_LIMIT = f"engine.memory_limit_bytes = {1 << 30}"
RATIO_BAR = 1.3

# A file of the generator holds the rows of so much of a scale.
SCALE_PER_FILE = 0.5

# Raised when the generator writes something else than before.
FORMAT = 1

# What is compared: every row counts in each of them.
CHECK = """SELECT count(*), sum(l_orderkey), sum(l_partkey::HUGEINT * l_suppkey), sum(l_extendedprice), sum(l_tax),
    sum(epoch(l_shipdate)), sum(length(l_comment)), bit_xor(hash(l_orderkey, l_linenumber, l_comment, l_shipdate))"""


def default_dir(scale: float) -> pathlib.Path:
    return environment.home() / "lakes" / f"ctas-sf{scale:g}"


def ensure_lake(root: pathlib.Path, scale: float) -> lakes.Lake:
    """A lake with one plain table, `lineitem`, of adopted Parquet files; made first when it is not there."""
    lake = lakes.Lake(root.absolute())
    wanted = {"kind": NAMESPACE, "format": FORMAT, "scale": scale}
    if lake.is_made(wanted):
        return lake
    clear(lake)
    print(f"making lineitem at scale {scale:g} in {lake.root}", file=sys.stderr, flush=True)
    folder = lake.parquet_dir("lineitem")
    folder.mkdir(parents=True)
    chunks = max(1, math.ceil(scale / SCALE_PER_FILE))
    for chunk in range(chunks):
        con = duckdb_peer.connect(threads=2, memory_limit="4GB")
        con.execute("LOAD tpch")
        part = f", children = {chunks}, step = {chunk}" if chunks > 1 else ""
        con.execute(f"CALL dbgen(sf = {scale}{part})")
        target = duckdb_peer.quote(folder / f"{chunk:04}.parquet")
        con.execute(f"COPY lineitem TO {target} (FORMAT parquet, COMPRESSION zstd)")
        con.close()
    files = lake.parquet_files("lineitem")
    catalog = lake.catalog()
    catalog.create_namespace(NAMESPACE)
    table = catalog.create_table((NAMESPACE, "lineitem"), schema=pq.read_schema(files[0]))
    table.add_files([f"file://{file}" for file in files])
    lake.marker.write_text(json.dumps(wanted) + "\n")
    return lake


class Inshore:
    """The table as Inshore makes it."""

    def __init__(self, running: cluster.Cluster, lake: lakes.Lake, properties: list[str]):
        self.running, self.lake, self.properties = running, lake, properties
        self.peaks = collections.Counter()

    def write(self) -> float:
        properties = ", ".join(f"'{key}' = '{value}'" for key, _, value in (p.partition("=") for p in self.properties))
        properties = f" TBLPROPERTIES ({properties})" if properties else ""
        for process in self.running.processes:
            pathlib.Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        with self.running.connect() as connection:
            started = time.monotonic()
            sql = f"CREATE TABLE {TARGET} PARTITIONED BY (month(l_shipdate)){properties} AS SELECT * FROM {SOURCE}"
            with connection.cursor() as cursor:
                cursor.execute(sql)
                rows = cursor.rowcount
            took = time.monotonic() - started
        for process in self.running.processes:
            self.peaks[process.name] = max(self.peaks[process.name], cluster.rss_bytes(process.pid, "VmHWM"))
        print(f"  inshore {took:.1f} s, {rows} rows", flush=True)
        return took

    def files(self) -> list[tuple[str, int]]:
        """The month and the size of each file."""
        with self.running.connect() as connection:
            sql = f'SELECT "partition", file_size_in_bytes AS size FROM {tpch.CATALOG}.{NAMESPACE}."by_month$files"'
            rows = cluster.fetch(connection, sql).to_pylist()
        return [(str(row["partition"]), row["size"]) for row in rows]

    def relation(self) -> str:
        return f"iceberg_scan({duckdb_peer.quote(self.lake.metadata_file(NAMESPACE, 'by_month'))})"

    def remove(self) -> None:
        catalog = self.lake.catalog()
        if catalog.table_exists((NAMESPACE, "by_month")):
            catalog.drop_table((NAMESPACE, "by_month"))
        shutil.rmtree(self.lake.warehouse / NAMESPACE / "by_month", ignore_errors=True)


class DuckDB:
    """The same rows as DuckDB writes them."""

    def __init__(self, lake: lakes.Lake, threads: int):
        self.source = f"read_parquet({duckdb_peer.quote_list(lake.parquet_files('lineitem'))})"
        self.folder = lake.root / "generate"
        self.threads = threads

    def write(self) -> float:
        con = duckdb_peer.connect(threads=self.threads, memory_limit="4GB")
        # What makes it fast: rows need not stay in order, and each month stays in one open file.
        con.execute("SET preserve_insertion_order = false")
        con.execute("SET partitioned_write_max_open_files = 200")
        started = time.monotonic()
        con.execute(
            f"COPY (SELECT *, strftime(l_shipdate, '%Y-%m') AS l_month FROM {self.source})"
            f" TO {duckdb_peer.quote(self.folder)} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (l_month))"
        )
        took = time.monotonic() - started
        con.close()
        print(f"  duckdb  {took:.1f} s, {len(list(self.folder.glob('*/*.parquet')))} files", flush=True)
        return took

    def relation(self) -> str:
        return f"read_parquet({duckdb_peer.quote(self.folder / '*/*.parquet')})"

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def facts(relation: str) -> tuple:
    con = duckdb_peer.connect(threads=2, memory_limit="4GB")
    duckdb_peer.load_iceberg(con)
    try:
        return con.execute(f"{CHECK} FROM {relation}").fetchone()
    finally:
        con.close()


def check_files(files: list[tuple[str, int]], target: int) -> bool:
    """Whether each month has as few files as the target size allows."""
    months = collections.defaultdict(list)
    for month, size in files:
        months[month].append(size)
    sizes = sorted(size for _, size in files)
    print(
        f"{len(files)} files of {len(months)} months, {sum(sizes) / 2**20:.0f} MiB;"
        f" {sizes[0] / 2**20:.1f} to {sizes[-1] / 2**20:.1f} MiB, median {statistics.median(sizes) / 2**20:.1f} MiB;"
        f" the target is {target / 2**20:.0f} MiB"
    )
    too_many = {month: found for month, found in months.items() if len(found) > 1 + sum(found) // (target // 2)}
    for month, found in list(too_many.items())[:5]:
        print(f"WRONG: {month} has {len(found)} files of {sum(found)} bytes")
    return not too_many


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    lakes.add_arguments(parser, default_scale=1)
    cluster.add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds (default: %(default)s)")
    parser.add_argument("--max-ratio", type=float, default=RATIO_BAR, help="bar of the ratio (default: %(default)g)")
    parser.add_argument("--property", action="append", default=[], metavar="KEY=VALUE", help="a property of the table")
    arguments = parser.parse_args()
    binary = cluster.find_binary(arguments.inshore)
    lake = ensure_lake(arguments.dir or default_dir(arguments.scale), arguments.scale)
    target = dict(p.split("=", 1) for p in arguments.property).get("write.target-file-size-bytes", 512 << 20)
    print(f"{cluster.binary_version(binary)}, DuckDB {duckdb.__version__}, {processor()}, {memory_gib():.0f} GiB")
    peer = DuckDB(lake, threads=2)
    expected = facts(peer.source)
    good = True
    times = collections.defaultdict(list)
    with cluster.Cluster(binary, lake, workers=2, settings=(MEMORY_LIMIT, *arguments.settings)) as running:
        ours = Inshore(running, lake, arguments.property)
        try:
            for number in range(arguments.rounds):
                for name, side in [("inshore", ours), ("duckdb", peer)][:: 1 if number % 2 == 0 else -1]:
                    side.remove()
                    times[name].append(side.write())
                    if (found := facts(side.relation())) != expected:
                        print(f"WRONG: {name} wrote {found}, the source has {expected}")
                        good = False
                    if side is ours:
                        good &= check_files(ours.files(), int(target))
                    side.remove()
        finally:
            ours.remove()
            peer.remove()
        for name, peak in ours.peaks.items():
            over = peak > MEMORY_BAR_BYTES
            print(f"{name}: at most {peak / 2**30:.2f} GiB{', more than the bar of 2 GiB' if over else ''}")
            good &= not over
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    ratio = medians["inshore"] / medians["duckdb"]
    over = not cluster.is_debug(binary) and ratio > arguments.max_ratio
    print(
        f"scale {arguments.scale:g}: Inshore {medians['inshore']:.1f} s, DuckDB {medians['duckdb']:.1f} s,"
        f" ratio {ratio:.2f}{f', more than the bar of {arguments.max_ratio:g}' if over else ''}"
    )
    return 0 if good and not over else 1


if __name__ == "__main__":
    sys.exit(main())
