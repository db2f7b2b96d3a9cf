"""Checks all that the metadata of an Iceberg table claims against its data files, and against itself.

Metadata is read as JSON and Avro, without an Iceberg library; what is expected comes from the rows. Every claim is
checked to be true. Files that Inshore wrote have to claim all that the specification lets a writer claim, too.
"""

import dataclasses
import functools
import json
import pathlib
from collections import defaultdict
from collections.abc import Iterator

import fastavro

import iceberg_values as values
from parquet_facts import DataFile, Leaf, Schema, is_regular, same

# Without these a reader gives what a file holds: days, microseconds, bytes.
fastavro.read.LOGICAL_READERS.clear()

EXISTING, ADDED, DELETED = 0, 1, 2
DATA = 0

# Java's, for maps of metrics by column.
DEFAULT_METRICS_MODE = "truncate(16)"

# Ids of the fields that readers look for, by the specification.
LIST_FIELDS = {
    "manifest_path": 500, "manifest_length": 501, "partition_spec_id": 502, "added_snapshot_id": 503,
    "added_files_count": 504, "existing_files_count": 505, "deleted_files_count": 506, "partitions": 507,
    "added_rows_count": 512, "existing_rows_count": 513, "deleted_rows_count": 514, "sequence_number": 515,
    "min_sequence_number": 516, "content": 517, "key_metadata": 519, "first_row_id": 520,
}  # fmt: skip
ENTRY_FIELDS = {"status": 0, "snapshot_id": 1, "data_file": 2, "sequence_number": 3, "file_sequence_number": 4}
FILE_FIELDS = {
    "file_path": 100, "file_format": 101, "partition": 102, "record_count": 103, "file_size_in_bytes": 104,
    "column_sizes": 108, "value_counts": 109, "null_value_counts": 110, "lower_bounds": 125, "upper_bounds": 128,
    "key_metadata": 131, "split_offsets": 132, "content": 134, "equality_ids": 135, "nan_value_counts": 137,
    "sort_order_id": 140, "first_row_id": 142, "referenced_data_file": 143, "content_offset": 144,
    "content_size_in_bytes": 145,
}  # fmt: skip

# Names of the counts of a manifest list by the status of the entries.
COUNTED = {ADDED: "added", EXISTING: "existing", DELETED: "deleted"}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One claim that is wrong."""

    file: str
    field: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.file}: {self.field}: expected {shown(self.expected)}, found {shown(self.found)}"


def shown(value: object) -> str:
    """A value for people: of long ones the beginning and the length."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"


@dataclasses.dataclass
class Entry:
    """A file of a manifest, with what it inherits."""

    status: int
    snapshot_id: int | None
    sequence: int | None
    file: dict
    spec_id: int

    @property
    def path(self) -> str:
        return self.file["file_path"]

    @property
    def content(self) -> int:
        return self.file.get("content") or DATA

    @property
    def place(self) -> tuple:
        """Deletion vectors share a file."""
        return self.path, self.file.get("content_offset")


@dataclasses.dataclass
class Manifest:
    """A manifest, read once, and its row of the first list that names it."""

    path: str
    listed: dict
    entries: list[Entry]
    avro: dict


