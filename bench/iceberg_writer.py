"""Writes Iceberg tables file by file: manifests, manifest lists and table metadata, of format version 2 and 3.

PyIceberg writes neither delete files nor version 3, and a manifest of a hundred files takes it long; here its schemas
of the metadata files are used, and fastavro writes them.
"""

import dataclasses
import json
import pathlib
import time
import uuid
import zlib
from collections.abc import Iterable

import fastavro
import pyarrow.parquet as pq
import pyroaring
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import (
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFileContent,
    ManifestContent,
    ManifestEntryStatus,
    data_file_with_partition,
    manifest_entry_schema_with_data_file,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.types import IntegerType, ListType, NestedField, PrimitiveType, StructType
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

import lake as lakes

# Fields of a data file that format version 2 does not have (143, the referenced data file, it does).
V3_FIELDS = {142, 144, 145}
EQUALITY_IDS = 135

PUFFIN_MAGIC = b"PFA1"
VECTOR_MAGIC = b"\xd1\xd3\x39\x64"

# Deletion vectors name the column of row positions.
ROW_POSITION = 2147483645

# By the specification: bounds of text are cut to 16 characters unless a table says otherwise.
TEXT_BOUND = 16


@dataclasses.dataclass
class Manifest:
    """Files that a commit adds: entries of `data_file()`, either all data or all deletes."""

    files: list[dict]
    content: ManifestContent = ManifestContent.DATA
    partitions: list[dict] = dataclasses.field(default_factory=list)


class TableWriter:
    """One table of a lake: its commits in order, then `register` to show it in the catalog."""

    def __init__(
        self,
        lake: lakes.Lake,
        namespace: str,
        name: str,
        schema: Schema,
        spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        version: int = 2,
    ):
        self.lake = lake
        self.identifier = (namespace, name)
        self.schema = schema
        self.spec = spec
        self.version = version
        self.root = lake.warehouse / namespace / name
        self.data_dir = self.root / "data"
        self.data_dir.mkdir(parents=True)
        (self.root / "metadata").mkdir()
        self.snapshots: list[dict] = []
        self.next_row_id = 0
        self._listed: list[dict] = []
        self._entry_schema = fastavro.parse_schema(entry_avro_schema(schema, spec, version))
        self._list_schema = fastavro.parse_schema(
            AvroSchemaConversion().iceberg_to_avro(MANIFEST_LIST_FILE_SCHEMAS[version], "manifest_file")
        )

    def commit(self, manifests: Iterable[Manifest], operation: str = "append") -> None:
        """Adds a snapshot with these manifests besides those of the snapshots before it."""
        sequence = len(self.snapshots) + 1
        snapshot_id = 1_000_000_000_000_000_000 + sequence
        first_row_id = self.next_row_id
        for manifest in manifests:
            self._listed.append(self._write_manifest(manifest, snapshot_id, sequence))
        list_path = self.root / "metadata" / f"snap-{snapshot_id}-1-{uuid.uuid4()}.avro"
        header = {"snapshot-id": snapshot_id, "sequence-number": sequence, "format-version": self.version}
        write_avro(list_path, self._list_schema, self._listed, header)
        snapshot = {
            "snapshot-id": snapshot_id,
            "sequence-number": sequence,
            "timestamp-ms": int(time.time() * 1000),
            "summary": {"operation": operation},
            "manifest-list": f"file://{list_path}",
            "schema-id": self.schema.schema_id,
        }
        if self.snapshots:
            snapshot["parent-snapshot-id"] = self.snapshots[-1]["snapshot-id"]
        if self.version >= 3:
            snapshot |= {"first-row-id": first_row_id, "added-rows": self.next_row_id - first_row_id}
        self.snapshots.append(snapshot)

    def _write_manifest(self, manifest: Manifest, snapshot_id: int, sequence: int) -> dict:
        """Writes a manifest, and returns its row of the manifest list."""
        path = self.root / "metadata" / f"{uuid.uuid4()}-m0.avro"
        header = {
            "schema": self.schema.model_dump_json(),
            "schema-id": self.schema.schema_id,
            "partition-spec": json.dumps(self._spec_json()["fields"]),
            "partition-spec-id": self.spec.spec_id,
            "format-version": self.version,
            "content": "data" if manifest.content == ManifestContent.DATA else "deletes",
        }
        # Sequence numbers are inherited from the manifest list, as the specification has it for added files.
        entries = (
            {"status": int(ManifestEntryStatus.ADDED), "snapshot_id": snapshot_id, "data_file": file}
            for file in manifest.files
        )
        write_avro(path, self._entry_schema, entries, header)
        rows = sum(file["record_count"] for file in manifest.files)
        listed = {
            "manifest_path": f"file://{path}",
            "manifest_length": path.stat().st_size,
            "partition_spec_id": self.spec.spec_id,
            "content": int(manifest.content),
            "sequence_number": sequence,
            "min_sequence_number": sequence,
            "added_snapshot_id": snapshot_id,
            "added_files_count": len(manifest.files),
            "existing_files_count": 0,
            "deleted_files_count": 0,
            "added_rows_count": rows,
            "existing_rows_count": 0,
            "deleted_rows_count": 0,
            "partitions": manifest.partitions,
        }
        if self.version >= 3 and manifest.content == ManifestContent.DATA:
            listed["first_row_id"] = self.next_row_id
            self.next_row_id += rows
        return listed

    def _spec_json(self) -> dict:
        return json.loads(self.spec.model_dump_json())

    def register(self) -> None:
        """Writes the metadata file and adds the table to the catalog."""
        current = self.snapshots[-1]
        metadata = {
            "format-version": self.version,
            "table-uuid": str(uuid.uuid4()),
            "location": f"file://{self.root}",
            "last-sequence-number": current["sequence-number"],
            "last-updated-ms": current["timestamp-ms"],
            "last-column-id": self.schema.highest_field_id,
            "schemas": [json.loads(self.schema.model_dump_json())],
            "current-schema-id": self.schema.schema_id,
            "partition-specs": [self._spec_json()],
            "default-spec-id": self.spec.spec_id,
            "last-partition-id": self.spec.last_assigned_field_id,
            "sort-orders": [{"order-id": 0, "fields": []}],
            "default-sort-order-id": 0,
            "properties": {},
            "snapshots": self.snapshots,
            "current-snapshot-id": current["snapshot-id"],
            "refs": {"main": {"type": "branch", "snapshot-id": current["snapshot-id"]}},
            "snapshot-log": [
                {"snapshot-id": snapshot["snapshot-id"], "timestamp-ms": snapshot["timestamp-ms"]}
                for snapshot in self.snapshots
            ],
            "metadata-log": [],
        }
        if self.version >= 3:
            metadata["next-row-id"] = self.next_row_id
        path = self.root / "metadata" / f"{len(self.snapshots):05}-{uuid.uuid4()}.metadata.json"
        path.write_text(json.dumps(metadata, indent=1))
        self.lake.catalog().register_table(self.identifier, f"file://{path}")


def entry_avro_schema(schema: Schema, spec: PartitionSpec, version: int) -> dict:
    """The Avro schema of a manifest's entries."""
    with_partition = data_file_with_partition(spec.partition_type(schema), 3)
    # PyIceberg has longs for the ids of equality columns, the specification has ints.
    equality_ids = NestedField(EQUALITY_IDS, "equality_ids", ListType(136, IntegerType(), element_required=True), False)
    fields = [
        equality_ids if field.field_id == EQUALITY_IDS else field
        for field in with_partition.fields
        if version >= 3 or field.field_id not in V3_FIELDS
    ]
    # The schema of an entry is one of version 2 in both cases: it has the same fields.
    entry = manifest_entry_schema_with_data_file(2, StructType(*fields))
    return AvroSchemaConversion().iceberg_to_avro(entry, "manifest_entry")


def write_avro(path: pathlib.Path, schema: dict, records: Iterable[dict], header: dict) -> None:
    with open(path, "wb") as file:
        texts = {key: str(value) for key, value in header.items()}
        fastavro.writer(file, schema, records, codec="deflate", metadata=texts, sync_interval=1 << 20)


def data_file(
    path: pathlib.Path | str,
    rows: int,
    size: int,
    content: DataFileContent = DataFileContent.DATA,
    file_format: str = "PARQUET",
    partition: dict | None = None,
    **more,
) -> dict:
    """A `data_file` of a manifest entry; `more` are optional fields of it, under their names there."""
    return {
        "content": int(content),
        "file_path": f"file://{path}",
        "file_format": file_format,
        "partition": partition or {},
        "record_count": rows,
        "file_size_in_bytes": size,
        **more,
    }


def avro_map(values: dict) -> list[dict]:
    """Avro's own maps have text for keys: Iceberg writes maps by number as arrays of pairs."""
    return [{"key": key, "value": value} for key, value in values.items()]


def parquet_file(
    path: pathlib.Path,
    schema: Schema,
    content: DataFileContent = DataFileContent.DATA,
    text_bound: int = TEXT_BOUND,
    **more,
) -> dict:
    """The entry of a Parquet file, with the statistics of its footer. Columns are flat and in the schema's order."""
    footer = pq.read_metadata(path)
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    sizes, counts, nulls, lower, upper = {}, {}, {}, {}, {}
    for index, field in enumerate(schema.fields):
        chunks = [group.column(index) for group in groups]
        assert all(chunk.path_in_schema == field.name for chunk in chunks), f"{path}: column {field.name} expected"
        sizes[field.field_id] = sum(chunk.total_compressed_size for chunk in chunks)
        counts[field.field_id] = sum(chunk.num_values for chunk in chunks)
        nulls[field.field_id] = sum(chunk.statistics.null_count for chunk in chunks)
        smallest = min(chunk.statistics.min for chunk in chunks)
        largest = max(chunk.statistics.max for chunk in chunks)
        lower[field.field_id], upper[field.field_id] = bounds(field.field_type, smallest, largest, text_bound)
    maps = {
        "column_sizes": sizes, "value_counts": counts, "null_value_counts": nulls,
        "lower_bounds": lower, "upper_bounds": upper,
    }  # fmt: skip
    offsets = [group.column(0).dictionary_page_offset or group.column(0).data_page_offset for group in groups]
    statistics = {name: avro_map(values) for name, values in maps.items()} | {"split_offsets": offsets}
    return data_file(path, footer.num_rows, path.stat().st_size, content, **(statistics | more))


def bounds(kind: PrimitiveType, smallest, largest, text_bound: int = TEXT_BOUND) -> tuple[bytes, bytes]:
    """Both bounds of a column as a manifest holds them."""
    if isinstance(smallest, str):
        smallest, largest = smallest[:text_bound], raised(largest, text_bound)
    return to_bytes(kind, smallest), to_bytes(kind, largest)


def raised(text: str, length: int) -> str:
    """An upper bound of at most `length` characters: where text is cut, the last character becomes the next one."""
    if len(text) <= length:
        return text
    return text[: length - 1] + chr(ord(text[length - 1]) + 1)


def write_vectors(path: pathlib.Path, vectors: dict[str, Iterable[int]]) -> list[dict]:
    """Writes a Puffin file of deletion vectors, by the location of the data file that each is for, and returns their
    entries."""
    content = bytearray(PUFFIN_MAGIC)
    blobs, entries = [], []
    for location, positions in vectors.items():
        bitmap = pyroaring.BitMap64(positions)
        checked = VECTOR_MAGIC + bitmap.serialize()
        blob = len(checked).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")
        blobs.append(
            {
                "type": "deletion-vector-v1",
                "fields": [ROW_POSITION],
                "snapshot-id": -1,
                "sequence-number": -1,
                "offset": len(content),
                "length": len(blob),
                "properties": {"referenced-data-file": location, "cardinality": str(len(bitmap))},
            }
        )
        place = {"content_offset": len(content), "content_size_in_bytes": len(blob)}
        entries.append({"rows": len(bitmap), "referenced_data_file": location, **place})
        content += blob
    footer = json.dumps({"blobs": blobs, "properties": {"created-by": "inshore bench"}}).encode()
    content += PUFFIN_MAGIC + footer + len(footer).to_bytes(4, "little") + bytes(4) + PUFFIN_MAGIC
    path.write_bytes(content)
    deletes = {"size": len(content), "content": DataFileContent.POSITION_DELETES, "file_format": "PUFFIN"}
    return [data_file(path, **entry, **deletes) for entry in entries]
