#!/usr/bin/env python3
"""Clients as they are, against a coordinator and two workers: the ADBC driver (statements, parameters, metadata, ingest,
cancelling, sessions, large results), pandas, polars, and PyArrow as a plain Flight client.

The tests are in `clients/`. What follows `--` goes to pytest.
"""

import environment

environment.enter()

import argparse  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import sys  # noqa: E402

import pytest  # noqa: E402

import cluster  # noqa: E402

CLIENTS = pathlib.Path(__file__).resolve().parent / "clients"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inshore", type=pathlib.Path, help="the binary (default: the newest build, else on PATH)")
    parser.add_argument("--quick", action="store_true", help="thousands of rows where millions are meant")
    parser.add_argument("pytest", nargs="*", help="options of pytest")
    arguments = parser.parse_args()
    os.environ["CLIENTS_INSHORE"] = str(cluster.find_binary(arguments.inshore))
    os.environ["CLIENTS_QUICK"] = str(int(arguments.quick))
    return pytest.main([str(CLIENTS), "-p", "no:cacheprovider", *arguments.pytest])


if __name__ == "__main__":
    sys.exit(main())