class Checker:
    """Checks one table; `problems` says what is wrong, and `referenced` which files belong to it."""

    def __init__(self, metadata_location: str):
        self.problems: list[Problem] = []
        self.referenced: set[str] = set()
        self.location = metadata_location
        self.data_files = 0
        self.files: dict[str, DataFile | None] = {}
        self.manifests: dict[str, Manifest | None] = {}
        self._checked_entries: set[tuple[str, str]] = set()
        self.metadata = json.loads(local(metadata_location).read_text())
        self.version = self.metadata["format-version"]
        self.properties = self.metadata.get("properties", {})
        self.schemas = {schema["schema-id"]: Schema(schema["fields"]) for schema in self.metadata["schemas"]}
        # Columns of all schemas; a column's type is its newest one.
        self.schema = Schema([])
        for number in sorted(self.schemas):
            for part in ("names", "kinds", "required", "parents"):
                getattr(self.schema, part).update(getattr(self.schemas[number], part))
            self.schema.repeated |= self.schemas[number].repeated
        self.specs = {spec["spec-id"]: spec["fields"] for spec in self.metadata["partition-specs"]}
        self.orders = {order["order-id"]: order["fields"] for order in self.metadata["sort-orders"]}
        mapping = json.loads(self.properties.get("schema.name-mapping.default", "[]"))
        self.name_mapping = dict(mapped_names(mapping, ""))

    def wrong(self, file: str, field: str, expected: object, found: object) -> None:
        problem = Problem(file, field, expected, found)
        if problem not in self.problems:
            self.problems.append(problem)

    def equal(self, file: str, field: str, expected: object, found: object) -> None:
        if expected != found:
            self.wrong(file, field, expected, found)

    def run(self) -> list[Problem]:
        self.referenced.add(self.location)
        self._check_metadata()
        live: dict[int, dict[tuple, Entry]] = {}
        snapshots = self.metadata.get("snapshots", [])
        for snapshot in sorted(snapshots, key=lambda one: one.get("sequence-number", 0)):
            live[snapshot["snapshot-id"]] = self._check_snapshot(snapshot, live)
        if self.version >= 3:
            self._check_row_ids(snapshots)
        return self.problems

    # The metadata file

    def _check_metadata(self) -> None:
        metadata, where = self.metadata, self.location
        ids = [snapshot["snapshot-id"] for snapshot in metadata.get("snapshots", [])]
        self.equal(where, "snapshots: ids that are there twice", [], sorted({one for one in ids if ids.count(one) > 1}))
        current = metadata.get("current-snapshot-id")
        current = None if current == -1 else current
        if current is not None and current not in ids:
            self.wrong(where, "current-snapshot-id", f"one of {ids}", current)
        main = metadata.get("refs", {}).get("main", {}).get("snapshot-id")
        if self.version >= 2 or main is not None:
            self.equal(where, "refs.main", current, main)
        if metadata["current-schema-id"] not in self.schemas:
            self.wrong(where, "current-schema-id", f"one of {sorted(self.schemas)}", metadata["current-schema-id"])
        if metadata["default-spec-id"] not in self.specs:
            self.wrong(where, "default-spec-id", f"one of {sorted(self.specs)}", metadata["default-spec-id"])
        if metadata["default-sort-order-id"] not in self.orders:
            self.wrong(where, "default-sort-order-id", f"one of {sorted(self.orders)}", None)
        if self.schema.names and metadata["last-column-id"] < max(self.schema.names):
            self.wrong(where, "last-column-id", f"at least {max(self.schema.names)}", metadata["last-column-id"])
        partition_ids = [field["field-id"] for fields in self.specs.values() for field in fields]
        if partition_ids and metadata["last-partition-id"] < max(partition_ids):
            self.wrong(where, "last-partition-id", f"at least {max(partition_ids)}", metadata["last-partition-id"])
        if self.version >= 2:
            sequences = [snapshot.get("sequence-number", 0) for snapshot in metadata.get("snapshots", [])]
            if metadata["last-sequence-number"] < max(sequences, default=0):
                self.wrong(
                    where, "last-sequence-number", f"at least {max(sequences)}", metadata["last-sequence-number"]
                )
            if len(set(sequences)) != len(sequences):
                self.wrong(where, "snapshots: sequence numbers", "each once", sequences)
        self._check_logs(current)

    def _check_logs(self, current: int | None) -> None:
        metadata, where = self.metadata, self.location
        log = metadata.get("snapshot-log", [])
        times = [entry["timestamp-ms"] for entry in log]
        self.equal(where, "snapshot-log: times", sorted(times), times)
        if log and current is not None:
            self.equal(where, "snapshot-log: last snapshot", current, log[-1]["snapshot-id"])
        by_id = {snapshot["snapshot-id"]: snapshot["timestamp-ms"] for snapshot in metadata.get("snapshots", [])}
        older = metadata.get("metadata-log", [])
        times = [entry["timestamp-ms"] for entry in older] + [metadata["last-updated-ms"]]
        self.equal(where, "metadata-log: times", sorted(times), times)
        if by_id and max(by_id.values()) > metadata["last-updated-ms"]:
            self.wrong(where, "last-updated-ms", f"at least {max(by_id.values())}", metadata["last-updated-ms"])
        paths = [entry["metadata-file"] for entry in older]
        if len(set(paths)) != len(paths) or self.location in paths:
            self.wrong(where, "metadata-log", "every file once, and not the current one", paths)
        kept = int(self.properties.get("write.metadata.previous-versions-max", 100))
        if len(older) > kept:
            self.wrong(where, "metadata-log: entries", f"at most {kept}", len(older))
        for number, entry in enumerate(older):
            path = entry["metadata-file"]
            self.referenced.add(path)
            if not is_regular(local(path)):
                self.wrong(where, f"metadata-log[{number}]", "a file that is there", path)
                continue
            before = json.loads(local(path).read_text())
            self.equal(path, "table-uuid", metadata.get("table-uuid"), before.get("table-uuid"))
            self.equal(where, f"metadata-log[{number}].timestamp-ms", before["last-updated-ms"], entry["timestamp-ms"])
            inherited = [one["metadata-file"] for one in before.get("metadata-log", [])]
            # The log of a file is that of its predecessor and this, cut at its beginning.
            chain = (inherited + [path])[-(number + 1) :]
            self.equal(where, f"metadata-log: before entry {number}", chain, paths[number + 1 - len(chain) : number + 1])

    # Snapshots and their lists

    def _check_snapshot(self, snapshot: dict, before: dict[int, dict]) -> dict[tuple, Entry]:
        """Checks a snapshot and everything below it; returns its live files."""
        where = f"{self.location} snapshot {snapshot['snapshot-id']}"
        if "schema-id" in snapshot and snapshot["schema-id"] not in self.schemas:
            self.wrong(where, "schema-id", f"one of {sorted(self.schemas)}", snapshot["schema-id"])
        path = snapshot["manifest-list"]
        self.referenced.add(path)
        if not is_regular(local(path)):
            self.wrong(where, "manifest-list", "a file that is there", path)
            return {}
        listed, header = read_avro(path)
        self._check_list_header(path, header, snapshot)
        paths = [row["manifest_path"] for row in listed]
        if len(set(paths)) != len(paths):
            self.wrong(path, "manifest_path", "every manifest once", paths)
        entries = []
        for row in listed:
            manifest = self._manifest(row)
            if manifest is not None:
                self._check_listed(path, row, manifest, snapshot)
                entries.extend(manifest.entries)
        live: dict[tuple, Entry] = {}
        for entry in entries:
            if entry.status == DELETED:
                continue
            if entry.place in live:
                self.wrong(path, f"live file {entry.path}", "in one entry", "in several")
            live[entry.place] = entry
        added = [entry for entry in entries if entry.status == ADDED and entry.snapshot_id == snapshot["snapshot-id"]]
        gone = [entry for entry in entries if entry.status == DELETED and entry.snapshot_id == snapshot["snapshot-id"]]
        self._check_history(snapshot, live, added, gone, before)
        self._check_summary(where, snapshot, live, added, gone)
        return live

    def _check_list_header(self, path: str, header: dict, snapshot: dict) -> None:
        self._check_field_ids(path, header["schema"], LIST_FIELDS)
        found = header["metadata"]
        expected = {"snapshot-id": snapshot["snapshot-id"], "format-version": self.version}
        if self.version >= 2:
            expected["sequence-number"] = snapshot["sequence-number"]
        if self.version >= 3:
            expected["first-row-id"] = snapshot.get("first-row-id")
        if int(found.get("format-version", self.version)) < self.version:
            return  # of a snapshot from before the table's upgrade
        for key, value in expected.items():
            if key in found:
                self.equal(path, f"header {key}", str(value), found[key])

    def _check_field_ids(self, path: str, schema: dict, known: dict[str, int]) -> None:
        """Readers look for field ids, not for names."""
        found = {field["name"]: field.get("field-id") for field in schema["fields"]}
        for name, number in known.items():
            if name in found:
                self.equal(path, f"field id of {name}", number, found[name])

    def _check_listed(self, path: str, row: dict, manifest: Manifest, snapshot: dict) -> None:
        """A row of a manifest list against the manifest."""
        where = f"{path} entry of {row['manifest_path']}"
        self.equal(where, "manifest_length", local(row["manifest_path"]).stat().st_size, row["manifest_length"])
        self.equal(where, "partition_spec_id", manifest_spec_id(manifest.avro), row["partition_spec_id"])
        for status, word in COUNTED.items():
            counted = [entry for entry in manifest.entries if entry.status == status]
            self._counted(where, f"{word}_files_count", len(counted), row)
            self._counted(where, f"{word}_rows_count", sum(entry.file["record_count"] for entry in counted), row)
        if self.version >= 2 and row.get("sequence_number") is not None:
            self._check_listed_sequence(where, row, manifest, snapshot)
        self._check_summaries(where, row, manifest)

    def _counted(self, where: str, name: str, expected: int, row: dict) -> None:
        found = row.get(name)
        # Optional in version 1.
        if found is not None or self.version >= 2:
            self.equal(where, name, expected, found)

    def _check_listed_sequence(self, where: str, row: dict, manifest: Manifest, snapshot: dict) -> None:
        sequence = row["sequence_number"]
        if row["added_snapshot_id"] == snapshot["snapshot-id"]:
            self.equal(where, "sequence_number", snapshot["sequence-number"], sequence)
        elif sequence >= snapshot["sequence-number"]:
            self.wrong(where, "sequence_number", f"below {snapshot['sequence-number']}", sequence)
        content = {"data": 0, "deletes": 1}[manifest.avro["metadata"].get("content", "data")]
        self.equal(where, "content", content, row["content"])
        living = [entry.sequence for entry in manifest.entries if entry.status != DELETED]
        smallest = min(living, default=sequence)
        if row["min_sequence_number"] not in (smallest, min([e.sequence for e in manifest.entries] or [smallest])):
            self.wrong(where, "min_sequence_number", smallest, row["min_sequence_number"])

    def _check_summaries(self, where: str, row: dict, manifest: Manifest) -> None:
        """What a list says about the partitions of a manifest."""
        fields = self.specs.get(row["partition_spec_id"])
        if fields is None:
            return
        summaries = row.get("partitions") or []
        if not fields and not summaries:
            return
        if len(summaries) != len(fields):
            self.wrong(where, "partitions", f"{len(fields)} summaries", len(summaries))
            return
        for position, (field, summary) in enumerate(zip(fields, summaries, strict=True)):
            name, kind = f"partitions[{position}] ({field['name']})", self.partition_type(field)
            every = [self._partition(entry)[position] for entry in manifest.entries]
            living = [self._partition(e)[position] for e in manifest.entries if e.status != DELETED]
            self._check_summary_of(where, name, kind, summary, every, living)

    def _check_summary_of(self, where: str, name: str, kind: str, summary: dict, every: list, living: list) -> None:
        null = {None in every, None in living}
        if summary["contains_null"] not in null:
            self.wrong(where, f"{name}.contains_null", None in living, summary["contains_null"])
        nan = {any(value != value for value in some) for some in (every, living)}
        if summary.get("contains_nan") is not None and summary["contains_nan"] not in nan:
            self.wrong(where, f"{name}.contains_nan", not summary["contains_nan"], summary["contains_nan"])
        for end, choose in (("lower_bound", min), ("upper_bound", max)):
            wanted = []
            for some in (every, living):
                some = [value for value in some if value is not None and value == value]
                wanted.append(choose(some, key=values.ordered) if some else None)
            found = self._decoded(where, f"{name}.{end}", kind, summary.get(end))
            if not any(same(found, value) for value in wanted):
                self.wrong(where, f"{name}.{end}", wanted[-1], found)

    def _decoded(self, where: str, name: str, kind: str, data: bytes | None) -> object:
        if data is None:
            return None
        try:
            return values.from_bytes(kind, data)
        except values.Wrong as error:
            self.wrong(where, name, f"a value of {kind}", str(error))
            return None

    def _check_history(self, snapshot: dict, live: dict, added: list, gone: list, before: dict[int, dict]) -> None:
        """A snapshot's files are its parent's, less what it deleted, and what it added."""
        where = f"{self.location} snapshot {snapshot['snapshot-id']}"
        operation = snapshot.get("summary", {}).get("operation")
        if operation == "append" and gone:
            self.wrong(where, "files deleted by an append", 0, len(gone))
        parent = snapshot.get("parent-snapshot-id")
        if parent is not None and parent not in before:
            return  # expired, or of another table
        old = before.get(parent, {})
        # A statement that replaces the whole table may leave out manifests instead of marking their files.
        expected = {place for place in old if place not in {entry.place for entry in gone}}
        expected |= {entry.place for entry in added}
        lost, new = expected - live.keys(), live.keys() - expected
        if lost:
            self.wrong(where, "files of the parent", "kept or marked as deleted", sorted(map(str, lost))[:3])
        if new:
            self.wrong(where, "files that the parent does not have", "added by this snapshot", sorted(map(str, new))[:3])
        for place in old.keys() & live.keys():
            for part in ("sequence", "snapshot_id"):
                self.equal(
                    where, f"{part} of {place[0]}, as in the parent", getattr(old[place], part), getattr(live[place], part)
                )

    def _check_summary(self, where: str, snapshot: dict, live: dict, added: list, gone: list) -> None:
        summary = snapshot.get("summary", {})
        if summary.get("operation") not in ("append", "replace", "overwrite", "delete"):
            self.wrong(where, "summary operation", "append, replace, overwrite or delete", summary.get("operation"))
        for prefix, entries, needed in (
            ("total", list(live.values()), True),
            ("added", added, False),
            ("deleted", gone, False),
        ):
            for name, expected in counted(prefix, entries).items():
                found = summary.get(name)
                if found is not None or needed or (expected and name in MEASURED):
                    self.equal(where, f"summary {name}", str(expected), found)
        partitions = {(entry.spec_id, json.dumps(entry.file["partition"], default=repr)) for entry in added + gone}
        if "changed-partition-count" in summary:
            found = summary["changed-partition-count"]
            self.equal(where, "summary changed-partition-count", str(len(partitions)), found)

    # Manifests

    def _manifest(self, row: dict) -> Manifest | None:
        """A manifest, checked when it is met first."""
        path = row["manifest_path"]
        if path in self.manifests:
            return self.manifests[path]
        self.referenced.add(path)
        if not is_regular(local(path)):
            self.wrong(path, "manifest", "a file that is there", None)
            self.manifests[path] = None
            return None
        records, avro = read_avro(path)
        entries = [self._entry(path, number, record, row) for number, record in enumerate(records)]
        manifest = Manifest(path, row, entries, avro)
        self.manifests[path] = manifest
        self._check_manifest_header(manifest)
        for number, entry in enumerate(entries):
            self._check_entry(f"{path} entry {number}", entry, row)
        if not entries:
            self.wrong(path, "entries", "at least one", 0)
        return manifest

    def _entry(self, path: str, number: int, record: dict, row: dict) -> Entry:
        status, sequence = record["status"], record.get("sequence_number")
        if status not in COUNTED:
            self.wrong(f"{path} entry {number}", "status", "0, 1 or 2", status)
        if self.version >= 2 and sequence is None:
            # Only what a snapshot adds takes its number.
            sequence = row.get("sequence_number") or 0
            if status != ADDED and sequence != 0:
                self.wrong(f"{path} entry {number}", "sequence_number", "one of its own: the file is not new", None)
        snapshot_id = record.get("snapshot_id")
        if snapshot_id is None:
            snapshot_id = row["added_snapshot_id"]
        return Entry(status, snapshot_id, sequence, record["data_file"], row["partition_spec_id"])

    def _check_manifest_header(self, manifest: Manifest) -> None:
        path, avro = manifest.path, manifest.avro
        header = avro["metadata"]
        self._check_field_ids(path, avro["schema"], ENTRY_FIELDS)
        file_schema = record_of(avro["schema"], "data_file")
        self._check_field_ids(path, file_schema, FILE_FIELDS)
        spec_id = manifest_spec_id(avro)
        fields = self.specs.get(spec_id)
        if fields is None:
            self.wrong(path, "header partition-spec-id", f"one of {sorted(self.specs)}", spec_id)
            return
        described = json.loads(header["partition-spec"])
        described = described.get("fields", []) if isinstance(described, dict) else described
        described = [(one.get("field-id"), one["source-id"], one["transform"], one["name"]) for one in described]
        expected = [(one["field-id"], one["source-id"], one["transform"], one["name"]) for one in fields]
        self.equal(path, "header partition-spec", expected, described)
        partition = record_of(file_schema, "partition")["fields"]
        ids = [field.get("field-id") for field in partition]
        self.equal(path, "field ids of partition", [field["field-id"] for field in fields], ids)
        known = [Schema(one["fields"]).kinds for one in self.metadata["schemas"]]
        written = json.loads(header["schema"])
        if Schema(written["fields"]).kinds not in known:
            self.wrong(path, "header schema", "one of the table's", written)
        elif "schema-id" in header:
            expected = self.schemas.get(int(header["schema-id"]))
            if expected is None or expected.kinds != Schema(written["fields"]).kinds:
                self.wrong(path, "header schema-id", "the id of the header's schema", header["schema-id"])

    def _check_entry(self, where: str, entry: Entry, row: dict) -> None:
        file = entry.file
        self.referenced.add(entry.path)
        if entry.status in (ADDED, DELETED):
            self.equal(where, "snapshot_id", row["added_snapshot_id"], entry.snapshot_id)
        if entry.sequence is not None and entry.sequence > (row.get("sequence_number") or entry.sequence):
            self.wrong(where, "sequence_number", f"at most {row['sequence_number']}", entry.sequence)
        if entry.status == ADDED and self.version >= 2:
            self.equal(where, "sequence_number", row.get("sequence_number"), entry.sequence)
        if self.version >= 2 and row.get("content") is not None:
            if (entry.content == DATA) != (row["content"] == 0):
                self.wrong(where, "content", "data in manifests of data, deletes in others", entry.content)
        if entry.status == DELETED:
            self.referenced.discard(entry.path)  # it may be gone
            return
        path = local(entry.path)
        if not is_regular(path):
            self.wrong(where, "file_path", "a file that is there", entry.path)
            return
        self.equal(entry.path, "file_size_in_bytes", path.stat().st_size, file["file_size_in_bytes"])
        if file["file_format"].upper() != "PARQUET":
            return
        # The same file in a rewritten manifest is checked again only when something else is said of it.
        claims = (entry.path, repr(file) + str(entry.spec_id))
        if claims not in self._checked_entries:
            self._checked_entries.add(claims)
            self._check_data_file(entry)

    # Data files

    def _check_data_file(self, entry: Entry) -> None:
        data = self._opened(entry)
        if data is None:
            return
        where, file = entry.path, entry.file
        self.equal(where, "record_count", data.rows, file["record_count"])
        offsets = file.get("split_offsets")
        if offsets is not None or data.ours:
            self.equal(where, "split_offsets", data.offsets, offsets)
        if entry.content != DATA:
            return
        self.data_files += 1
        self._check_metrics(where, data, file)
        self._check_partition(entry, data)
        order = file.get("sort_order_id")
        if order is not None and order not in self.orders:
            self.wrong(where, "sort_order_id", f"one of {sorted(self.orders)}", order)
        elif order and (row := data.first_unsorted_row(self.orders[order])) is not None:
            self.wrong(where, f"rows by sort order {order}", "in order", f"row {row} out of it")

    def _opened(self, entry: Entry) -> DataFile | None:
        if entry.path in self.files:
            return self.files[entry.path]
        try:
            schema = self.schema if entry.content == DATA else None
            data = DataFile(local(entry.path), schema, self.name_mapping)
        except (OSError, ValueError) as error:
            self.wrong(entry.path, "contents", "a Parquet file", str(error))
            data = None
        self.files[entry.path] = data
        if data is None:
            return None
        for problem in data.problems if entry.content == DATA else []:
            self.wrong(entry.path, *problem)
        if data.ours and entry.content == DATA:
            written = [set(schema.names) & set(data.columns) == set(data.columns) for schema in self.schemas.values()]
            whole = [
                {number for number, parent in schema.parents.items() if parent is None} == set(data.columns)
                for schema in self.schemas.values()
            ]
            if not any(written) or not any(whole):
                self.wrong(entry.path, "columns", "those of one of the table's schemas", sorted(map(str, data.columns)))
        return data

    def _check_metrics(self, where: str, data: DataFile, file: dict) -> None:
        by_id = {leaf.field_id: leaf for leaf in data.leaves}
        for name in METRICS:
            claims = metric(file, name)
            for number in sorted(claims.keys() - by_id.keys()):
                # A column of another writer's, or one that the file does not have: it says nothing then.
                if number not in self.schema.kinds or data.ours:
                    self.wrong(where, f"{name}[{number}]", "no column of the file has this id", claims[number])
            for number, leaf in by_id.items():
                label = f"{name}[{number}] (column {leaf.name})"
                self._check_metric(where, label, name, leaf, claims.get(number), data.ours)

    def _check_metric(self, where: str, label: str, name: str, leaf: Leaf, found: object, ours: bool) -> None:
        mode = self.metrics_mode(leaf.field_id)
        if name in ("lower_bounds", "upper_bounds"):
            self._check_bound(where, label, name, leaf, found, ours, mode)
            return
        expected = {
            "column_sizes": leaf.size, "value_counts": leaf.slots, "null_value_counts": leaf.nulls,
            "nan_value_counts": leaf.nans,
        }[name]  # fmt: skip
        if name == "nan_value_counts" and not values.is_float(leaf.kind):
            if found is not None:
                self.wrong(where, label, "nothing: the column has no NaN", found)
            return
        if found is None:
            wanted = name == "column_sizes" or (mode != "none" and not (leaf.repeated and name == "nan_value_counts"))
            if ours and wanted:
                self.wrong(where, label, expected, None)
            return
        if ours and mode == "none" and name != "column_sizes":
            self.wrong(where, label, "nothing: the metrics mode is none", found)
        self.equal(where, label, expected, found)

    def _check_bound(
        self, where: str, label: str, name: str, leaf: Leaf, data: bytes | None, ours: bool, mode: str
    ) -> None:
        upper = name == "upper_bounds"
        actual = leaf.highest if upper else leaf.lowest
        length = values.parameters(mode)[0] if mode.startswith("truncate") else None
        if data is None:
            best = values.truncated_upper(actual, length) if upper else actual
            if ours and best is not None and not leaf.repeated and mode not in ("none", "counts"):
                self.wrong(where, label, best, None)
            return
        found = self._decoded(where, label, leaf.kind, data)
        if found is None:
            return
        if found != found:
            self.wrong(where, label, "no NaN", found)
        elif actual is None:
            self.wrong(where, label, "nothing: the column has no value that is ordered", found)
        elif not self._is_bound(leaf, upper, found):
            self.wrong(where, label, f"not {'below' if upper else 'above'} {actual!r}", found)
        elif ours and mode in ("none", "counts"):
            self.wrong(where, label, f"nothing: the metrics mode is {mode}", found)
        elif ours or not isinstance(found, (str, bytes)):
            self._check_tightness(where, label, leaf, upper, found, length)

    def _is_bound(self, leaf: Leaf, upper: bool, found: object) -> bool:
        actual, bound = values.ordered(leaf.highest if upper else leaf.lowest), values.ordered(found)
        return bound >= actual if upper else bound <= actual

    def _check_tightness(
        self, where: str, label: str, leaf: Leaf, upper: bool, found: object, length: int | None
    ) -> None:
        """Bounds are exact for types of fixed width, and cut as the metrics mode says for the others."""
        actual = leaf.highest if upper else leaf.lowest
        if found == 0 and actual == 0 and isinstance(found, float):
            return  # -0.0 below, 0.0 above: either is a bound of both
        cut = values.truncated_upper if upper else values.truncated_lower
        expected = cut(actual, length)
        # A fixed that is cut has another length than its type: to leave it whole is as good.
        whole = values.family(leaf.kind) in ("fixed", "uuid") and same(found, actual)
        if not same(found, expected) and not whole:
            self.wrong(where, label, expected, found)

    def metrics_mode(self, number: int) -> str:
        default = self.properties.get("write.metadata.metrics.default", DEFAULT_METRICS_MODE)
        name = self.schema.names.get(number, "")
        return self.properties.get(f"write.metadata.metrics.column.{name}", default).lower()

    def _check_partition(self, entry: Entry, data: DataFile) -> None:
        fields = self.specs.get(entry.spec_id)
        if fields is None:
            return
        for field, found in zip(fields, self._partition(entry), strict=False):
            label = f"partition {field['name']}"
            if field["source-id"] not in self.schema.kinds:
                self.wrong(entry.path, label, "a column of the table", field["source-id"])
                continue
            if field["source-id"] not in data.columns and self.schema.parents[field["source-id"]] is None:
                if data.ours:
                    self.wrong(entry.path, label, "a column of the file", None)
                continue  # files of Hive's way have the column in their path only
            expected = data.partition_values(field["source-id"], field["transform"])
            if data.rows and not (len(expected) == 1 and same(expected[0], found)):
                self.wrong(entry.path, label, expected[0] if len(expected) == 1 else expected[:5], found)

    def _partition(self, entry: Entry) -> list:
        """The values of a file's partition, plain, in the order of its spec."""
        found = list(entry.file["partition"].values())
        fields = self.specs.get(entry.spec_id, [])
        return [values.plain(self.partition_type(field), value) for field, value in zip(fields, found, strict=False)]

    @functools.cache  # noqa: B019 - a checker lives as long as its table is checked
    def _partition_type(self, source: int, transform: str) -> str:
        return values.result_type(transform, self.schema.kinds.get(source, "unknown"))

    def partition_type(self, field: dict) -> str:
        return self._partition_type(field["source-id"], field["transform"])

    # Row ids of version 3

    def _check_row_ids(self, snapshots: list[dict]) -> None:
        numbered = [one for one in snapshots if one.get("first-row-id") is not None]
        numbered.sort(key=lambda one: one["sequence-number"])
        next_id = None
        for snapshot in numbered:
            where = f"{self.location} snapshot {snapshot['snapshot-id']}"
            first, added = snapshot["first-row-id"], snapshot.get("added-rows")
            if added is None or added < 0:
                self.wrong(where, "added-rows", "a number of rows", added)
                return
            if next_id is not None and first < next_id:
                self.wrong(where, "first-row-id", next_id, first)
            self._check_given_row_ids(snapshot)
            next_id = first + added
        if next_id is None:
            next_id = 0
        if len(numbered) == len(snapshots):
            self.equal(self.location, "next-row-id", next_id, self.metadata.get("next-row-id"))
        for snapshot in snapshots:
            if snapshot.get("sequence-number", 0) and snapshot not in numbered and not self._upgraded():
                self.wrong(f"{self.location} snapshot {snapshot['snapshot-id']}", "first-row-id", "a number", None)

    def _upgraded(self) -> bool:
        """Whether the table was of an earlier version once, as far as its log reaches."""
        older = [entry["metadata-file"] for entry in self.metadata.get("metadata-log", [])]
        return any(json.loads(local(path).read_text())["format-version"] < 3 for path in older if is_regular(local(path)))

    def _check_given_row_ids(self, snapshot: dict) -> None:
        """The ids that a snapshot gave to manifests, and theirs to files."""
        path = snapshot["manifest-list"]
        if not is_regular(local(path)):
            return
        given, next_id = 0, snapshot["first-row-id"]
        ranges = []
        for row in read_avro(path)[0]:
            if row["content"] != 0:
                continue
            where = f"{path} entry of {row['manifest_path']}"
            first = row.get("first_row_id")
            if first is None:
                self.wrong(where, "first_row_id", "a number", None)
                continue
            if first >= snapshot["first-row-id"]:
                self.equal(where, "first_row_id", next_id, first)
                # A manifest takes as many ids as it has rows that are alive, whether they need one or not.
                given = (row["added_rows_count"] or 0) + (row["existing_rows_count"] or 0)
                next_id = first + given
            elif row["added_snapshot_id"] == snapshot["snapshot-id"]:
                self.wrong(where, "first_row_id", f"at least {snapshot['first-row-id']}", first)
            ranges.extend(self._row_ranges(row, first))
        self.equal(
            f"{self.location} snapshot {snapshot['snapshot-id']}",
            "added-rows",
            next_id - snapshot["first-row-id"],
            snapshot["added-rows"],
        )
        ranges.sort()
        for (_, end, file), (start, _, other) in zip(ranges, ranges[1:], strict=False):
            if start < end:
                self.wrong(other, "row ids", f"none of those of {file}, which end with {end - 1}", start)

    def _row_ranges(self, row: dict, first: int) -> Iterator[tuple[int, int, str]]:
        manifest = self.manifests.get(row["manifest_path"])
        for entry in manifest.entries if manifest else []:
            if entry.status == DELETED:
                continue
            own = entry.file.get("first_row_id")
            rows = entry.file["record_count"]
            start = first if own is None else own
            if own is None:
                first += rows
            yield start, start + rows, entry.path


