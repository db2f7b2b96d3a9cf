#!/usr/bin/env python3
"""kill -9 of coordinator and workers while eight writers append to one table: no row is lost, doubled or half there.

Four writers are PyIceberg's, four send INSERT statements to a coordinator with two workers, which write files in many
partitions. Meanwhile processes are killed and started again, after a time or just when a statement writes its data
files or its metadata. In the end the rows of all acknowledged statements are there once, and those of each failed one
either all or not at all: as PyIceberg, DuckDB and Inshore read the table. The manifests have to be true, and
remove_orphan_files has to find all that the killed ones left, and nothing else. The table lies in a local lake, or in
a REST catalog over an object store that is not ours.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import collections  # noqa: E402
import contextlib  # noqa: E402
import logging  # noqa: E402
import pathlib  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

import pyarrow as pa  # noqa: E402
from pyiceberg.catalog import Catalog  # noqa: E402
from pyiceberg.exceptions import CommitFailedException  # noqa: E402
from sqlalchemy.exc import OperationalError  # noqa: E402

import cluster  # noqa: E402
import duckdb_peer  # noqa: E402
from written_tables import LocalTable, RestTable  # noqa: E402

NAMESPACE, TABLE = "killed", "t"
NAME = f"{NAMESPACE}.{TABLE}"
WRITERS = 8
PARTITIONS = 6
SOURCE_FILES = 8

# Longer than any statement takes on a busy machine; one that takes longer hangs.
STATEMENT_TIMEOUT_S = 90.0

# A statement whose process is killed fails at once; one that fails later waited for somebody who is gone.
FAILURE_TIMEOUT_S = 15.0

# How long a process that was started again may take until it is of use.
RECOVERY_TIMEOUT_S = 60.0

# How long is waited for a statement to write, before its process is killed anyway.
AIM_TIMEOUT_S = 10.0

# Between two looks at the folders of the table.
LOOK_S = 0.0005

# The least there is: a small table has two tasks.
SETTINGS = ("engine.bytes_per_task = 1048576", "engine.target_partitions = 2")
SOURCE_BYTES = 4 << 20

SCHEMA = pa.schema(
    [
        pa.field("writer", pa.int32()),
        pa.field("turn", pa.int32()),
        pa.field("number", pa.int32()),
        pa.field("part", pa.int32()),
        pa.field("note", pa.string()),
    ]
)

Turn = tuple[int, int]


# What the table has before writers and kills begin.
FIRST: Turn = (1, -1)


def is_inshore(writer: int) -> bool:
    """Every other writer is PyIceberg's."""
    return writer % 2 == 1


