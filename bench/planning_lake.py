"""Makes the lake of planning.py: the metadata of one large table, partitioned by day, whose data files do not exist.

Its entries have what writers put into them: partition values, counts, sizes, and bounds of ten columns. `event_id`
rises from file to file, so its bounds tell files apart; `event_time` is that of the file's day; the bounds of the
other columns say nothing, as is common. Every manifest holds the files of two neighbouring days. A finished lake is
reused.
"""

import dataclasses
import datetime
import decimal
import functools
import json
import pathlib
import random
import struct
import sys
import time
import uuid
from collections.abc import Iterator
from importlib.metadata import version

from pyiceberg.conversions import to_bytes
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
)

import environment
import lake as lakes
from iceberg_writer import TEXT_BOUND, Manifest, TableWriter, avro_map, data_file
from make_lake import clear

NAMESPACE = "planning"
TABLE = "events"

# Raised when the generator writes something else than before.
FORMAT = 1

ROWS_PER_FILE = 1_000_000
FILE_BYTES = 140 << 20
ROW_GROUP_BYTES = 128 << 20

SCHEMA = Schema(
    NestedField(1, "event_id", LongType(), required=True),
    NestedField(2, "customer_id", LongType(), required=False),
    NestedField(3, "event_time", TimestampType(), required=True),
    NestedField(4, "country", StringType(), required=False),
    NestedField(5, "product", StringType(), required=False),
    NestedField(6, "quantity", IntegerType(), required=False),
    NestedField(7, "price", DecimalType(12, 2), required=False),
    NestedField(8, "discount", DoubleType(), required=False),
    NestedField(9, "status", StringType(), required=False),
    NestedField(10, "note", StringType(), required=False),
    schema_id=0,
)
COLUMNS = [field.field_id for field in SCHEMA.fields]

SPEC = PartitionSpec(PartitionField(3, 1000, DayTransform(), "event_time_day"), spec_id=0)

FIRST_DAY = datetime.date(2023, 1, 1)
EPOCH = datetime.date(1970, 1, 1)
DAY_US = 24 * 60 * 60 * 1_000_000


