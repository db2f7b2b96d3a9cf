#!/usr/bin/env python3
"""50 clients run Q6 at once, each on its own ADBC connection: every answer is right, and the memory of the coordinator
and of the workers returns to its level afterwards.

Memory is the resident set of each process, read while nothing runs: after the warm-up rounds (caches, threads and
allocator have their size by then), and again after the measured rounds.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import concurrent.futures  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

import cluster  # noqa: E402
import duckdb_peer  # noqa: E402
import lake as lakes  # noqa: E402
import results  # noqa: E402
import tpch  # noqa: E402
from make_lake import ensure_lake  # noqa: E402

MIB = 1 << 20

# Growth of a process that is still "its level": the larger of the two. Allocators keep some pages of each thread.
ALLOWED_GROWTH = 0.15
ALLOWED_GROWTH_BYTES = 64 * MIB

# Memory is read when it has not moved by more than this for SETTLE_STEPS reads.
SETTLE_BYTES = 1 * MIB
SETTLE_STEPS = 5
SETTLE_INTERVAL_S = 1.0
SETTLE_TIMEOUT_S = 60.0


class PeakMemory:
    """Samples the resident sets while a `with` block runs."""

    def __init__(self, processes: list[cluster.Process], interval_s: float = 0.1):
        self.peak = {process.name: 0 for process in processes}
        self._processes = processes
        self._interval_s = interval_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._done.wait(self._interval_s):
            for process in self._processes:
                self.peak[process.name] = max(self.peak[process.name], cluster.rss_bytes(process.pid))

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._done.set()
        self._thread.join()


def settled_memory(processes: list[cluster.Process]) -> dict[str, int]:
    """The resident sets, once they rest."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    history: list[dict[str, int]] = []
    while True:
        history.append({process.name: cluster.rss_bytes(process.pid) for process in processes})
        recent = history[-SETTLE_STEPS:]
        rests = len(recent) == SETTLE_STEPS and all(
            max(read[name] for read in recent) - min(read[name] for read in recent) <= SETTLE_BYTES
            for name in recent[0]
        )
        if rests or time.monotonic() > deadline:
            return history[-1]
        time.sleep(SETTLE_INTERVAL_S)


def run_round(running: cluster.Cluster, clients: int, sql: str, expected) -> tuple[list[float], list[str]]:
    """All clients at once; their times, and what went wrong."""
    together = threading.Barrier(clients)

    def client() -> tuple[float, list[str]]:
        try:
            with running.connect() as connection:
                together.wait(timeout=60)
                started = time.perf_counter()
                answer = cluster.fetch(connection, sql)
                return time.perf_counter() - started, results.compare(expected, answer)
        except threading.BrokenBarrierError:
            return 0.0, ["another client could not connect"]
        except Exception as error:
            together.abort()
            return 0.0, [f"{type(error).__name__}: {error}"]

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = [future.result() for future in [pool.submit(client) for _ in range(clients)]]
    return [seconds for seconds, _ in answers], [problem for _, problems in answers for problem in problems]


def run_rounds(name: str, rounds: int, running: cluster.Cluster, clients: int, sql: str, expected) -> list[str]:
    wrong = []
    for number in range(1, rounds + 1):
        started = time.perf_counter()
        times, problems = run_round(running, clients, sql, expected)
        total = time.perf_counter() - started
        print(
            f"{name} {number}: {clients} clients in {total:.2f} s; median {statistics.median(times):.2f} s,"
            f" slowest {max(times):.2f} s; {len(problems)} wrong",
            flush=True,
        )
        wrong += problems
    return wrong


def check_memory(before: dict[str, int], peak: dict[str, int], after: dict[str, int]) -> list[str]:
    problems = []
    print(f"\n{'memory, MiB':14} {'before':>8} {'peak':>8} {'after':>8} {'growth':>8} {'allowed':>8}")
    for name in before:
        growth = after[name] - before[name]
        allowed = max(ALLOWED_GROWTH_BYTES, before[name] * ALLOWED_GROWTH)
        figures = (before[name], peak[name], after[name], growth, allowed)
        print(f"{name:14} " + " ".join(f"{figure / MIB:8.0f}" for figure in figures))
        if growth > allowed:
            problems.append(f"{name} grew by {growth / MIB:.0f} MiB, allowed are {allowed / MIB:.0f} MiB")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    lakes.add_arguments(parser, default_scale=0.1)
    cluster.add_arguments(parser)
    parser.add_argument("--namespace", choices=tpch.NAMESPACES, default="tpch_append_month")
    parser.add_argument("--clients", type=int, default=50, help="at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default: %(default)s)")
    parser.add_argument("--warm-up", type=int, default=2, help="rounds before that (default: %(default)s)")
    arguments = parser.parse_args()

    lake = ensure_lake(arguments.dir or lakes.default_dir(arguments.scale), arguments.scale)
    binary = cluster.find_binary(arguments.inshore)
    (query,) = tpch.select("6")
    sql = query.sql(f"{tpch.CATALOG}.{arguments.namespace}")
    with duckdb_peer.connect(threads=2) as con:
        expected = duckdb_peer.fetch(con, query.sql(duckdb_peer.view_parquet(con, lake)))

    with cluster.Cluster(binary, lake, settings=tuple(arguments.settings)) as running:
        problems = run_rounds("warm-up", arguments.warm_up, running, arguments.clients, sql, expected)
        before = settled_memory(running.processes)
        with PeakMemory(running.processes) as memory:
            problems += run_rounds("round", arguments.rounds, running, arguments.clients, sql, expected)
        if len(running.processes) != len(before):
            problems.append(f"only {[process.name for process in running.processes]} still run")
        else:
            problems += check_memory(before, memory.peak, settled_memory(running.processes))

    for problem in sorted(set(problems)):
        print(f"wrong ({problems.count(problem)} times): {problem}")
    if problems:
        sys.exit(1)
    print(f"every answer is right: {(arguments.rounds + arguments.warm_up) * arguments.clients}")


if __name__ == "__main__":
    main()