class Ledger:
    """What writers were told: of each turn whether it was acknowledged or failed."""

    def __init__(self, rows: int, commits: int):
        self.rows = rows
        self.share = -(-commits // WRITERS)
        self.acknowledged: set[Turn] = set()
        self.failed: dict[Turn, str] = {}
        self.faults: list[str] = []
        self.took_s: dict[Turn, float] = {}
        self.kills_done = threading.Event()
        self._lock = threading.Lock()

    def acknowledge(self, turn: Turn, took_s: float) -> None:
        with self._lock:
            self.acknowledged.add(turn)
            self.took_s[turn] = took_s

    def fail(self, turn: Turn, error: Exception, took_s: float) -> None:
        with self._lock:
            self.failed[turn] = f"{type(error).__name__}: {error}"
            self.took_s[turn] = took_s
            if took_s > FAILURE_TIMEOUT_S:
                self.faults.append(f"statement {turn} failed after {took_s:.0f} s: {error}")

    def slowest(self, of_inshore: bool) -> tuple[float, str]:
        """How long the longest turn of a kind of writer took, and how it ended."""
        turns = [(took_s, turn) for turn, took_s in self.took_s.items() if is_inshore(turn[0]) == of_inshore]
        took_s, turn = max(turns, default=(0.0, (0, 0)))
        return took_s, self.failed.get(turn, "acknowledged")

    def fault(self, text: str) -> None:
        with self._lock:
            self.faults.append(text)

    def goes_on(self, done: int) -> bool:
        """Whether a writer with so many commits has more to do: its share, and until the last kill."""
        return not self.faults and (done < self.share or not self.kills_done.is_set())


def rows_of_turn(writer: int, turn: int, rows: int) -> pa.Table:
    """What a turn adds, as a statement computes it."""
    numbers = list(range(rows))
    columns = {
        "writer": [writer] * rows,
        "turn": [turn] * rows,
        "number": numbers,
        "part": [number % PARTITIONS for number in numbers],
        "note": [f"{writer}-{turn}-{number}" for number in numbers],
    }
    return pa.table(columns, schema=SCHEMA)


def write_by_pyiceberg(writer: int, catalog: Catalog, ledger: Ledger, chance: random.Random) -> None:
    """Appends, again and again while other writers are quicker."""
    turn = done = 0
    while ledger.goes_on(done):
        rows = rows_of_turn(writer, turn, ledger.rows)
        started = time.monotonic()
        while True:
            try:
                catalog.load_table(NAME).append(rows)
            except (CommitFailedException, OperationalError):  # another writer was quicker, or has the database
                if time.monotonic() - started < STATEMENT_TIMEOUT_S:
                    time.sleep(chance.uniform(0.0, 0.2))
                    continue
                ledger.fault(f"PyIceberg could not append within {STATEMENT_TIMEOUT_S:g} s")
                return
            except Exception as error:
                ledger.fault(f"PyIceberg failed: {error!r}")
                return
            break
        ledger.acknowledge((writer, turn), time.monotonic() - started)
        turn, done = turn + 1, done + 1
        # The others are slower: they are killed.
        time.sleep(chance.uniform(0.2, 1.0) if done < ledger.share else 2.0)


def insert_sql(writer: int, turn: int) -> str:
    return (
        f"INSERT INTO {NAME} SELECT {writer} AS writer, {turn} AS turn, number, part, '{writer}-{turn}-' || number"
        f" FROM {NAMESPACE}.source"
    )


def execute(connection: cluster.flightsql.Connection, sql: str, as_update: bool) -> int:
    """The number of rows, by one of Flight SQL's two ways. What counts is the answer, not how its statement ends."""
    cursor = connection.cursor()
    try:
        if as_update:
            cursor.adbc_statement.set_sql_query(sql)
            return cursor.adbc_statement.execute_update()
        cursor.execute(sql)
        return cursor.fetch_arrow_table().column(0)[0].as_py()
    finally:
        close(cursor)


def write_by_inshore(writer: int, uri: str, ledger: Ledger) -> None:
    """Sends statements, each of them once. A failed one makes it connect anew."""
    turn = done = 0
    connection = None
    as_update = writer % 4 == 1
    while ledger.goes_on(done):
        if connection is None and (connection := connect_again(uri)) is None:
            ledger.fault(f"no coordinator answers at {uri} within {RECOVERY_TIMEOUT_S:g} s")
            return
        started = time.monotonic()
        try:
            count = execute(connection, insert_sql(writer, turn), as_update)
        except Exception as error:
            ledger.fail((writer, turn), error, time.monotonic() - started)
            close(connection)
            connection = None
        else:
            ledger.acknowledge((writer, turn), time.monotonic() - started)
            done += 1
            if count != ledger.rows:
                ledger.fault(f"statement {(writer, turn)} says that it added {count} rows instead of {ledger.rows}")
        turn += 1
    close(connection)


def connect_again(uri: str) -> cluster.flightsql.Connection | None:
    """A connection that is good for a query; none when there is none in time."""
    deadline = time.monotonic() + RECOVERY_TIMEOUT_S
    while time.monotonic() < deadline:
        connection = None
        try:
            connection = cluster.connect(uri, STATEMENT_TIMEOUT_S)
            cluster.fetch(connection, "SELECT 1")
            return connection
        except Exception:
            close(connection)
            time.sleep(0.05)
    return None


def close(opened: object) -> None:
    """Closes a connection or a cursor, if there is one; its server may be gone."""
    with contextlib.suppress(Exception):
        if opened is not None:
            opened.close()


class Killer:
    """Kills processes and starts others in their place."""

    def __init__(self, running: cluster.Cluster, table: LocalTable | RestTable, ledger: Ledger, chance: random.Random):
        self.running, self.table, self.ledger, self.chance = running, table, ledger, chance
        self.kills: collections.Counter[str] = collections.Counter()
        self.slowest_recovery_s = 0.0

    def run(self, kills: int) -> None:
        try:
            self._run(kills)
        except Exception as error:
            self.ledger.fault(f"the cluster did not recover: {error}")
        finally:
            self.ledger.kills_done.set()

    def _run(self, kills: int) -> None:
        kinds = ["coordinator", "worker 1", "worker 2"]
        victims = (kinds * (-(-kills // len(kinds))))[:kills]
        self.chance.shuffle(victims)
        while victims and not self.ledger.faults:
            # Two at once, now and then.
            number = 2 if self.chance.random() < 0.15 else 1
            chosen = sorted(set(victims[:number]))
            for kind in chosen:
                victims.remove(kind)
            aim = self.chance.choice(["time", "data", "metadata"])
            self._wait(aim)
            self._replace(chosen, aim)

    def _wait(self, aim: str) -> None:
        folders = [] if aim == "time" else self.table.watched(aim)
        if not folders:
            time.sleep(self.chance.uniform(0.1, 3.0))
            return
        time.sleep(self.chance.uniform(0.1, 0.8))
        # What is made in a folder, renamed or removed changes it.
        before = modified(folders)
        deadline = time.monotonic() + AIM_TIMEOUT_S
        while modified(folders) == before and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        # At once: what is being written is not renamed yet. Later: it is committed, or not yet.
        time.sleep(self.chance.choice([0.0, self.chance.uniform(0.0, 0.15)]))

    def _replace(self, chosen: list[str], aim: str) -> None:
        processes = [self._process(kind) for kind in chosen]
        for process in processes:
            process.kill()
        started = time.monotonic()
        time.sleep(self.chance.choice([0.0, 0.3]))
        for kind, process in zip(chosen, processes, strict=True):
            self.kills[kind] += 1
            if kind == "coordinator":
                self.running.restart_coordinator()
            else:
                # A new process on the old address looks to others like the old one that answers again.
                self.running.replace_worker(process, self.chance.choice([process.address, None]))
        self._recovered()
        took_s = time.monotonic() - started
        self.slowest_recovery_s = max(self.slowest_recovery_s, took_s)
        print(f"kill -9 of {' and '.join(chosen)} by {aim}: all are back after {took_s:.1f} s", flush=True)

    def _process(self, kind: str) -> cluster.Process:
        return self.running.coordinator if kind == "coordinator" else self.running.workers[int(kind[-1]) - 1]

    def _recovered(self) -> None:
        """Returns when both workers are live. One that was killed may be counted as live too, until it is missed."""
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        wanted = {worker.address for worker in self.running.workers}
        problem: object = "it was not asked"
        while time.monotonic() < deadline:
            for process in (self.running.coordinator, *self.running.workers):
                if (code := process.child.poll()) is not None:
                    raise RuntimeError(f"{process.name} ended with {code}\n{process.log_tail()}")
            try:
                with cluster.connect(self.running.uri, 10) as connection:
                    live = {row["url"].split("//")[-1].rstrip("/") for row in self.running.live_workers(connection)}
                if wanted <= live:
                    return
                problem = f"{wanted - live} are not live"
            except cluster.flightsql.Error as error:
                problem = error
            time.sleep(0.1)
        logs = "\n".join(process.log_tail() for process in (self.running.coordinator, *self.running.workers))
        raise RuntimeError(f"not after {RECOVERY_TIMEOUT_S:g} s: {problem}\n{logs}")


def modified(folders: list[pathlib.Path]) -> list[int]:
    return [folder.stat().st_mtime_ns for folder in folders]


def make_tables(catalog: Catalog, connection: cluster.flightsql.Connection, rows: int) -> None:
    """The table that is written, with a first row of every partition, and the one that statements read."""
    retries = "'commit.retry.num-retries' = 100, 'commit.retry.min-wait-ms' = 10, 'commit.retry.max-wait-ms' = 400"
    for sql in (
        f"CREATE SCHEMA {NAMESPACE}",
        f"CREATE TABLE {NAMESPACE}.source (number int, part int, filler varbinary)",
        f"CREATE TABLE {NAME} (writer int, turn int, number int, part int, note varchar) PARTITIONED BY (part)"
        f" TBLPROPERTIES ({retries})",
    ):
        cluster.fetch(connection, sql)
    # What nobody reads makes the files so large that they are dealt out to tasks.
    chance = random.Random(0)
    whole = rows_of_turn(0, 0, rows).select(["number", "part"])
    fillers = [chance.randbytes(SOURCE_BYTES // rows) for _ in range(rows)]
    whole = whole.append_column("filler", pa.array(fillers, pa.binary()))
    source = catalog.load_table(f"{NAMESPACE}.source")
    for file in range(SOURCE_FILES):
        source.append(whole.take(list(range(file, rows, SOURCE_FILES))))
    cluster.fetch(connection, insert_sql(*FIRST))


def tasks_that_write(connection: cluster.flightsql.Connection) -> int:
    """How many tasks the stage has that writes files."""
    plan = cluster.fetch(connection, f"EXPLAIN {insert_sql(0, 0)}").column("plan").to_pylist()
    tasks, most = 0, 0
    for line in "\n".join(plan).splitlines():
        if "tasks=" in line:
            tasks = int(line.split("tasks=")[1].split()[0].strip(":,"))
        if "WriteExec" in line:
            most = max(most, tasks)
    return most


def sorted_rows(table: pa.Table) -> pa.Table:
    table = table.select(SCHEMA.names).cast(SCHEMA)
    return table.sort_by([(name, "ascending") for name in SCHEMA.names]).combine_chunks()


def read_by_all(running: cluster.Cluster, table: LocalTable | RestTable) -> dict[str, pa.Table]:
    """The table's rows by each reader."""
    with running.connect() as connection:
        found = {"Inshore": cluster.fetch(connection, f"SELECT * FROM {NAME}")}
    found["PyIceberg"] = table.catalog().load_table(NAME).scan().to_arrow()
    with table.duckdb() as con:
        metadata = duckdb_peer.quote(table.location())
        found["DuckDB"] = duckdb_peer.fetch(con, f"SELECT * FROM iceberg_scan({metadata})")
    return {reader: sorted_rows(rows) for reader, rows in found.items()}


def check_rows(rows: pa.Table, ledger: Ledger) -> tuple[list[str], int]:
    """What is wrong with the rows; and of how many failed turns they are there."""
    found: dict[Turn, list[tuple]] = collections.defaultdict(list)
    for row in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        found[row[:2]].append(row)
    problems, there = [], 0
    for turn in sorted(ledger.acknowledged | ledger.failed.keys() | found.keys()):
        wanted = list(zip(*(c.to_pylist() for c in rows_of_turn(*turn, ledger.rows).columns), strict=True))
        has = sorted(found.get(turn, []))
        is_all, is_none = has == wanted, not has
        if turn in ledger.acknowledged and not is_all:
            problems.append(f"turn {turn} was acknowledged and has {len(has)} rows of {len(wanted)}")
        elif turn in ledger.failed:
            there += is_all
            if not is_all and not is_none:
                problems.append(f"turn {turn} failed and has {len(has)} rows of {len(wanted)}: {ledger.failed[turn]}")
        elif turn not in ledger.acknowledged:
            problems.append(f"turn {turn} was never sent and has {len(has)} rows")
    return problems, there


def check_orphans(running: cluster.Cluster, table: LocalTable | RestTable, rows: pa.Table) -> list[str]:
    """Checks the manifests, and that all that nothing refers to is removed, and nothing else."""
    referenced, problems = table.referenced()
    orphans = table.files() - referenced
    with running.connect() as connection:
        removed = cluster.fetch(
            connection, f"CALL system.remove_orphan_files('{NAME}', older_than => now(), allow_recent => true)"
        )
    told = set(removed.column(0).to_pylist())
    there = table.files()
    left = there - referenced
    data = sum("/data/" in path for path in orphans)
    unfinished = sum("#" in path for path in orphans)
    print(
        f"orphans: {len(orphans)} files, {data} of them of data, {unfinished} unfinished;"
        f" {len(told)} removed, {len(left)} left"
    )
    if told != orphans:
        problems.append(f"orphans not told of: {sorted(orphans - told)[:3]}; told of: {sorted(told - orphans)[:3]}")
    problems += [f"left: {path}" for path in sorted(left)[:10]]
    problems += [f"a file that is needed was removed: {path}" for path in sorted(referenced - there)[:10]]
    for reader, again in read_by_all(running, table).items():
        if again != rows:
            problems.append(f"{reader} reads other rows after orphans were removed")
    return problems


def run(
    running: cluster.Cluster, table: LocalTable | RestTable, ledger: Ledger, kills: int, seed: int
) -> list[str]:
    with running.connect() as connection:
        make_tables(table.catalog(), connection, ledger.rows)
        if (tasks := tasks_that_write(connection)) < 2:
            return [f"{tasks} tasks write a statement's files, not 2"]
    ledger.acknowledge(FIRST, 0.0)
    killer = Killer(running, table, ledger, random.Random(seed))
    writers = [threading.Thread(target=killer.run, args=(kills,), daemon=True)]
    for number in range(WRITERS):
        ours = (number, running.uri, ledger)
        theirs = (number, table.catalog(), ledger, random.Random(seed + 1 + number))
        target, arguments = (write_by_inshore, ours) if is_inshore(number) else (write_by_pyiceberg, theirs)
        writers.append(threading.Thread(target=target, args=arguments, daemon=True))
    started = time.monotonic()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    seconds = time.monotonic() - started
    killed = ", ".join(f"{kind} {count} times" for kind, count in sorted(killer.kills.items()))
    print(f"killed: {killed}; all were back after {killer.slowest_recovery_s:.1f} s at most")

    found = read_by_all(running, table)
    rows = found["PyIceberg"]
    problems = [f"{reader} and PyIceberg read different rows" for reader, read in found.items() if read != rows]
    wrong, there = check_rows(rows, ledger)
    ours = sum(is_inshore(writer) for writer, _ in ledger.acknowledged)
    print(
        f"statements: {len(ledger.acknowledged)} acknowledged ({ours} of Inshore) and {len(ledger.failed)} failed in"
        f" {seconds:.0f} s; of the failed ones {there} are there, {len(ledger.failed) - there} are not"
    )
    print(f"{rows.num_rows} rows by three readers: {'WRONG' if problems or wrong else 'right'}")
    for kind, of_inshore in (("Inshore", True), ("PyIceberg", False)):
        took_s, outcome = ledger.slowest(of_inshore)
        print(f"the longest statement of {kind} took {took_s:.1f} s: {outcome}")
    return ledger.faults + problems + wrong + check_orphans(running, table, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cluster.add_arguments(parser)
    parser.add_argument("--commits", type=int, default=200, help="of the 8 writers together, at least (default: 200)")
    parser.add_argument("--kills", type=int, default=24, help="processes to kill (default: 24)")
    parser.add_argument("--rows", type=int, default=1200, help="of one commit (default: 1200)")
    parser.add_argument("--seed", type=int, help="of whom to kill and when (default: another one each time)")
    parser.add_argument("--rest", action="store_true", help="over SeaweedFS's REST catalog and object store")
    parser.add_argument("--errors", action="store_true", help="print what failed statements said")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for lake and logs, which stay there")
    arguments = parser.parse_args()
    # It tells of every attempt.
    logging.getLogger("pyiceberg").setLevel(logging.CRITICAL)
    # The driver closes once more what could not be closed because its server is gone.
    sys.unraisablehook = lambda _: None
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", flush=True)
    binary = cluster.find_binary(arguments.inshore)
    ledger = Ledger(arguments.rows, arguments.commits)
    with tempfile.TemporaryDirectory(prefix="inshore-bench-") as temporary:
        folder = arguments.keep.absolute() if arguments.keep else pathlib.Path(temporary)
        kind = RestTable if arguments.rest else LocalTable
        table = kind(folder / "lake", NAMESPACE, TABLE)
        try:
            with cluster.Cluster(binary, table.lake, settings=(*SETTINGS, *arguments.settings)) as running:
                problems = run(running, table, ledger, arguments.kills, seed)
                if arguments.keep:
                    for log in running.dir.glob("*.log"):
                        (folder / log.name).write_bytes(log.read_bytes())
        finally:
            table.stop()
    if arguments.errors:
        said = collections.Counter(ledger.failed.values())
        for error, count in said.most_common():
            print(f"  {count} times {error}")
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