@dataclasses.dataclass(frozen=True)
class Size:
    """How much metadata there is. There are as many days as manifests."""

    files: int
    manifests: int

    @property
    def files_per_manifest(self) -> int:
        return self.files // self.manifests

    def day(self, file: int) -> int:
        """The day of a file, from FIRST_DAY; half a manifest later than the manifest's number."""
        return (file + self.files_per_manifest // 2) // self.files_per_manifest

    def event_ids(self, file: int) -> tuple[int, int]:
        """The smallest and the largest; neighbouring files overlap by half."""
        return file * ROWS_PER_FILE, (file + 1) * ROWS_PER_FILE + ROWS_PER_FILE // 2

    def files_of_ids(self, smallest: int, largest: int) -> int:
        """How many files may hold ids of this range."""
        ranges = (self.event_ids(file) for file in range(self.files))
        return sum(low <= largest and high >= smallest for low, high in ranges)

    def files_of_day(self, day: int) -> int:
        return sum(self.day(file) == day for file in range(self.files))

    def manifests_of_day(self, day: int) -> int:
        return len({file // self.files_per_manifest for file in range(self.files) if self.day(file) == day})


def date(day: int) -> datetime.date:
    return FIRST_DAY + datetime.timedelta(days=day)


def default_dir(size: Size) -> pathlib.Path:
    return environment.home() / "lakes" / f"planning-{size.files}-{size.manifests}"


def ensure_lake(root: pathlib.Path, size: Size) -> lakes.Lake:
    """The lake in `root`, made first when it is not there in this size."""
    lake = lakes.Lake(root.absolute())
    wanted = {"kind": NAMESPACE, "format": FORMAT, **dataclasses.asdict(size)}
    if lake.is_made(wanted):
        return lake
    clear(lake)
    say(f"making the metadata of {size.files} files in {size.manifests} manifests in {lake.root}")
    started = time.monotonic()
    lake.catalog().create_namespace(NAMESPACE)
    writer = TableWriter(lake, NAMESPACE, TABLE, SCHEMA, SPEC)
    writer.commit(manifests(size, writer.data_dir))
    writer.register()
    versions = {name: version(name) for name in ("pyiceberg", "fastavro")}
    lake.marker.write_text(json.dumps(wanted | {"versions": versions}, indent=2) + "\n")
    say(f"{manifest_bytes(lake) / (1 << 20):.0f} MiB of manifests, {time.monotonic() - started:.0f} s")
    return lake


def manifest_bytes(lake: lakes.Lake) -> int:
    return sum(path.stat().st_size for path in lake.warehouse.rglob("*-m0.avro"))


def manifests(size: Size, data_dir: pathlib.Path) -> Iterator[Manifest]:
    """One at a time: the entries of all together would take gigabytes."""
    chance = random.Random(1)
    for start in range(0, size.files, size.files_per_manifest):
        numbers = range(start, min(start + size.files_per_manifest, size.files))
        days = [epoch_day(size.day(number)) for number in numbers]
        summary = {
            "contains_null": False,
            "contains_nan": False,
            "lower_bound": struct.pack("<i", days[0]),
            "upper_bound": struct.pack("<i", days[-1]),
        }
        yield Manifest([entry(size, data_dir, number, chance) for number in numbers], partitions=[summary])


def entry(size: Size, data_dir: pathlib.Path, number: int, chance: random.Random) -> dict:
    day = size.day(number)
    name = f"{number % 200:05}-{number}-{uuid.UUID(int=chance.getrandbits(128), version=4)}-0-00001.parquet"
    nulls = [0, 0, 0, 0, 0, 0, 0, 0, 0, chance.randrange(ROWS_PER_FILE // 2)]
    lower, upper = column_bounds(size, number, day, chance)
    return data_file(
        data_dir / f"event_time_day={date(day)}" / name,
        ROWS_PER_FILE,
        FILE_BYTES + chance.randrange(1 << 20),
        partition={"event_time_day": epoch_day(day)},
        column_sizes=by_column([chance.randrange(1 << 20, 1 << 24) for _ in COLUMNS]),
        value_counts=by_column([ROWS_PER_FILE] * len(COLUMNS)),
        null_value_counts=by_column(nulls),
        nan_value_counts=avro_map({8: 0}),
        lower_bounds=by_column(lower),
        upper_bounds=by_column(upper),
        split_offsets=[4, ROW_GROUP_BYTES + chance.randrange(1 << 20)],
        sort_order_id=0,
    )


def column_bounds(size: Size, number: int, day: int, chance: random.Random) -> tuple[list[bytes], list[bytes]]:
    smallest, largest = size.event_ids(number)
    midnight = epoch_day(day) * DAY_US
    minute_us = 60 * 1_000_000
    lower = [
        long(smallest), long(chance.randrange(1000)), long(midnight + chance.randrange(minute_us)), b"AD",
        text("anvil", chance), integer(1), price(chance.randrange(1000)), struct.pack("<d", 0.0), b"cancelled",
        text("a note", chance),
    ]  # fmt: skip
    upper = [
        long(largest), long(50_000_000 - chance.randrange(1000)),
        long(midnight + DAY_US - 1 - chance.randrange(minute_us)), b"ZW", text("zither", chance), integer(100),
        price(100_000_000 - chance.randrange(1000)), struct.pack("<d", 0.5), b"shipped", text("zoned", chance),
    ]  # fmt: skip
    return lower, upper


def by_column(values: list) -> list[dict]:
    return avro_map(dict(zip(COLUMNS, values)))


def epoch_day(day: int) -> int:
    return (date(day) - EPOCH).days


def long(value: int) -> bytes:
    return struct.pack("<q", value)


def integer(value: int) -> bytes:
    return struct.pack("<i", value)


@functools.cache
def price(cents: int) -> bytes:
    return to_bytes(SCHEMA.find_type("price"), decimal.Decimal(cents).scaleb(-2))


def text(word: str, chance: random.Random) -> bytes:
    return f"{word} {chance.getrandbits(64):x}"[:TEXT_BOUND].encode()


def say(message: str) -> None:
    print(f"planning_lake: {message}", file=sys.stderr, flush=True)