METRICS = ("column_sizes", "value_counts", "null_value_counts", "nan_value_counts", "lower_bounds", "upper_bounds")

# What the summary of a snapshot has to say when it is not zero.
MEASURED = {
    f"{word}-{what}"
    for word in ("added", "deleted")
    for what in ("data-files", "records")
} | {"added-files-size", "removed-files-size"}  # fmt: skip


def counted(prefix: str, entries: list[Entry]) -> dict[str, int]:
    """What a snapshot's summary says of files; sizes and deletes have a word of their own for what is gone."""
    gone = "removed" if prefix == "deleted" else prefix
    data = [entry for entry in entries if entry.content == DATA]
    rows: dict[int, int] = defaultdict(int)
    for entry in entries:
        rows[entry.content] += entry.file["record_count"]
    return {
        f"{prefix}-data-files": len(data),
        f"{prefix}-records": rows[DATA],
        f"{gone}-delete-files": len(entries) - len(data),
        f"{gone}-position-deletes": rows[1],
        f"{gone}-equality-deletes": rows[2],
        f"{gone}-files-size": sum(size_of(entry.file) for entry in entries),
    }


def size_of(file: dict) -> int:
    """A deletion vector counts by itself, not by the file that many are in."""
    content = file.get("content_size_in_bytes")
    return file["file_size_in_bytes"] if content is None else content


