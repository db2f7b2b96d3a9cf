#!/usr/bin/env python3
"""kill -9 of a worker in the middle of a query: the query fails within 10 s with an error that names the worker, and
the next query succeeds on the other worker.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

import cluster  # noqa: E402
import duckdb_peer  # noqa: E402
import lake as lakes  # noqa: E402
import results  # noqa: E402
import tpch  # noqa: E402
from make_lake import ensure_lake  # noqa: E402

ERROR_WITHIN_S = 10.0
NEXT_QUERY_WITHIN_S = 30.0

# How long both workers may take to be seen busy with the query.
BUSY_WITHIN_S = 30.0

# Every pair of items of a supplier: 360 million at scale 0.1, and a comparison that no engine can take a shortcut for.
LONG_QUERY = """
select count(*) as pairs
from {schema}.lineitem a, {schema}.lineitem b
where a.l_suppkey = b.l_suppkey and a.l_comment < b.l_comment
"""


class Running(threading.Thread):
    """A query on its way, and how it ended."""

    def __init__(self, uri: str, sql: str):
        super().__init__(daemon=True)
        self.uri = uri
        self.sql = sql
        self.error: Exception | None = None
        self.ended: float | None = None

    def run(self) -> None:
        try:
            with cluster.connect(self.uri) as connection:
                cluster.fetch(connection, self.sql)
        except Exception as error:
            self.error = error
        self.ended = time.monotonic()


def wait_until_busy(running: cluster.Cluster, query: Running, victim: cluster.Process) -> str | None:
    """Returns when the victim has tasks of the query, as it reported in a heartbeat."""
    deadline = time.monotonic() + BUSY_WITHIN_S
    with running.connect() as connection:
        while time.monotonic() < deadline:
            if not query.is_alive():
                return f"the query ended before the worker was killed: {query.error or 'it finished; raise --scale'}"
            for worker in running.live_workers(connection):
                if victim.address in worker["url"] and worker["running_tasks"] > 0:
                    return None
            time.sleep(0.1)
    return f"{victim.name} reported no running task within {BUSY_WITHIN_S:g} s"


def kill_one(running: cluster.Cluster, delay_s: float, schema: str, expected) -> list[str]:
    """Kills a worker `delay_s` after it was seen busy; returns what was not as it should be."""
    victim, survivor = running.workers[-2:]
    query = Running(running.uri, LONG_QUERY.format(schema=schema))
    query.start()
    if problem := wait_until_busy(running, query, victim):
        return [problem]
    time.sleep(delay_s)
    if not query.is_alive():
        return ["the query ended before the worker was killed: raise --scale"]

    killed = time.monotonic()
    victim.kill()
    query.join(timeout=ERROR_WITHIN_S + 20)
    if query.is_alive():
        return [f"no error {ERROR_WITHIN_S + 20:g} s after {victim.name} was killed"]
    waited_s = query.ended - killed
    print(f"  error after {waited_s:.2f} s: {query.error}")
    problems = []
    if query.error is None:
        problems.append("the query succeeded although its worker was killed")
    else:
        if waited_s > ERROR_WITHIN_S:
            problems.append(f"the error took {waited_s:.1f} s, allowed are {ERROR_WITHIN_S:g} s")
        if victim.address not in str(query.error):
            problems.append(f"the error does not name the worker {victim.address}")
    return problems + next_query(running, survivor, schema, expected)


def next_query(running: cluster.Cluster, survivor: cluster.Process, schema: str, expected) -> list[str]:
    """Q6 at once, without waiting for heartbeats to be missed."""
    (q6,) = tpch.select("6")
    started = time.monotonic()
    try:
        with running.connect() as connection:
            answer = cluster.fetch(connection, q6.sql(schema))
            took_s = time.monotonic() - started
            print(f"  next query after {took_s:.2f} s")
            problems = results.compare(expected, answer)
            if took_s > NEXT_QUERY_WITHIN_S:
                problems.append(f"the next query took {took_s:.1f} s")
            running.wait_for_workers(1)
            left_s = time.monotonic() - started
            (worker,) = running.live_workers(connection)
            print(f"  only {worker['url']} was live {left_s:.2f} s after the error")
            if survivor.address not in worker["url"]:
                problems.append(f"{worker['url']} is live, {survivor.address} should be")
            return problems
    except Exception as error:
        return [f"the next query failed: {type(error).__name__}: {error}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    lakes.add_arguments(parser, default_scale=0.1)
    cluster.add_arguments(parser)
    parser.add_argument("--namespace", choices=tpch.NAMESPACES, default="tpch_append_month")
    parser.add_argument(
        "--delays", default="0,0.5,2", help="seconds from the worker's first task to its end (default: %(default)s)"
    )
    arguments = parser.parse_args()
    delays = [float(delay) for delay in arguments.delays.split(",")]

    lake = ensure_lake(arguments.dir or lakes.default_dir(arguments.scale), arguments.scale)
    binary = cluster.find_binary(arguments.inshore)
    schema = f"{tpch.CATALOG}.{arguments.namespace}"
    (q6,) = tpch.select("6")
    with duckdb_peer.connect(threads=2) as con:
        expected = duckdb_peer.fetch(con, q6.sql(duckdb_peer.view_parquet(con, lake)))

    failed = False
    for delay_s in delays:
        with cluster.Cluster(binary, lake, settings=tuple(arguments.settings)) as running:
            victim = running.workers[-2]
            print(f"kill -9 of {victim.name} ({victim.address}) {delay_s:g} s into its work", flush=True)
            problems = kill_one(running, delay_s, schema, expected)
        for problem in problems:
            print(f"  WRONG: {problem}")
        failed |= bool(problems)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
