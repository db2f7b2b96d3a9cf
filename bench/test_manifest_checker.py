#!/usr/bin/env python3
"""Tests of the manifest checker: it accepts a table that PyIceberg wrote, and names each claim that is made wrong."""

import environment

environment.enter()

import contextlib  # noqa: E402
import datetime  # noqa: E402
import decimal  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import pathlib  # noqa: E402
import struct  # noqa: E402
import tempfile  # noqa: E402
import unittest  # noqa: E402
import uuid  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from unittest import mock  # noqa: E402

import fastavro  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from pyiceberg.schema import Schema  # noqa: E402
from pyiceberg.transforms import (  # noqa: E402
    BucketTransform,
    IdentityTransform,
    MonthTransform,
    TruncateTransform,
)
from pyiceberg.types import (  # noqa: E402
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    UUIDType,
)

import iceberg_values as values  # noqa: E402
import iceberg_writer  # noqa: E402
import lake as lakes  # noqa: E402
import manifest_checker  # noqa: E402

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "name", StringType(), required=False),
    NestedField(3, "d", DoubleType(), required=False),
    NestedField(4, "day", DateType(), required=False),
    NestedField(5, "ts", TimestampType(), required=False),
    NestedField(6, "p", DecimalType(15, 2), required=False),
    NestedField(7, "flag", BooleanType(), required=False),
    NestedField(8, "b", BinaryType(), required=False),
    NestedField(9, "u", UUIDType(), required=False),
    NestedField(10, "f", FloatType(), required=False),
    NestedField(11, "fx", FixedType(2), required=False),
    NestedField(12, "ls", ListType(15, IntegerType(), element_required=False), required=False),
    NestedField(
        13,
        "st",
        StructType(
            NestedField(16, "a", DoubleType(), required=False),
            NestedField(17, "tags", ListType(18, StringType(), element_required=False), required=False),
        ),
        required=False,
    ),
    NestedField(14, "m", MapType(19, StringType(), 20, IntegerType(), value_required=False), required=False),
)

ROW = {
    "id": -5, "name": "ключ" * 10, "d": -0.0, "day": datetime.date(1969, 12, 31),
    "ts": datetime.datetime(1969, 12, 31, 23, 59, 59, 999999), "p": decimal.Decimal("-0.01"), "flag": True,
    "b": b"\xff" * 20, "u": uuid.UUID("9c12d441-03fe-4693-9a96-a0705ddf69c1").bytes, "f": 1.5, "fx": b"ab",
    "ls": [1, None, 3], "st": {"a": math.nan, "tags": ["x", None]}, "m": [("k", 1), ("l", None)],
}  # fmt: skip

# In the partition of ROW too: names begin alike, and both ids are in one bucket of 1.
MORE = ROW | {"id": 7, "name": "клетка", "d": math.nan, "p": None, "b": b"", "ls": [], "st": None, "m": None}
OTHER = dict.fromkeys(ROW) | {"id": 1 << 40, "d": 0.0, "st": {"a": 2.0, "tags": None}, "ls": None}

NAN_COUNTS = {"first": {3: 1, 10: 0, 16: 1}, "other": {3: 0, 10: 0, 16: 0}}


