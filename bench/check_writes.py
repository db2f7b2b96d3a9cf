#!/usr/bin/env python3
"""What Inshore writes is what other systems read, and writers of several kinds share one table.

Tables of format versions 1, 2 and 3 are made and filled in SQL, with every type and transform and with values at the
edges, and again after changes of columns and of partitioning: PyIceberg and DuckDB's Iceberg extension have to read the
rows that Inshore reads, PyIceberg also through filters that its pruning answers. Branches and tags are made and written
by Inshore and PyIceberg, and read by both. Then PyIceberg and Inshore append to one table at the same time: every
acknowledged row has to be there once.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import datetime  # noqa: E402
import logging  # noqa: E402
import pathlib  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

import pyarrow as pa  # noqa: E402

import cluster  # noqa: E402
import duckdb_peer  # noqa: E402
import lake as lakes  # noqa: E402

COLUMNS = (
    "id bigint NOT NULL, flag boolean, n int, f real, d double, p decimal(15, 2), day date, at time, ts timestamp,"
    " tz timestamp with time zone, name varchar, u uuid, mark fixed(2), b varbinary,"
    " st STRUCT<a double, tags ARRAY<varchar>>, ls ARRAY<int>"
)

ROWS = """
    (1, true, -1, 1.5, -0.25, 12.34, DATE '1969-12-31', TIME '01:02:03', TIMESTAMP '1969-12-31 23:59:59.999999',
     TIMESTAMP '2024-02-29 12:00:00+02:00', 'ключ', '9c12d441-03fe-4693-9a96-a0705ddf69c1', X'0102', X'',
     named_struct('a', 1.0, 'tags', make_array('a', NULL)), make_array(1, NULL, 3)),
    (-2, NULL, 2147483647, CAST('NaN' AS real), CAST('-inf' AS double), -0.01, NULL, NULL, NULL, NULL, '', NULL, NULL,
     X'ff', NULL, NULL)
