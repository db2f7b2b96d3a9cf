"""A generated lake on disk: where its parts are, and how to open its catalog."""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import tempfile

from pyiceberg.catalog.sql import SqlCatalog

import environment
import tpch

# Raised when the generator writes something else than before, so that an old lake is not taken for a new one.
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Lake:
    """`root` holds `catalog.db` and `warehouse` (what `inshore sql --lake` opens), and the Parquet files the tables
    were made from: `parquet/<table>/` and, one month per file, `parquet_month/<table>/`."""

    root: pathlib.Path

    @property
    def marker(self) -> pathlib.Path:
        """Written last: a folder without it is unfinished."""
        return self.root / "bench-lake.json"

    @property
    def database(self) -> pathlib.Path:
        return self.root / "catalog.db"

    @property
    def warehouse(self) -> pathlib.Path:
        return self.root / "warehouse"

    def parquet_dir(self, table: str) -> pathlib.Path:
        return self.root / "parquet" / table

    def parquet_files(self, table: str) -> list[pathlib.Path]:
        return sorted(self.parquet_dir(table).glob("*.parquet"))

    def month_dir(self, table: str) -> pathlib.Path:
        return self.root / "parquet_month" / table

    def month_files(self, table: str) -> list[pathlib.Path]:
        return sorted(self.month_dir(table).glob("*/*.parquet"))

    def catalog(self) -> SqlCatalog:
        return SqlCatalog(
            tpch.CATALOG, uri=f"sqlite:///{self.database}", warehouse=f"file://{self.warehouse}", echo="false"
        )

    def config(self) -> str:
        """The catalog and the lake in a node's configuration."""
        return f"""\
[catalogs.{tpch.CATALOG}]
type = "sql"
uri = "sqlite://{self.database}"
warehouse = "file://{self.warehouse}"
name = "{tpch.CATALOG}"

[lakes.main]
root = "file://{self.root}"
"""

    def metadata_file(self, namespace: str, table: str) -> str:
        """Path of the table's current metadata file."""
        return self.catalog().load_table((namespace, table)).metadata_location.removeprefix("file://")

    def is_complete(self, scale: float) -> bool:
        return self.is_made({"format": FORMAT, "scale": scale})

    def is_made(self, wanted: dict) -> bool:
        """Whether the lake is finished, and its marker says all of `wanted`."""
        if not self.marker.exists():
            return False
        made = json.loads(self.marker.read_text())
        return all(made.get(key) == value for key, value in wanted.items())


@contextlib.contextmanager
def temporary():
    """An empty lake that is gone after the `with` block."""
    with tempfile.TemporaryDirectory(prefix="inshore-bench-") as folder:
        lake = Lake(pathlib.Path(folder))
        lake.warehouse.mkdir()
        lake.catalog().close()
        yield lake


def default_dir(scale: float) -> pathlib.Path:
    return environment.home() / "lakes" / f"tpch-sf{scale:g}"


def scale_factor(text: str) -> float:
    """A scale the generator knows: it takes 1.5 for 1 without a word."""
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0.001 <= scale <= 1000 or (scale > 1 and not scale.is_integer()):
        raise argparse.ArgumentTypeError(f"a scale is from 0.001 to 1, or a whole number up to 1000, not {text!r}")
    return scale


def add_arguments(parser: argparse.ArgumentParser, default_scale: float) -> None:
    """The options that name a lake, equal in every script."""
    parser.add_argument(
        "--scale", type=scale_factor, default=default_scale, help="TPC-H scale factor (default: %(default)g)"
    )
    parser.add_argument("--dir", type=pathlib.Path, help="the lake's folder (default: one per scale in the bench home)")
