"""An Inshore cluster of real processes on loopback, and connections to it.

The processes end with the `with` block, on SIGINT and SIGTERM, and, because the servers are started with
`--exit-with-parent`, also when this process is killed.
"""

import argparse
import contextlib
import dataclasses
import functools
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
from adbc_driver_flightsql import DatabaseOptions

import lake as lakes
import tpch

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10

# Below the ports that systems give to outgoing connections: nobody takes one while its server is started again.
PORTS = range(15_000, 32_000)

# The state in `system.workers` of a worker that is given tasks; the others are draining or lost.
LIVE = "active"


@dataclasses.dataclass
class Process:
    """One server process."""

    name: str
    address: str
    child: subprocess.Popen
    log: pathlib.Path

    @property
    def pid(self) -> int:
        return self.child.pid

    def kill(self) -> None:
        """SIGKILL: no chance to say goodbye to anyone."""
        self.child.kill()
        self.child.wait()
        if self.child.stdin:
            self.child.stdin.close()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL when it does not end in time."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.child.stdin:
            self.child.stdin.close()

    def log_tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {self.name}: {line}" for line in text[-lines:])


class Cluster:
    """A coordinator and workers over one lake; a context manager."""

    def __init__(
        self,
        binary: pathlib.Path,
        lake: lakes.Lake,
        workers: int = 2,
        settings: tuple[str, ...] = (),
        schema: str = tpch.NAMESPACES[0],
    ):
        self.binary = binary
        self.lake = lake
        self.worker_count = workers
        self.settings = settings
        self.schema = schema
        self.workers: list[Process] = []
        self.coordinator: Process | None = None
        self._started = 0
        self._stack = contextlib.ExitStack()

    @property
    def uri(self) -> str:
        return f"grpc://{self.coordinator.address}"

    @property
    def processes(self) -> list[Process]:
        """Those that run, the coordinator first."""
        return [process for process in [self.coordinator, *self.workers] if process.child.poll() is None]

    def __enter__(self) -> "Cluster":
        with contextlib.ExitStack() as stack:
            stack.enter_context(ends_by_signal())
            self.dir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="inshore-bench-")))
            stack.callback(self._stop)
            listen = free_address()
            self.config = self.dir / "inshore.toml"
            self.config.write_text(config_text(self.lake, listen, self.settings, self.schema))
            self.coordinator = self._start("coordinator", listen)
            for _ in range(self.worker_count):
                self.start_worker()
            try:
                self.wait_for_workers(self.worker_count)
            except RuntimeError as error:
                sys.exit(f"the cluster did not start: {error}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    def start_worker(self) -> Process:
        worker = self._start("worker", free_address())
        self.workers.append(worker)
        return worker

    def restart_coordinator(self) -> Process:
        """Starts one in the place of the coordinator, which was killed: where clients and workers look for it."""
        self.coordinator = self._start("coordinator", self.coordinator.address)
        return self.coordinator

    def replace_worker(self, killed: Process, address: str | None = None) -> Process:
        """Starts a worker in the place of one that was killed; on an address of its own unless one is given."""
        worker = self._start("worker", address or free_address())
        self.workers[self.workers.index(killed)] = worker
        return worker

    def _start(self, role: str, address: str) -> Process:
        name = role
        if role == "worker":
            self._started += 1
            name = f"worker-{self._started}"
        log = self.dir / f"{name}.log"
        command = [self.binary, role, "--config", self.config, "--listen", address, "--exit-with-parent"]
        # A coordinator that is started again goes on in its log.
        with open(log, "ab") as output:
            # The server holds the other end of its stdin: it ends when this process does, however that ends.
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=child_environment()
            )
        return Process(name, address, child, log)

    def _stop(self) -> None:
        # Workers first: the coordinator then sees them leave instead of losing them.
        for process in [*self.workers, self.coordinator]:
            if process is not None:
                process.stop()

    def connect(self) -> flightsql.Connection:
        return connect(self.uri)

    def live_workers(self, connection: flightsql.Connection) -> list[dict]:
        """Rows of `system.workers` for the workers that are given tasks."""
        rows = fetch(connection, "SELECT * FROM system.workers").to_pylist()
        return [row for row in rows if row["state"] == LIVE]

    def wait_for_workers(self, count: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when exactly `count` workers are live; fails with the logs when that does not happen."""
        deadline = time.monotonic() + timeout_s
        problem = "the coordinator was not asked yet"
        while time.monotonic() < deadline:
            for process in [self.coordinator, *self.workers]:
                if process.child.poll() not in (None, -signal.SIGKILL):
                    raise RuntimeError(f"{process.name} ended with {process.child.returncode}\n{process.log_tail()}")
            try:
                with self.connect() as connection:
                    live = self.live_workers(connection)
                if len(live) == count:
                    return
                problem = f"{len(live)} workers are live: {[row['url'] for row in live]}"
            except flightsql.Error as error:
                problem = str(error)
            time.sleep(0.2)
        logs = "\n".join(process.log_tail() for process in [self.coordinator, *self.workers])
        raise RuntimeError(f"no {count} live workers within {timeout_s:g} s: {problem}\n{logs}")


def config_text(lake: lakes.Lake, listen: str, settings: tuple[str, ...], schema: str) -> str:
    """The cluster's configuration; `settings` are lines such as "engine.batch_size = 32768"."""
    text = f"""\
default_schema = "{schema}"

coordinator.listen = "{listen}"
worker.coordinator = "grpc://{listen}"

{lake.config()}"""
    # Dotted keys of the top level have to stand before the first table.
    text = "".join(f"{setting}\n" for setting in settings) + text
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        sys.exit(f"--set takes a line of TOML such as 'engine.batch_size = 32768': {error}")
    return text


def child_environment() -> dict[str, str]:
    """Without `INSHORE_*`: the configuration file alone decides, and what is measured is what is printed."""
    return {name: value for name, value in os.environ.items() if not name.startswith("INSHORE_")}


def free_address() -> str:
    """An address on loopback that nothing listens on at the moment."""
    # Of its own, so that seeded scripts do not all choose the same.
    for port in random.SystemRandom().sample(PORTS, 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return f"127.0.0.1:{port}"
    raise RuntimeError(f"no free port from {PORTS.start} to {PORTS.stop}")


def connect(uri: str, timeout_s: float = 900) -> flightsql.Connection:
    seconds = str(float(timeout_s))
    options = {
        DatabaseOptions.TIMEOUT_QUERY.value: seconds,
        DatabaseOptions.TIMEOUT_FETCH.value: seconds,
        DatabaseOptions.TIMEOUT_UPDATE.value: seconds,
    }
    return flightsql.connect(uri, db_kwargs=options, autocommit=True)


def fetch(connection: flightsql.Connection, sql: str) -> pa.Table:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


def interrupted(error: Exception) -> bool:
    """Whether an error hides that the script was told to end: closing a statement fails when its server ends too."""
    return isinstance(error.__context__, (SystemExit, KeyboardInterrupt))


def run_embedded(binary: pathlib.Path, lake: lakes.Lake, sql: str, timeout_s: float = 900) -> pa.Table:
    """One statement in a process of its own, coordinator and workers inside: `inshore sql --lake`."""
    with tempfile.TemporaryDirectory(prefix="inshore-bench-") as folder:
        script, output = pathlib.Path(folder) / "query.sql", pathlib.Path(folder) / "result.arrow"
        script.write_text(sql)
        command = [binary, "sql", "--lake", lake.root, "-f", script, "--format", "arrow", "--output", output]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=folder,
            env=child_environment(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"inshore sql ended with {done.returncode}: {done.stderr.strip()}")
        with pa.OSFile(str(output)) as file, pa.ipc.open_stream(file) as stream:
            return stream.read_all()


def rss_bytes(pid: int, field: str = "VmRSS") -> int:
    """Resident memory of a process; `VmHWM` is its highest."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what to run, equal in every script."""
    parser.add_argument(
        "--inshore", type=pathlib.Path, help="the binary (default: the newest build in this clone, else on PATH)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help='a line of the configuration, as TOML: --set "engine.batch_size = 32768"',
    )


def find_binary(given: pathlib.Path | None) -> pathlib.Path:
    """The binary to run; a debug build is named as such, because its times mean nothing."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    candidates = [given] if given else [target / "release" / "inshore", target / "debug" / "inshore"]
    found = [path for path in candidates if path.is_file()]
    if not found and not given and (on_path := shutil.which("inshore")):
        found = [pathlib.Path(on_path)]
    if not found:
        sys.exit("no inshore binary: build one with `cargo build --release`, or give --inshore PATH")
    binary = max(found, key=lambda path: path.stat().st_mtime).absolute()
    if is_debug(binary):
        print(f"note: {binary} is a debug build; its times are not worth comparing", file=sys.stderr)
    return binary


def is_debug(binary: pathlib.Path) -> bool:
    return "debug" in binary.parts


@functools.cache
def binary_version(binary: pathlib.Path) -> str:
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def ends_by_signal():
    """Turns SIGTERM and SIGHUP into an ordinary exit, so that `finally` and `with` run."""

    def leave(number, _frame):
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
