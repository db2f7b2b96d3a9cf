#!/usr/bin/env python3
"""Inshore shares a REST catalog that is not ours, over an object store, with PyIceberg.

SeaweedFS serves the catalog (with OAuth2) and the store. Inshore makes, fills, alters and replaces tables there; PyIceberg
has to read the same rows, and the other way round. Then both append to one table at the same time: every acknowledged row
has to be there once.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import contextlib  # noqa: E402
import csv  # noqa: E402
import io  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import urllib.request  # noqa: E402

import pyarrow as pa  # noqa: E402
from pyiceberg.catalog import Catalog, load_catalog  # noqa: E402
from pyiceberg.exceptions import CommitFailedException  # noqa: E402

import cluster  # noqa: E402

USER, SECRET = "bench-user", "bench-secret"
BUCKET = "lake"
PATIENCE_S = 60.0

CONFIG = """
[catalogs.lake]
type = "rest"
uri = "http://127.0.0.1:{rest}"
warehouse = "s3://{bucket}"
credential = "{user}:{secret}"

[lakes.main]
root = "s3://{bucket}"

[lakes.main.properties]
aws_endpoint = "http://127.0.0.1:{s3}"
aws_access_key_id = "{user}"
aws_secret_access_key = "{secret}"
aws_region = "us-east-1"
aws_allow_http = "true"
"""


def free_ports(count: int) -> list[int]:
    """Ports below 50000: SeaweedFS listens on each and on the one 10000 above."""
    found: list[int] = []
    for port in range(20000 + os.getpid() % 10000, 50000):
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 10000))
            found.append(port)
        if len(found) == count:
            return found
    raise SystemExit("no free ports")


class Service:
    """SeaweedFS in a folder of its own: a store, and a REST catalog over it."""

    def __init__(self, folder: pathlib.Path):
        self.weed = environment.venv_dir() / "bin" / "weed"
        master, volume, filer, self.s3, self.rest = free_ports(5)
        self.master = f"127.0.0.1:{master}"
        (folder / "store").mkdir()
        self.log = folder / "weed.log"
        command = [self.weed, "server", f"-dir={folder / 'store'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={self.s3}"]
        command += [f"-s3.port.iceberg={self.rest}", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
        keys = {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": SECRET}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=os.environ | keys)

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/v1/config", timeout=5).close()
                make = f"s3tables.bucket -create -name {BUCKET} -account {USER}\n"
                shell = [self.weed, "shell", f"-master={self.master}"]
                done = subprocess.run(shell, input=make, capture_output=True, text=True, timeout=PATIENCE_S)
                if "ARN" in done.stdout:
                    return
            time.sleep(0.5)
        raise SystemExit(f"SeaweedFS did not come up:\n{self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)

    def catalog(self) -> Catalog:
        store = {"s3.endpoint": f"http://127.0.0.1:{self.s3}", "s3.region": "us-east-1"}
        store |= {"s3.access-key-id": USER, "s3.secret-access-key": SECRET}
        uri = f"http://127.0.0.1:{self.rest}"
        return load_catalog("lake", type="rest", uri=uri, warehouse=f"s3://{BUCKET}", credential=f"{USER}:{SECRET}", **store)


class Shell:
    """Statements in a process of their own each."""

    def __init__(self, binary: pathlib.Path, config: pathlib.Path):
        self.binary, self.config = binary, config

    def run(self, sql: str) -> tuple[str | None, str]:
        """The error, if there is one, and the result."""
        command = [self.binary, "sql", "--config", self.config, "--format", "csv", "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=cluster.child_environment())
        failed = done.returncode != 0
        return (done.stderr.strip() or f"exit status {done.returncode}") if failed else None, done.stdout

    def rows(self, sql: str) -> list[tuple[str, ...]]:
        error, text = self.run(sql)
        if error:
            raise SystemExit(f"{sql}\n{error}")
        return sorted(tuple(row) for row in list(csv.reader(io.StringIO(text)))[1:])


def check_tables(shell: Shell, catalog: Catalog) -> list[str]:
    """Each system reads what the other wrote, through every kind of commit."""
    problems = []

    def same(step: str, ours: list[tuple[str, ...]], theirs: pa.Table) -> None:
        theirs_rows = sorted(tuple("" if v is None else str(v) for v in row.values()) for row in theirs.to_pylist())
        if ours != theirs_rows:
            problems.append(f"{step}: Inshore reads {ours[:5]}, PyIceberg {theirs_rows[:5]}")

    shell.rows("CREATE SCHEMA IF NOT EXISTS s")
    shell.rows("CREATE TABLE s.t (id bigint NOT NULL, name varchar, day date) PARTITIONED BY (bucket(4, id), month(day))")
    shell.rows("INSERT INTO s.t VALUES (1, 'one', DATE '2024-01-02'), (2, NULL, NULL)")
    everything = "SELECT * FROM s.t"
    same("insert", shell.rows(everything), catalog.load_table("s.t").scan().to_arrow())
    table = catalog.load_table("s.t")
    table.append(pa.table({"id": [3], "name": ["three"], "day": pa.array([None], pa.date32())}, schema=table.schema().as_arrow()))
    same("append by PyIceberg", shell.rows(everything), catalog.load_table("s.t").scan().to_arrow())
    shell.rows("ALTER TABLE s.t ADD COLUMN note varchar")
    shell.rows("INSERT INTO s.t (id, note) VALUES (4, 'new')")
    same("alter", shell.rows(everything), catalog.load_table("s.t").scan().to_arrow())
    shell.rows("CREATE TABLE s.made AS SELECT id, name FROM s.t WHERE id > 1")
    same("create as", shell.rows("SELECT * FROM s.made"), catalog.load_table("s.made").scan().to_arrow())
    before = catalog.load_table("s.t")
    shell.rows("CREATE OR REPLACE TABLE s.t AS SELECT id, id * 2 AS twice FROM s.t")
    after = catalog.load_table("s.t")
    same("replace", shell.rows(everything), after.scan().to_arrow())
    if (before.metadata.table_uuid, before.location()) != (after.metadata.table_uuid, after.location()):
        problems.append("replace: the table lost its identity")
    old = before.current_snapshot().snapshot_id
    same("state before", shell.rows(f"SELECT * FROM s.t FOR VERSION AS OF {old}"), after.scan(snapshot_id=old).to_arrow())
    shell.rows("CREATE OR REPLACE TABLE s.t (id bigint)")
    if len(catalog.load_table("s.t").scan().to_arrow()) != 0 or shell.rows(everything):
        problems.append("replace without rows: there are some")
    return problems


def check_writers(shell: Shell, service: Service, commits: int) -> list[str]:
    """Both kinds of writers append at once; each adds its own ids, one a commit."""
    retries = "'commit.retry.num-retries' = '100', 'commit.retry.min-wait-ms' = '20', 'commit.retry.max-wait-ms' = '1000'"
    shell.rows(f"CREATE TABLE s.shared (id bigint) TBLPROPERTIES ({retries})")
    acknowledged: list[int] = []
    unknown: list[int] = []

    def ours(first: int) -> None:
        for turn in range(commits):
            error, _ = shell.run(f"INSERT INTO s.shared VALUES ({first + turn})")
            if error is None:
                acknowledged.append(first + turn)
            elif "not known" in error:
                unknown.append(first + turn)
            else:
                print(f"an append failed: {error}")

    def theirs(first: int) -> None:
        catalog = service.catalog()
        for turn in range(commits):
            rows = pa.table({"id": [first + turn]})
            for _ in range(200):
                with contextlib.suppress(CommitFailedException):
                    catalog.load_table("s.shared").append(rows)
                    acknowledged.append(first + turn)
                    break

    writers = [threading.Thread(target=ours, args=(n * 1000,)) for n in range(2)]
    writers += [threading.Thread(target=theirs, args=((10 + n) * 1000,)) for n in range(2)]
    began = time.monotonic()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = [int(row[0]) for row in shell.rows("SELECT id FROM s.shared")]
    seconds = time.monotonic() - began
    print(f"{len(acknowledged)} commits of 4 writers in {seconds:.0f} s, {len(found)} rows, {len(unknown)} not known")
    problems = []
    if len(found) != len(set(found)):
        problems.append("a row is there twice")
    if missing := set(acknowledged) - set(found):
        problems.append(f"acknowledged rows are missing: {sorted(missing)[:10]}")
    if strange := set(found) - set(acknowledged) - set(unknown):
        problems.append(f"rows of failed statements are there: {sorted(strange)[:10]}")
    if len(acknowledged) + len(unknown) < 4 * commits:
        problems.append(f"{4 * commits - len(acknowledged) - len(unknown)} appends failed")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inshore", type=pathlib.Path, help="the binary (default: the newest build, else on PATH)")
    parser.add_argument("--commits", type=int, default=25, help="of each of the 4 writers (default: 25)")
    arguments = parser.parse_args()
    logging.getLogger("pyiceberg").setLevel(logging.ERROR)
    binary = cluster.find_binary(arguments.inshore)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        service = Service(folder)
        try:
            service.wait()
            config = folder / "inshore.toml"
            config.write_text(CONFIG.format(rest=service.rest, s3=service.s3, bucket=BUCKET, user=USER, secret=SECRET))
            shell = Shell(binary, config)
            problems = check_tables(shell, service.catalog())
            problems += check_writers(shell, service, arguments.commits)
        finally:
            service.stop()
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