@contextlib.contextmanager
def changed(path: pathlib.Path, content: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def avro_with(path: pathlib.Path, change: Callable[[list[dict]], None], header: dict | None = None) -> bytes:
    """The file with its records changed, and parts of its header."""
    with open(path, "rb") as file:
        reader = fastavro.reader(file)
        records, schema, metadata = list(reader), reader.writer_schema, dict(reader.metadata)
    change(records)
    metadata = {key: value for key, value in metadata.items() if not key.startswith("avro.")} | (header or {})
    with tempfile.TemporaryFile() as file:
        fastavro.writer(file, schema, records, codec="deflate", metadata=metadata)
        file.seek(0)
        return file.read()


class Table:
    """A table of one snapshot, whose files can be made wrong for a while."""

    def __init__(self, location: str):
        self.path = manifest_checker.local(location)
        self.metadata = json.loads(self.path.read_text())
        self.list_path = manifest_checker.local(self.metadata["snapshots"][-1]["manifest-list"])
        listed, _ = manifest_checker.read_avro(str(self.list_path))
        self.manifest_path = manifest_checker.local(listed[0]["manifest_path"])

    def problems(self) -> list[str]:
        return [str(problem) for problem in manifest_checker.check_table(str(self.path)).problems]

    @contextlib.contextmanager
    def listed(self, change: Callable[[dict], None], header: dict | None = None) -> Iterator[None]:
        with changed(self.list_path, avro_with(self.list_path, lambda rows: change(rows[0]), header)):
            yield

    @contextlib.contextmanager
    def entries(self, change: Callable[[list[dict]], None], header: dict | None = None) -> Iterator[None]:
        """With a manifest list that knows the changed manifest's length."""
        content = avro_with(self.manifest_path, change, header)
        with changed(self.manifest_path, content), self.listed(lambda row: row.update(manifest_length=len(content))):
            yield

    @contextlib.contextmanager
    def document(self, change: Callable[[dict], None]) -> Iterator[None]:
        metadata = json.loads(self.path.read_text())
        change(metadata)
        with changed(self.path, json.dumps(metadata).encode()):
            yield


def set_metric(name: str, number: int, value: object) -> Callable[[list[dict]], None]:
    """Sets, or with None removes, a column's metric of the first file."""

    def change(entries: list[dict]) -> None:
        file = entries[0]["data_file"]
        pairs = {pair["key"]: pair["value"] for pair in file[name] or []}
        pairs.pop(number, None)
        if value is not None:
            pairs[number] = value
        file[name] = iceberg_writer.avro_map(pairs)

    return change


def set_file(name: str, value: object) -> Callable[[list[dict]], None]:
    return lambda entries: entries[0]["data_file"].update({name: value})


def set_partition(name: str, value: object) -> Callable[[list[dict]], None]:
    return lambda entries: entries[0]["data_file"]["partition"].update({name: value})


class OfPyIceberg(unittest.TestCase):
    """Claims of a version 2 table, partitioned, with every kind of column."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="inshore-bench-")
        cls.addClassCleanup(cls.folder.cleanup)
        lake = lakes.Lake(pathlib.Path(cls.folder.name))
        lake.warehouse.mkdir()
        catalog = lake.catalog()
        catalog.create_namespace("checked")
        properties = {"format-version": "2"}
        table = catalog.create_table(("checked", "t"), schema=SCHEMA, properties=properties)
        with table.update_spec() as update:
            update.add_field("id", BucketTransform(1), "id_bucket")
            update.add_field("name", TruncateTransform(2), "name_trunc")
            update.add_field("day", MonthTransform(), "day_month")
            update.add_field("flag", IdentityTransform(), "flag_same")
        with catalog.load_table(("checked", "t")).transaction() as change:
            change.set_properties({"written.by": "a test"})
        catalog.load_table(("checked", "t")).append(pa.Table.from_pylist([ROW, MORE, OTHER], SCHEMA.as_arrow()))
        cls.table = Table(catalog.load_table(("checked", "t")).metadata_location)
        cls.complete(cls.table)
        # Such files are to be as complete as Inshore's.
        patch = mock.patch("parquet_facts.OURS", ("parquet-cpp",))
        patch.start()
        cls.addClassCleanup(patch.stop)

    @staticmethod
    def complete(table: Table) -> None:
        """Adds what PyIceberg leaves out, and puts the file of two rows first."""

        def change(entries: list[dict]) -> None:
            entries.sort(key=lambda entry: -entry["data_file"]["record_count"])
            for entry, name in zip(entries, ("first", "other"), strict=True):
                entry["data_file"]["nan_value_counts"] = iceberg_writer.avro_map(NAN_COUNTS[name])
            for name in ("lower_bounds", "upper_bounds"):
                entries[1]["data_file"][name].append({"key": 16, "value": struct.pack("<d", 2.0)})

        content = avro_with(table.manifest_path, change)
        table.manifest_path.write_bytes(content)
        table.list_path.write_bytes(
            avro_with(table.list_path, lambda rows: rows[0].update(manifest_length=len(content)))
        )

    def assert_named(self, part: str):
        found = self.table.problems()
        self.assertTrue(any(part in problem for problem in found), f"{part!r} is not named in {found}")

    def test_the_right_table_is_right(self):
        self.assertEqual(self.table.problems(), [])

    def test_metrics(self):
        two = struct.pack("<d", 2.0)
        text = "ключ" * 4
        cases = [
            ("column_sizes", 1, 3), ("column_sizes", 18, None), ("column_sizes", 77, 3), ("column_sizes", 13, 3),
            ("value_counts", 1, 3), ("value_counts", 15, 3), ("value_counts", 19, 4), ("value_counts", 6, None),
            ("null_value_counts", 6, 0), ("null_value_counts", 15, 1), ("null_value_counts", 18, 1),
            ("null_value_counts", 16, 0), ("null_value_counts", 20, 1), ("null_value_counts", 1, None),
            ("nan_value_counts", 3, 0), ("nan_value_counts", 10, None), ("nan_value_counts", 16, 0),
            ("nan_value_counts", 1, 0),
            ("lower_bounds", 1, struct.pack("<q", -4)), ("lower_bounds", 1, struct.pack("<q", -6)),
            ("lower_bounds", 1, b"\0"), ("lower_bounds", 1, None), ("lower_bounds", 2, "клж".encode()),
            ("lower_bounds", 2, "кле".encode()), ("lower_bounds", 3, struct.pack("<d", math.nan)),
            ("lower_bounds", 3, two), ("lower_bounds", 16, two), ("lower_bounds", 4, struct.pack("<i", 0)),
            ("lower_bounds", 6, b"\xff\xff"), ("lower_bounds", 7, b"\0"), ("lower_bounds", 9, bytes(16)),
            ("upper_bounds", 1, struct.pack("<q", 6)), ("upper_bounds", 1, struct.pack("<q", 8)),
            ("upper_bounds", 2, text.encode()), ("upper_bounds", 2, ("ключ" * 10).encode()),
            ("upper_bounds", 2, "лю".encode()), ("upper_bounds", 3, struct.pack("<d", math.inf)),
            ("upper_bounds", 5, struct.pack("<q", -2)), ("upper_bounds", 8, b"\xff" * 16),
            ("upper_bounds", 9, b"\xff" * 16), ("upper_bounds", 10, struct.pack("<f", 1.25)),
            ("upper_bounds", 11, b"aa"),
        ]  # fmt: skip
        for name, number, value in cases:
            with self.subTest(name=name, column=number, value=value):
                with self.table.entries(set_metric(name, number, value)):
                    self.assert_named(f"{name}[{number}]")

    def test_other_right_bounds(self):
        cases = [
            # Zero of either sign bounds both.
            ("lower_bounds", 3, struct.pack("<d", -0.0)), ("upper_bounds", 3, struct.pack("<d", 0.0)),
            ("upper_bounds", 8, None),  # no text of 16 bytes is above 20 times 0xff
        ]  # fmt: skip
        for name, number, value in cases:
            with self.subTest(name=name, column=number):
                with self.table.entries(set_metric(name, number, value)):
                    self.assertEqual(self.table.problems(), [])

    def test_zeros_are_two(self):
        with self.table.entries(set_metric("lower_bounds", 3, struct.pack("<d", 0.0))):
            self.assert_named("lower_bounds[3]")

    def test_metrics_modes(self):
        mode = {"write.metadata.metrics.default": "none", "write.metadata.metrics.column.id": "counts"}
        with self.table.document(lambda metadata: metadata["properties"].update(mode)):
            self.assert_named("lower_bounds[1]")
            self.assert_named("value_counts[2]")
            self.assertFalse(any("value_counts[1]" in problem for problem in self.table.problems()))
        mode = {"write.metadata.metrics.default": "truncate(3)"}
        with self.table.document(lambda metadata: metadata["properties"].update(mode)):
            self.assert_named("upper_bounds[2]")

    def test_files(self):
        with self.table.entries(set_file("record_count", 3)):
            self.assert_named("record_count")
            self.assert_named("added_rows_count")
            self.assert_named("summary total-records")
        with self.table.entries(set_file("file_size_in_bytes", 3)):
            self.assert_named("file_size_in_bytes")
            self.assert_named("summary added-files-size")
        for offsets in ([5], [4, 4], [], None):
            with self.subTest(offsets=offsets), self.table.entries(set_file("split_offsets", offsets)):
                self.assert_named("split_offsets")
        with self.table.entries(set_file("sort_order_id", 5)):
            self.assert_named("sort_order_id")
        with self.table.entries(set_file("content", 1)):
            self.assert_named("content")
        with self.table.entries(set_file("file_path", "file:///nowhere.parquet")):
            self.assert_named("file_path")

    def test_partitions(self):
        right = {"id_bucket": 0, "name_trunc": "кл", "day_month": -1, "flag_same": True}
        for name, value in {"id_bucket": 1, "name_trunc": "к", "day_month": 0, "flag_same": None}.items():
            with self.subTest(name=name):
                self.assertNotEqual(right[name], value)
                with self.table.entries(set_partition(name, value)):
                    self.assert_named(f"partition {name}")
                    self.assert_named("partitions[")

    def test_rows_of_two_partitions_in_one_file(self):
        path = manifest_checker.local(self.files()[0]["file_path"])
        rows = pq.read_table(path)
        other = rows.set_column(
            rows.schema.get_field_index("day"),
            rows.schema.field("day"),
            pa.array([datetime.date(1969, 12, 31), datetime.date(1970, 1, 1)]),
        )
        sink = pa.BufferOutputStream()
        pq.write_table(other, sink)
        with changed(path, sink.getvalue().to_pybytes()):
            self.assert_named("partition day_month")

    def files(self) -> list[dict]:
        return [entry["data_file"] for entry in manifest_checker.read_avro(str(self.table.manifest_path))[0]]

    def test_entries(self):
        with self.table.entries(lambda entries: entries[0].update(status=2)):
            self.assert_named("deleted_files_count")
            self.assert_named("files deleted by an append")
        with self.table.entries(lambda entries: entries[0].update(status=0)):
            self.assert_named("sequence_number")
        with self.table.entries(lambda entries: entries[0].update(status=3)):
            self.assert_named("status")
        with self.table.entries(lambda entries: entries[0].update(snapshot_id=1)):
            self.assert_named("snapshot_id")
        with self.table.entries(lambda entries: entries[0].update(sequence_number=9)):
            self.assert_named("sequence_number")
        with self.table.entries(lambda entries: entries.append(entries[0])):
            self.assert_named("in several")
        with self.table.entries(lambda entries: entries.pop()):
            self.assert_named("added_files_count")
        with self.table.entries(lambda entries: None, {"partition-spec-id": "0"}):
            self.assert_named("partition_spec_id")
        with self.table.entries(lambda entries: None, {"partition-spec": "[]"}):
            self.assert_named("header partition-spec")
        with self.table.entries(lambda entries: None, {"schema-id": "8"}):
            self.assert_named("header schema-id")

    def test_lists(self):
        cases = {
            "manifest_length": 1, "partition_spec_id": 0, "content": 1, "sequence_number": 2, "min_sequence_number": 2,
            "added_files_count": 1, "existing_files_count": 1, "deleted_files_count": 1, "added_rows_count": 1,
            "existing_rows_count": 1, "deleted_rows_count": 1, "partitions": [],
        }  # fmt: skip
        for name, value in cases.items():
            with self.subTest(name=name), self.table.listed(lambda row, n=name, v=value: row.update({n: v})):
                self.assert_named(name)
        with self.table.listed(lambda row: row.update(added_snapshot_id=1)):
            self.assert_named("snapshot_id")
        with self.table.listed(lambda row: row.update(manifest_path="file:///nowhere.avro")):
            self.assert_named("nowhere.avro: manifest")
        with self.table.listed(lambda row: None, {"snapshot-id": "3"}):
            self.assert_named("header snapshot-id")

    def test_summaries_of_lists(self):
        cases = [
            (0, "contains_null", True), (0, "lower_bound", struct.pack("<i", 1)), (0, "upper_bound", None),
            (1, "contains_null", False), (1, "lower_bound", "к".encode()), (1, "upper_bound", "кл".encode() + b"!"),
            (2, "upper_bound", struct.pack("<i", 0)), (3, "lower_bound", b"\0"), (3, "contains_nan", True),
        ]  # fmt: skip
        for position, name, value in cases:
            with self.subTest(position=position, name=name):
                with self.table.listed(lambda row, p=position, n=name, v=value: row["partitions"][p].update({n: v})):
                    self.assert_named(f"partitions[{position}]")

    def test_metadata(self):
        def snapshot(**values):
            return lambda metadata: metadata["snapshots"][0].update(values)

        def summary(name, value):
            return lambda metadata: metadata["snapshots"][0]["summary"].update({name: value})

        cases = {
            "summary total-records": summary("total-records", "4"),
            "summary total-data-files": summary("total-data-files", "4"),
            "summary total-files-size": summary("total-files-size", "4"),
            "summary total-delete-files": summary("total-delete-files", "4"),
            "summary added-records": lambda metadata: metadata["snapshots"][0]["summary"].pop("added-records"),
            "summary added-data-files": summary("added-data-files", "1"),
            "summary deleted-records": summary("deleted-records", "1"),
            "summary changed-partition-count": summary("changed-partition-count", "1"),
            "summary operation": summary("operation", "put"),
            "schema-id": snapshot(**{"schema-id": 9}),
            "manifest-list": snapshot(**{"manifest-list": "file:///nowhere.avro"}),
            "current-snapshot-id": lambda metadata: metadata.update({"current-snapshot-id": 1}),
            "refs.main": lambda metadata: metadata["refs"]["main"].update({"snapshot-id": 1}),
            "last-sequence-number": lambda metadata: metadata.update({"last-sequence-number": 0}),
            "last-column-id": lambda metadata: metadata.update({"last-column-id": 14}),
            "last-partition-id": lambda metadata: metadata.update({"last-partition-id": 1000}),
            "default-spec-id": lambda metadata: metadata.update({"default-spec-id": 7}),
            "snapshot-log: last": lambda metadata: metadata["snapshot-log"][0].update({"snapshot-id": 1}),
            "metadata-log[0].timestamp-ms": lambda metadata: metadata["metadata-log"][0].update({"timestamp-ms": 1}),
            "metadata-log: times": lambda metadata: metadata["metadata-log"].reverse(),
            "metadata-log: before entry 1": lambda metadata: metadata["metadata-log"].pop(1),
            "metadata-log[0]": lambda metadata: metadata["metadata-log"][0].update({"metadata-file": "file:///no"}),
            "metadata-log: entries": lambda metadata: metadata["properties"].update(
                {"write.metadata.previous-versions-max": "1"}
            ),
            "table-uuid": lambda metadata: metadata.update({"table-uuid": str(uuid.uuid4())}),
            "last-updated-ms": lambda metadata: metadata.update({"last-updated-ms": 1}),
        }
        for name, change in cases.items():
            with self.subTest(name=name), self.table.document(change):
                self.assert_named(name)

    def test_field_ids_of_files(self):
        path = manifest_checker.local(self.files()[0]["file_path"])
        rows = pq.read_table(path)

        def written(schema: pa.Schema) -> bytes:
            sink = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_arrays(rows.columns, schema=schema), sink)
            return sink.getvalue().to_pybytes()

        def with_id(position: int, number: str | None) -> pa.Schema:
            field = rows.schema.field(position)
            field = field.remove_metadata() if number is None else field.with_metadata({"PARQUET:field_id": number})
            return rows.schema.set(position, field)

        for number in ("2", "99", "16", "5"):
            with self.subTest(number=number), changed(path, written(with_id(0, number))):
                self.assertTrue(any("of column id" in problem for problem in self.table.problems()))
        short = rows.drop_columns(["b"])
        sink = pa.BufferOutputStream()
        pq.write_table(short, sink)
        with changed(path, sink.getvalue().to_pybytes()):
            self.assert_named("columns")

    def test_unsorted_files(self):
        def order(direction: str, null_order: str, source: int, transform: str) -> Callable[[dict], None]:
            field = {"source-id": source, "direction": direction, "null-order": null_order, "transform": transform}
            return lambda metadata: metadata["sort-orders"].append({"order-id": 1, "fields": [field]})

        # The rows of the first file, in order: ids -5 and 7, d -0.0 and NaN, p -0.01 and NULL.
        cases = [
            ("asc", "nulls-first", 1, "identity", True), ("desc", "nulls-first", 1, "identity", False),
            ("asc", "nulls-first", 3, "identity", True), ("desc", "nulls-last", 3, "identity", False),
            ("asc", "nulls-first", 6, "identity", False), ("asc", "nulls-last", 6, "identity", True),
            ("asc", "nulls-last", 1, "truncate[10]", True), ("desc", "nulls-last", 1, "truncate[20]", False),
            ("desc", "nulls-last", 4, "month", True),
        ]  # fmt: skip
        for *description, right in cases:
            with self.subTest(description=description), self.table.document(order(*description)):
                with self.table.entries(set_file("sort_order_id", 1)):
                    problems = self.table.problems()
                    self.assertEqual(problems == [], right, problems)


class OfVersionThree(unittest.TestCase):
    """Row ids, in a table of three snapshots."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="inshore-bench-")
        self.addCleanup(folder.cleanup)
        lake = lakes.Lake(pathlib.Path(folder.name))
        lake.warehouse.mkdir()
        lake.catalog().create_namespace("checked")
        schema = Schema(NestedField(1, "id", LongType(), required=False))
        writer = iceberg_writer.TableWriter(lake, "checked", "t", schema, version=3)
        for number in range(3):
            files = []
            for part in range(2):
                path = writer.data_dir / f"{number}-{part}.parquet"
                pq.write_table(pa.table({"id": range(number * 10, number * 10 + 5 + part)}, schema.as_arrow()), path)
                files.append(iceberg_writer.parquet_file(path, schema))
            writer.commit([iceberg_writer.Manifest(files)])
            size = sum(file["file_size_in_bytes"] for file in files)
            self.summarize(writer, files=2, records=11, size=size)
        writer.register()
        self.table = Table(lake.catalog().load_table(("checked", "t")).metadata_location)

    @staticmethod
    def summarize(writer, files: int, records: int, size: int) -> None:
        summary = writer.snapshots[-1]["summary"]
        before = writer.snapshots[-2]["summary"] if len(writer.snapshots) > 1 else {}
        for name, value in {"data-files": files, "records": records, "files-size": size}.items():
            summary[f"added-{name}"] = str(value)
            summary[f"total-{name}"] = str(int(before.get(f"total-{name}", 0)) + value)
        for name in ("delete-files", "position-deletes", "equality-deletes"):
            summary[f"total-{name}"] = "0"

    def assert_named(self, part: str):
        found = self.table.problems()
        self.assertTrue(any(part in problem for problem in found), f"{part!r} is not named in {found}")

    def test_the_right_table_is_right(self):
        self.assertEqual(self.table.problems(), [])

    def test_row_ids(self):
        with self.table.document(lambda metadata: metadata.update({"next-row-id": 34})):
            self.assert_named("next-row-id")
        with self.table.document(lambda metadata: metadata["snapshots"][2].update({"added-rows": 10})):
            self.assert_named("added-rows")
        with self.table.document(lambda metadata: metadata["snapshots"][2].update({"first-row-id": 21})):
            self.assert_named("first-row-id")
        with self.table.document(lambda metadata: metadata["snapshots"][1].pop("first-row-id")):
            self.assert_named("first-row-id")
        for value in (None, 10, 12):
            with self.subTest(value=value), self.table.listed(lambda row, v=value: row.update(first_row_id=v)):
                self.assert_named("first_row_id" if value is None else "row ids")
        with self.table.entries(set_file("first_row_id", 12)):
            self.assert_named("row ids")

    def test_files_of_the_parent(self):
        lost = avro_with(self.table.list_path, lambda rows: rows.pop(0))
        with changed(self.table.list_path, lost):
            self.assert_named("files of the parent")


class Values(unittest.TestCase):
    """The specification's own examples."""

    def test_hashes(self):
        instant = datetime.datetime(2017, 11, 16, 22, 31, 8)
        time = ((22 * 60 + 31) * 60 + 8) * 10**6
        cases = [
            ("int", 34, 2017239379), ("long", 34, 2017239379), ("decimal(9,2)", 1420, -500754589),
            ("date", values.plain("date", instant.date()), -653330422), ("time", time, -662762989),
            ("timestamp", values.plain("timestamp", instant), -2047944441),
            ("timestamp", values.plain("timestamp", instant) + 1, -1207196810),
            ("timestamp_ns", values.plain("timestamp", instant) * 1000 + 1001, -1207196810),
            ("string", "iceberg", 1210000089), ("binary", bytes(range(4)), -188683207),
            ("uuid", uuid.UUID("f79c3e09-677c-4bbd-a479-3f349cb785e7").bytes, 1488055340),
        ]  # fmt: skip
        for kind, value, expected in cases:
            found = values.murmur3(values.hash_bytes(kind, value))
            self.assertEqual(found, expected & 0xFFFFFFFF, (kind, value))

    def test_transforms(self):
        day = values.plain("date", datetime.date(1969, 12, 31))
        cases = [
            ("truncate[10]", "int", 1, 0), ("truncate[10]", "int", -1, -10), ("truncate[50]", "decimal(9,2)", 1065, 1050),
            ("truncate[3]", "string", "iceberg", "ice"), ("truncate[2]", "binary", b"abc", b"ab"),
            ("year", "date", day, -1), ("month", "date", day, -1), ("day", "timestamp", -1, -1),
            ("hour", "timestamp", -1, -1), ("month", "timestamptz", 0, 0), ("void", "int", 5, None),
            ("year", "date", values.plain("date", datetime.date(2024, 2, 29)), 54),
            ("month", "date", values.plain("date", datetime.date(2024, 2, 29)), 54 * 12 + 1),
            ("bucket[16]", "int", None, None), ("identity", "string", "", ""), ("year", "timestamp_ns", -1, -1),
        ]  # fmt: skip
        for name, kind, value, expected in cases:
            self.assertEqual(values.transform(name, kind)(value), expected, (name, kind, value))

    def test_months_of_every_day(self):
        for ordinal in range(datetime.date(1, 1, 1).toordinal(), datetime.date(2500, 1, 1).toordinal(), 13):
            date = datetime.date.fromordinal(ordinal)
            self.assertEqual(values.civil_year_and_month(values.plain("date", date)), (date.year, date.month))

    def test_cut_bounds(self):
        self.assertEqual(values.truncated_upper("abc", 2), "ac")
        self.assertEqual(values.truncated_upper("ab", 2), "ab")
        self.assertEqual(values.truncated_upper("a\U0010ffffb", 2), "b")
        self.assertEqual(values.truncated_upper("a\ud7ffb", 2), "a\ue000")
        self.assertIsNone(values.truncated_upper("\U0010ffffb", 1))
        self.assertEqual(values.truncated_upper(b"a\xffb", 2), b"b")
        self.assertEqual(values.truncated_lower("ключи", 2), "кл")

    def test_decimals(self):
        for value, data in {0: "00", 127: "7f", 128: "0080", -128: "80", -129: "ff7f", 1420: "058c"}.items():
            self.assertEqual(values.unscaled_bytes(value).hex(), data)
            self.assertEqual(values.from_bytes("decimal(9,2)", bytes.fromhex(data)), value)


if __name__ == "__main__":
    unittest.main()