def metric(file: dict, name: str) -> dict:
    """A map by column id, which Avro has as pairs."""
    return {pair["key"]: pair["value"] for pair in file.get(name) or []}


def manifest_spec_id(avro: dict) -> int:
    return int(avro["metadata"].get("partition-spec-id", 0))


def record_of(schema: dict, name: str) -> dict:
    """The record type of a field of a record."""
    kind = next(field["type"] for field in schema["fields"] if field["name"] == name)
    if isinstance(kind, list):
        kind = next(one for one in kind if isinstance(one, dict))
    return kind


def mapped_names(mapping: list[dict], prefix: str) -> Iterator[tuple[str, int]]:
    """The ids of a name mapping by the whole names of columns."""
    for entry in mapping:
        for name in entry["names"]:
            if "field-id" in entry:
                yield prefix + name, entry["field-id"]
            yield from mapped_names(entry.get("fields", []), f"{prefix}{name}.")


def local(location: str) -> pathlib.Path:
    """The path of a file, given as `file://`, `file:` or a plain path."""
    for prefix in ("file://", "file:"):
        if location.startswith(prefix):
            return pathlib.Path(location.removeprefix(prefix))
    return pathlib.Path(location)


def read_avro(location: str) -> tuple[list[dict], dict]:
    """The records, and under `schema` and `metadata` what the file says about them."""
    with open(local(location), "rb") as file:
        reader = fastavro.reader(file)
        records = list(reader)
        schema = reader.writer_schema
        return records, {"schema": schema, "metadata": dict(reader.metadata)}


def check_table(metadata_location: str) -> Checker:
    """A table by its metadata file, checked."""
    checker = Checker(metadata_location)
    checker.run()
    return checker