"""

MANY = "SELECT value, repeat('x', 300) || value, -0.0 FROM generate_series(100, 1100) AS s(value)"

# By format version: how the table is partitioned.
PARTITIONED_BY = {
    1: "PARTITIONED BY (bucket(4, id), truncate(2, name), day(ts), month(day), flag)",
    2: "PARTITIONED BY (truncate(10, id), hour(tz), year(day), p, bucket(3, u), truncate(100, n))",
    3: "",
}

# PyIceberg's filters, and how many rows they leave.
FILTERS = {
    "id == 1": 1,
    "id < 0": 1,
    "name == ''": 1,
    "name == 'ключ'": 1,
    "day == '1969-12-31'": 1,
    "ts < '1970-01-01T00:00:00'": 1,
    "tz > '2024-02-29T00:00:00+00:00'": 1,
    "p < 0": 1,
    "flag == true": 1,
    "n == 2147483647": 1,
    "u is null": 1002,
    "id >= 100": 1001,
}

DUCKDB_SUMS = "count(*), sum(id), count(DISTINCT name), count(u), sum(p), min(ts), max(day), sum(n), count(ls), count(st)"


class Shell:
    """Statements in a process of their own each, as other people's."""

    def __init__(self, binary: pathlib.Path, lake: lakes.Lake):
        self.binary, self.lake = binary, lake

    def run(self, sql: str) -> str | None:
        """The error; None when the statement succeeds."""
        command = [self.binary, "sql", "--lake", self.lake.root, "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=cluster.child_environment())
        return None if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"

    def must(self, sql: str) -> None:
        if error := self.run(sql):
            raise SystemExit(f"{sql}\n{error}")


def rows_of(table: pa.Table) -> list[tuple[str, ...]]:
    return sorted(tuple(map(str, row.values())) for row in table.to_pylist())


def check_version(shell: Shell, version: int) -> list[str]:
    """What is wrong with a table of this format version."""
    name = f"v{version}"
    shell.must(
        f"CREATE TABLE written.{name} ({COLUMNS}) {PARTITIONED_BY[version]} TBLPROPERTIES ('format-version' = {version})"
    )
    shell.must(f"INSERT INTO written.{name} VALUES {ROWS}")
    shell.must(f"INSERT INTO written.{name} (id, name, f) {MANY}")
    table = shell.lake.catalog().load_table(("written", name))
    problems = []
    found = rows_of(table.scan().to_arrow())
    if len(found) != 1003:
        problems.append(f"{name}: PyIceberg reads {len(found)} rows")
    for row_filter, count in FILTERS.items():
        left = table.scan(row_filter=row_filter).to_arrow().num_rows
        if left != count:
            problems.append(f"{name}: PyIceberg finds {left} rows instead of {count} where {row_filter}")
    ours = cluster.run_embedded(shell.binary, shell.lake, f"SELECT {DUCKDB_SUMS} FROM written.{name}")
    theirs = duckdb_rows(shell.lake, name, DUCKDB_SUMS)
    if rows_of(ours) != rows_of(theirs):
        problems.append(f"{name}: DuckDB reads {rows_of(theirs)}, Inshore {rows_of(ours)}")
    for change in ("ADD COLUMN extra int FIRST", "RENAME COLUMN name TO title", "ALTER COLUMN n TYPE bigint"):
        shell.must(f"ALTER TABLE written.{name} {change}")
    shell.must(f"INSERT INTO written.{name} (id, extra, n, title) VALUES (5, 5, 5000000000, 'new')")
    table = shell.lake.catalog().load_table(("written", name))
    after = table.scan(selected_fields=("id", "extra", "n", "title")).to_arrow()
    sums = "count(*), sum(id), sum(extra), sum(n), count(DISTINCT title)"
    ours = cluster.run_embedded(shell.binary, shell.lake, f"SELECT {sums} FROM written.{name}")
    theirs = duckdb_rows(shell.lake, name, sums)
    if after.num_rows != 1004 or rows_of(ours) != rows_of(theirs):
        problems.append(f"{name}, changed: DuckDB reads {rows_of(theirs)}, Inshore {rows_of(ours)}")
    print(f"{name}: {'ok' if not problems else 'WRONG'}, {after.num_rows} rows", flush=True)
    return problems


def check_rewritten(shell: Shell, version: int) -> list[str]:
    """What is wrong with sorted, merged, overwritten, replaced and truncated tables of this format version."""
    version_of = f"'format-version' = {version}"
    rewritten, replaced, truncated = (f"written.{kind}{version}" for kind in ("rewritten", "replaced", "truncated"))
    shell.must(
        f"CREATE TABLE {rewritten} (id bigint, k int, name varchar) PARTITIONED BY (k)"
        f" TBLPROPERTIES ({version_of}, 'commit.manifest.min-count-to-merge' = 3)"
    )
    shell.must(f"ALTER TABLE {rewritten} WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY name DESC, id")
    shell.must(f"INSERT INTO {rewritten} SELECT value, value % 5, 'n' || (value % 7) FROM generate_series(1, 500) AS s(value)")
    rows = [(value, value % 5, f"n{value % 7}") for value in range(1, 501)]
    for turn in range(5):
        shell.must(f"INSERT INTO {rewritten} VALUES ({1000 + turn}, {turn}, NULL)")
        rows.append((1000 + turn, turn, None))
    shell.must(f"INSERT OVERWRITE {rewritten} SELECT id + 5000, k, 'over' FROM {rewritten} WHERE k = 2 AND id < 100")
    over = [(number + 5000, k, "over") for number, k, _ in rows if k == 2 and number < 100]
    rows = [row for row in rows if row[1] != 2] + over
    expected = {rewritten: rows}
    shell.must(f"CREATE TABLE {replaced} TBLPROPERTIES ({version_of}) AS SELECT id, name FROM {rewritten}")
    shell.must(f"CREATE OR REPLACE TABLE {replaced} AS SELECT name, id, k + 1 AS k FROM {rewritten} WHERE k < 2")
    shell.must(f"INSERT INTO {replaced} VALUES ('last', 1, 1)")
    expected[replaced] = [(name, number, k + 1) for number, k, name in rows if k < 2] + [("last", 1, 1)]
    shell.must(f"CREATE TABLE {truncated} TBLPROPERTIES ({version_of}) AS SELECT id, k FROM {rewritten}")
    shell.must(f"TRUNCATE TABLE {truncated}")
    shell.must(f"INSERT INTO {truncated} VALUES (7, 8)")
    expected[truncated] = [(7, 8)]
    problems = []
    for table, wanted in expected.items():
        name = table.removeprefix("written.")
        wanted = sorted(tuple(map(str, row)) for row in wanted)
        for reader, found in (
            ("PyIceberg", rows_of(shell.lake.catalog().load_table(table).scan().to_arrow())),
            ("DuckDB", rows_of(duckdb_rows(shell.lake, name, "*"))),
            ("Inshore", rows_of(cluster.run_embedded(shell.binary, shell.lake, f"SELECT * FROM {table}"))),
        ):
            if found != wanted:
                problems.append(f"{name}: {reader} reads {len(found)} rows that are not the {len(wanted)} wanted ones")
    print(f"rewritten, replaced and truncated, v{version}: {'ok' if not problems else 'WRONG'}", flush=True)
    return problems


def check_evolved(shell: Shell, version: int) -> list[str]:
    """What is wrong with tables of this format version whose partitioning and fields changed between their rows."""
    evolved, shrunk = f"evolved{version}", f"shrunk{version}"
    properties = f"TBLPROPERTIES ('format-version' = {version}, 'commit.manifest.min-count-to-merge' = 3)"
    shell.must(
        f"CREATE TABLE written.{evolved} (id bigint, k int, ts timestamp, st STRUCT<a int, gone int>)"
        f" PARTITIONED BY (day(ts), k) {properties}"
    )
    rows: list[tuple] = []
    before = ("named_struct('a', {0}, 'gone', 0)", lambda number: {"c": None, "b": number})
    after = ("named_struct('c', 'c{0}', 'b', {0})", lambda number: {"c": f"c{number}", "b": number})
    for clause, (struct, expected) in (
        ("", before),
        ("REPLACE PARTITION FIELD day(ts) WITH month(ts)", before),
        ("ADD PARTITION FIELD bucket(4, id) AS shard", before),
        ("RENAME COLUMN st.a TO b, ALTER COLUMN st.b TYPE bigint, ADD COLUMN st.c varchar FIRST, DROP COLUMN st.gone", after),
        ("ALTER COLUMN k TYPE bigint", after),
        ("DROP PARTITION FIELD k", after),
        ("DROP PARTITION FIELD shard, ADD PARTITION FIELD k AS kk", after),
    ):
        if clause:
            shell.must(f"ALTER TABLE written.{evolved} {clause}")
        numbers = range(len(rows), len(rows) + 4)
        times = [datetime.datetime(2024, 1 + number % 3, 1 + number % 2, 10) for number in numbers]
        values = [
            f"({number}, {number % 3}, TIMESTAMP '{time}', {struct.format(number)})"
            for number, time in zip(numbers, times, strict=True)
        ]
        shell.must(f"INSERT INTO written.{evolved} VALUES {', '.join(values)}, (1000, NULL, NULL, NULL)")
        rows += [(number, number % 3, time, expected(number)) for number, time in zip(numbers, times, strict=True)]
        rows.append((1000, None, None, None))
    expected_rows = {evolved: rows}
    if version > 1:
        # A column goes that only older files are partitioned by.
        shell.must(f"CREATE TABLE written.{shrunk} (id bigint, k int) PARTITIONED BY (k, bucket(3, id)) {properties}")
        shell.must(f"INSERT INTO written.{shrunk} VALUES (1, 1), (2, 2), (3, NULL)")
        shell.must(f"ALTER TABLE written.{shrunk} DROP PARTITION FIELD k, DROP COLUMN k, ADD COLUMN note varchar")
        shell.must(f"INSERT INTO written.{shrunk} VALUES (4, 'four')")
        expected_rows[shrunk] = [(1, None), (2, None), (3, None), (4, "four")]
    problems = []
    for name, wanted in expected_rows.items():
        wanted = sorted(tuple(map(str, row)) for row in wanted)
        for reader, read in (
            ("PyIceberg", lambda: shell.lake.catalog().load_table(("written", name)).scan().to_arrow()),
            ("DuckDB", lambda: duckdb_rows(shell.lake, name, "*")),
            ("Inshore", lambda: cluster.run_embedded(shell.binary, shell.lake, f"SELECT * FROM written.{name}")),
        ):
            try:
                found = rows_of(read())
            except Exception as error:  # a reader that cannot
                problems.append(f"{name}: {reader} fails: {error!r}")
                continue
            if found != wanted:
                problems.append(f"{name}: {reader} reads {len(found)} rows that are not the {len(wanted)} wanted ones")
    table = shell.lake.catalog().load_table(("written", evolved))
    for row_filter, holds in (
        ("k == 1", lambda row: row[1] == 1),
        ("ts < '2024-02-01T00:00:00'", lambda row: row[2] is not None and row[2].month == 1),
        ("ts is null", lambda row: row[2] is None),
        ("id == 6", lambda row: row[0] == 6),
        ("k is null and id == 1000", lambda row: row[1] is None),
    ):
        left, count = table.scan(row_filter=row_filter).to_arrow().num_rows, sum(map(holds, rows))
        if left != count:
            problems.append(f"{evolved}: PyIceberg finds {left} rows instead of {count} where {row_filter}")
    print(f"evolved, v{version}: {'ok' if not problems else 'WRONG'}", flush=True)
    return problems


def refs_of(table) -> dict[str, tuple]:
    """Kind and retention of each ref, as PyIceberg has them."""
    return {
        name: (
            str(ref.snapshot_ref_type).rpartition(".")[2].lower(),
            ref.max_ref_age_ms,
            ref.min_snapshots_to_keep,
            ref.max_snapshot_age_ms,
        )
        for name, ref in table.refs().items()
    }


def check_branches(shell: Shell, version: int) -> list[str]:
    """What is wrong with branches and tags of a table of this format version, which PyIceberg writes to as well."""
    table = f"written.branched{version}"
    for sql in (
        f"CREATE TABLE {table} (id bigint) TBLPROPERTIES ('format-version' = {version})",
        f"ALTER TABLE {table} CREATE BRANCH early",
        f"INSERT INTO {table}.branch_early VALUES (100)",
        f"INSERT INTO {table} VALUES (1), (2)",
        f"ALTER TABLE {table} CREATE TAG first RETAIN 7 DAYS",
        f"ALTER TABLE {table} CREATE BRANCH audit WITH SNAPSHOT RETENTION 3 SNAPSHOTS 2 HOURS",
        f"INSERT INTO {table}.branch_audit VALUES (3)",
        f"INSERT INTO {table} VALUES (4)",
    ):
        shell.must(sql)
    loaded = shell.lake.catalog().load_table(table)
    kept = refs_of(loaded)
    if version < 3:
        # The branch loses its retention by this: PyIceberg does not write it again.
        loaded.append(pa.table({"id": pa.array([5], pa.int64())}), branch="audit")
    else:
        # PyIceberg reads version 3, and does not write it.
        shell.must(f"INSERT INTO {table}.branch_audit VALUES (5)")
    shell.must(f"INSERT INTO {table}.branch_audit VALUES (6)")
    loaded.refresh()
    problems = []
    wanted = {
        "main": ("branch", None, None, None),
        "early": ("branch", None, None, None),
        "first": ("tag", 604_800_000, None, None),
        "audit": ("branch", None, 3, 7_200_000),
    }
    if kept != wanted:
        problems.append(f"{table}: PyIceberg has the refs {kept}")
    for ref, ids in (("main", [1, 2, 4]), ("early", [100]), ("first", [1, 2]), ("audit", [1, 2, 3, 5, 6])):
        theirs = sorted(loaded.scan().use_ref(ref).to_arrow()["id"].to_pylist())
        ours = cluster.run_embedded(shell.binary, shell.lake, f"SELECT id FROM {table} FOR VERSION AS OF '{ref}'")
        if theirs != ids or sorted(ours["id"].to_pylist()) != ids:
            problems.append(f"{table}, {ref}: PyIceberg reads {theirs}, Inshore {ours['id'].to_pylist()}, not {ids}")
    print(f"branches and tags, v{version}: {problems or 'ok'}", flush=True)
    return problems


def duckdb_rows(lake: lakes.Lake, name: str, sums: str) -> pa.Table:
    con = duckdb_peer.connect(threads=2)
    duckdb_peer.load_iceberg(con)
    metadata = duckdb_peer.quote(lake.metadata_file("written", name))
    return duckdb_peer.fetch(con, f"SELECT {sums} FROM iceberg_scan({metadata})")


def check_writers(shell: Shell, commits: int) -> list[str]:
    """Four writers of each kind append one row for each commit."""
    shell.must(
        "CREATE TABLE written.shared (writer int, turn int) TBLPROPERTIES ('commit.retry.num-retries' = 80,"
        " 'commit.retry.min-wait-ms' = 10, 'commit.retry.max-wait-ms' = 400)"
    )
    turns = commits // 8
    acknowledged: list[tuple[int, int]] = []
    failures: list[str] = []
    lock = threading.Lock()

    def by_pyiceberg(writer: int) -> None:
        catalog = shell.lake.catalog()
        for turn in range(turns):
            row = pa.table({"writer": pa.array([writer], pa.int32()), "turn": pa.array([turn], pa.int32())})
            for attempt in range(200):
                try:
                    catalog.load_table(("written", "shared")).append(row)
                except Exception as error:  # another writer was quicker
                    last = error
                    time.sleep(0.01 * (1 + attempt % 7))
                    continue
                with lock:
                    acknowledged.append((writer, turn))
                break
            else:
                failures.append(f"PyIceberg gave up: {last!r}")

    def by_inshore(writer: int) -> None:
        for turn in range(turns):
            error = shell.run(f"INSERT INTO written.shared VALUES ({writer}, {turn})")
            if error:
                failures.append(f"Inshore failed: {error}")
                continue
            with lock:
                acknowledged.append((writer, turn))

    kinds = (by_pyiceberg, by_inshore)
    writers = [threading.Thread(target=kinds[number % 2], args=(number,)) for number in range(8)]
    started = time.perf_counter()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    table = shell.lake.catalog().load_table(("written", "shared"))
    found = sorted((row["writer"], row["turn"]) for row in table.scan().to_arrow().to_pylist())
    right = found == sorted(acknowledged) and len(found) == len(set(found))
    seconds = time.perf_counter() - started
    print(
        f"8 writers: {len(acknowledged)} commits acknowledged in {seconds:.1f} s, {len(found)} rows:"
        f" {'each once' if right else 'WRONG'}, {len(failures)} failed"
    )
    return failures + ([] if right else [f"{len(found)} rows of {len(acknowledged)} acknowledged commits"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inshore", type=pathlib.Path, help="the binary (default: the newest build, else on PATH)")
    parser.add_argument("--commits", type=int, default=200, help="of the 8 writers together (default: 200)")
    arguments = parser.parse_args()
    # It tells of every attempt.
    logging.getLogger("pyiceberg").setLevel(logging.ERROR)
    binary = cluster.find_binary(arguments.inshore)
    with tempfile.TemporaryDirectory(prefix="inshore-bench-") as folder:
        shell = Shell(binary, lakes.Lake(pathlib.Path(folder)))
        shell.must("CREATE SCHEMA written")
        problems = [problem for version in PARTITIONED_BY for problem in check_version(shell, version)]
        problems += [problem for version in PARTITIONED_BY for problem in check_rewritten(shell, version)]
        problems += [problem for version in PARTITIONED_BY for problem in check_evolved(shell, version)]
        problems += [problem for version in (2, 3) for problem in check_branches(shell, version)]
        problems += check_writers(shell, arguments.commits)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
