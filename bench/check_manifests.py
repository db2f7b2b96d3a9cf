#!/usr/bin/env python3
"""What manifests say is what data files hold: every count, size, bound, partition value, offset and number is computed
anew from the files and compared.

Without a table, the ones that check_writes.py writes are made with Inshore, of format versions 1 to 3, and checked.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import pathlib  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402

from pyiceberg.catalog import Catalog, load_catalog  # noqa: E402

import check_writes  # noqa: E402
import cluster  # noqa: E402
import lake as lakes  # noqa: E402
import manifest_checker  # noqa: E402

# Problems shown of a table; of one that is wrong everywhere the first ones say enough.
SHOWN = 40


def check(name: str, location: str) -> bool:
    """Checks a table and says what is wrong with it."""
    started = time.monotonic()
    checker = manifest_checker.check_table(location)
    problems = checker.problems
    verdict = f"WRONG in {len(problems)} places" if problems else "ok"
    snapshots = len(checker.metadata.get("snapshots", []))
    print(
        f"{name}: {verdict}; version {checker.version}, {snapshots} snapshots, {len(checker.manifests)} manifests,"
        f" {checker.data_files} data files, {time.monotonic() - started:.1f} s",
        flush=True,
    )
    for problem in problems[:SHOWN]:
        print(f"  {problem}")
    if len(problems) > SHOWN:
        print(f"  and {len(problems) - SHOWN} more")
    return not problems


def check_written(binary: pathlib.Path) -> bool:
    """The tables of check_writes.py, which have every type and transform."""
    with tempfile.TemporaryDirectory(prefix="inshore-bench-") as folder:
        shell = check_writes.Shell(binary, lakes.Lake(pathlib.Path(folder)))
        shell.must("CREATE SCHEMA written")
        right = True
        for version in check_writes.PARTITIONED_BY:
            for made in (check_writes.check_version, check_writes.check_rewritten, check_writes.check_evolved):
                for problem in made(shell, version):
                    print(problem)
                    right = False
        for table in map(".".join, sorted(shell.lake.catalog().list_tables("written"))):
            right &= check(table, shell.lake.catalog().load_table(table).metadata_location)
    return right


def open_catalog(text: str) -> Catalog:
    """A folder that `inshore sql --lake` opens, or a name of PyIceberg's configuration."""
    folder = pathlib.Path(text)
    if not (folder / "catalog.db").exists():
        return load_catalog(text)
    return lakes.Lake(folder.absolute()).catalog()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inshore", type=pathlib.Path, help="the binary (default: the newest build, else on PATH)")
    parser.add_argument("--catalog", help="a lake's folder, or the name of a catalog that PyIceberg is configured with")
    parser.add_argument("--table", action="append", help="NAMESPACE.TABLE; all tables when there is none")
    parser.add_argument("--metadata", action="append", default=[], help="a metadata file, instead of a catalog")
    arguments = parser.parse_args()
    if arguments.table and not arguments.catalog:
        parser.error("--table needs a --catalog")
    if not arguments.catalog and not arguments.metadata:
        return 0 if check_written(cluster.find_binary(arguments.inshore)) else 1
    right = True
    for location in arguments.metadata:
        right &= check(location, location)
    if arguments.catalog:
        catalog = open_catalog(arguments.catalog)
        tables = arguments.table or [
            ".".join(table) for namespace in catalog.list_namespaces() for table in catalog.list_tables(namespace)
        ]
        for table in tables:
            right &= check(table, catalog.load_table(table).metadata_location)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
