//! From the bytes of a manifest to a [`DecodedManifest`], in one pass over the entries.
//!
//! Source: Iceberg specification, "Manifests", "Sequence Number Inheritance" and "First Row ID
//! Inheritance". The fields of the manifest's own Avro schema are resolved once; each entry is then
//! read straight into columns. The table schema in the manifest's header is not looked at: it may
//! have types that are not known here, and planning has the table's schemas anyway.

use std::sync::Arc;

use iceberg::spec::DataContentType;

use super::avro::{Container, Cursor, Fault, Read};
use super::entries::{DataFileEntry, DecodedManifest, Entries, EntryStatus, FileFormat};
use super::list::{ManifestContent, ManifestFile, resolve};
use super::metrics::{Count, MapReader, MetricsBuilder};
use super::partition::{PartitionFields, PartitionReader};
use super::schema::{NodeId, Schema};
use crate::Result;

/// Entries that one manifest may have.
const ENTRIES_MAX: usize = 1 << 22;

/// A field of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum EntrySlot {
    Status,
    SnapshotId,
    SequenceNumber,
    FileSequenceNumber,
    DataFile,
}

/// Id and name of each.
const ENTRY_SLOTS: &[(EntrySlot, i32, &str)] = &[
    (EntrySlot::Status, 0, "status"),
    (EntrySlot::SnapshotId, 1, "snapshot_id"),
    (EntrySlot::DataFile, 2, "data_file"),
    (EntrySlot::SequenceNumber, 3, "sequence_number"),
    (EntrySlot::FileSequenceNumber, 4, "file_sequence_number"),
];

/// A field of an entry's `data_file`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum FileSlot {
    Content,
    Path,
    Format,
    Partition,
    Records,
    SizeBytes,
    ColumnCounts(Count),
    ColumnBounds { upper: bool },
    KeyMetadata,
    SplitOffsets,
    EqualityIds,
    SortOrder,
    FirstRowId,
    ReferencedFile,
    ContentOffset,
    ContentSize,
}

/// Id and name of each.
const FILE_SLOTS: &[(FileSlot, i32, &str)] = &[
    (FileSlot::Content, 134, "content"),
    (FileSlot::Path, 100, "file_path"),
    (FileSlot::Format, 101, "file_format"),
    (FileSlot::Partition, 102, "partition"),
    (FileSlot::Records, 103, "record_count"),
    (FileSlot::SizeBytes, 104, "file_size_in_bytes"),
    (FileSlot::ColumnCounts(Count::Sizes), 108, "column_sizes"),
    (FileSlot::ColumnCounts(Count::Values), 109, "value_counts"),
    (
        FileSlot::ColumnCounts(Count::Nulls),
        110,
        "null_value_counts",
    ),
    (FileSlot::ColumnCounts(Count::Nans), 137, "nan_value_counts"),
    (FileSlot::ColumnBounds { upper: false }, 125, "lower_bounds"),
    (FileSlot::ColumnBounds { upper: true }, 128, "upper_bounds"),
    (FileSlot::KeyMetadata, 131, "key_metadata"),
    (FileSlot::SplitOffsets, 132, "split_offsets"),
    (FileSlot::EqualityIds, 135, "equality_ids"),
    (FileSlot::SortOrder, 140, "sort_order_id"),
    (FileSlot::FirstRowId, 142, "first_row_id"),
    (FileSlot::ReferencedFile, 143, "referenced_data_file"),
    (FileSlot::ContentOffset, 144, "content_offset"),
    (FileSlot::ContentSize, 145, "content_size_in_bytes"),
];

const MISSING: Fault = Fault::new("it has no value");
const NEGATIVE: Fault = Fault::new("it is negative");

type Slots<S> = Vec<(Option<(S, &'static str)>, NodeId)>;

/// How the entries of one manifest are laid out.
struct Layout {
    root: NodeId,
    entry: Slots<EntrySlot>,
    file_record: NodeId,
    file: Slots<FileSlot>,
    /// One for each field of `file`: how it is read if it is a map of column metrics.
    maps: Vec<Option<MapReader>>,
    /// Whether an entry says whether it is live before it says anything about its file.
    status_first: bool,
    partition: Option<NodeId>,
}

impl Layout {
    /// Why a manifest is none, otherwise.
    fn new(schema: &Schema) -> Result<Self, String> {
        let (root, fields) = schema
            .record(schema.root())
            .ok_or("its Avro schema is not a record")?;
        let entry = resolve(fields, ENTRY_SLOTS);
        let place = |wanted: EntrySlot| {
            let mut slots = entry.iter();
            slots.position(|(slot, _)| slot.is_some_and(|(slot, _)| slot == wanted))
        };
        let status = place(EntrySlot::Status).ok_or("its entries have no field status")?;
        let data_file = place(EntrySlot::DataFile).ok_or("its entries have no field data_file")?;
        let (file_record, fields) = schema
            .record(entry[data_file].1)
            .ok_or("its field data_file is not a record")?;
        let file = resolve(fields, FILE_SLOTS);
        let find = |wanted: FileSlot| {
            let mut slots = file.iter();
            slots.find(|(slot, _)| slot.is_some_and(|(slot, _)| slot == wanted))
        };
        for (slot, _, name) in FILE_SLOTS {
            let required = matches!(
                slot,
                FileSlot::Path | FileSlot::Format | FileSlot::Records | FileSlot::SizeBytes
            );
            if required && find(*slot).is_none() {
                return Err(format!("its files have no field {name}"));
            }
        }
        let maps = file.iter().map(|(slot, node)| match slot {
            Some((FileSlot::ColumnCounts(_), _)) => MapReader::of_counts(schema, *node),
            Some((FileSlot::ColumnBounds { .. }, _)) => MapReader::of_bounds(schema, *node),
            _ => None,
        });
        Ok(Self {
            root,
            status_first: status < data_file,
            file_record,
            maps: maps.collect(),
            partition: find(FileSlot::Partition).map(|(_, node)| *node),
            entry,
            file,
        })
    }
}

/// What an entry says outside its `data_file`.
#[derive(Clone, Copy, Default)]
struct Header {
    status: Option<EntryStatus>,
    snapshot_id: Option<i64>,
    sequence_number: Option<i64>,
    file_sequence_number: Option<i64>,
}

/// What an entry's `data_file` says, metrics and partition aside.
#[derive(Default)]
struct DataFile<'a> {
    content: Option<i32>,
    path: Option<&'a str>,
    format: Option<&'a str>,
    record_count: Option<i64>,
    size_bytes: Option<i64>,
    split_offsets: Vec<i64>,
    equality_ids: Vec<i32>,
    sort_order_id: Option<i32>,
    first_row_id: Option<i64>,
    referenced_data_file: Option<&'a str>,
    content_offset: Option<i64>,
    content_size_bytes: Option<i64>,
    encrypted: bool,
}

/// See [`DecodedManifest::decode`].
pub(super) fn decode(
    file: &ManifestFile,
    bytes: &[u8],
    spec: &PartitionFields,
    which: Entries,
) -> Result<DecodedManifest> {
    let container = Container::open(&file.path, bytes)?;
    let layout = Layout::new(&container.schema).map_err(|why| container.corrupt(why))?;
    let version_1 = container.metadata("format-version") == Some("1");
    let (schema, blocks) = container.into_parts();
    let mut decoder = Decoder {
        schema: &schema,
        layout: &layout,
        file,
        which,
        version_1,
        next_row_id: match file.content {
            ManifestContent::Data => file.first_row_id,
            ManifestContent::Deletes => None,
        },
        entries: vec![],
        metrics: MetricsBuilder::default(),
        partitions: PartitionReader::new(&schema, layout.partition, spec),
    };
    blocks.for_each(|cursor| decoder.entry(cursor))?;
    let mut entries = decoder.entries;
    entries.shrink_to_fit();
    Ok(DecodedManifest {
        path: Arc::clone(&file.path),
        spec_id: file.spec_id,
        columns: decoder.metrics.finish(entries.len()),
        partitions: decoder.partitions.finish(spec),
        entries,
    })
}

struct Decoder<'s> {
    schema: &'s Schema,
    layout: &'s Layout,
    file: &'s ManifestFile,
    which: Entries,
    /// Manifests of version 1 have no sequence numbers: all are 0.
    version_1: bool,
    next_row_id: Option<i64>,
    entries: Vec<DataFileEntry>,
    metrics: MetricsBuilder,
    partitions: PartitionReader,
}

impl Decoder<'_> {
    fn entry(&mut self, cursor: &mut Cursor<'_>) -> Read<()> {
        if self.entries.len() >= ENTRIES_MAX {
            return Err(Fault::new("it has more entries than can be"));
        }
        if cursor.branch(self.schema, self.layout.root)? != self.layout.root {
            return Err(MISSING);
        }
        let mut header = Header::default();
        if !self.layout.status_first {
            // The columns must not see files that are not kept, so the status is looked up first.
            self.fields(&mut cursor.clone(), &mut header, false)?;
        }
        let data_file = self.fields(cursor, &mut header, true)?;
        let status = header.status.ok_or(MISSING.within("status"))?;
        if status == EntryStatus::Deleted && self.which == Entries::Live {
            return Ok(());
        }
        let data_file = data_file.ok_or(MISSING.within("data_file"))?;
        let entry = self.finish(status, header, data_file)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Reads the fields of an entry; the file only if it is wanted and kept.
    fn fields<'a>(
        &mut self,
        cursor: &mut Cursor<'a>,
        header: &mut Header,
        with_file: bool,
    ) -> Read<Option<DataFile<'a>>> {
        let (schema, layout) = (self.schema, self.layout);
        let mut data_file = None;
        for (slot, node) in &layout.entry {
            let Some((slot, name)) = *slot else {
                cursor.skip(schema, *node)?;
                continue;
            };
            let number = |cursor: &mut Cursor<'_>| {
                let number = cursor.long(schema, *node);
                number.map_err(|fault| fault.within(name))
            };
            match slot {
                EntrySlot::Status => {
                    header.status = match number(cursor)? {
                        None => None,
                        Some(0) => Some(EntryStatus::Existing),
                        Some(1) => Some(EntryStatus::Added),
                        Some(2) => Some(EntryStatus::Deleted),
                        Some(_) => return Err(Fault::new("it is not 0, 1 or 2").within(name)),
                    }
                }
                EntrySlot::SnapshotId => header.snapshot_id = number(cursor)?,
                EntrySlot::SequenceNumber => header.sequence_number = number(cursor)?,
                EntrySlot::FileSequenceNumber => header.file_sequence_number = number(cursor)?,
                EntrySlot::DataFile => {
                    let kept =
                        header.status != Some(EntryStatus::Deleted) || self.which == Entries::All;
                    if with_file && kept {
                        data_file = self.data_file(cursor, *node)?;
                    } else {
                        cursor.skip(schema, *node)?;
                    }
                }
            }
        }
        Ok(data_file)
    }

    fn data_file<'a>(
        &mut self,
        cursor: &mut Cursor<'a>,
        node: NodeId,
    ) -> Read<Option<DataFile<'a>>> {
        if cursor.branch(self.schema, node)? != self.layout.file_record {
            return Ok(None);
        }
        let layout = self.layout;
        let mut file = DataFile::default();
        for ((slot, node), map) in layout.file.iter().zip(&layout.maps) {
            match slot {
                Some((slot, name)) => self
                    .file_field(cursor, *slot, *node, map.as_ref(), &mut file)
                    .map_err(|fault| fault.within(name))?,
                None => cursor.skip(self.schema, *node)?,
            }
        }
        Ok(Some(file))
    }

    fn file_field<'a>(
        &mut self,
        cursor: &mut Cursor<'a>,
        slot: FileSlot,
        node: NodeId,
        map: Option<&MapReader>,
        file: &mut DataFile<'a>,
    ) -> Read<()> {
        let schema = self.schema;
        match slot {
            FileSlot::Content => file.content = cursor.int(schema, node)?,
            FileSlot::Path => file.path = cursor.text(schema, node)?,
            FileSlot::Format => file.format = cursor.text(schema, node)?,
            FileSlot::Partition => self.partitions.read(cursor, schema, node)?,
            FileSlot::Records => file.record_count = cursor.long(schema, node)?,
            FileSlot::SizeBytes => file.size_bytes = cursor.long(schema, node)?,
            FileSlot::ColumnCounts(_) | FileSlot::ColumnBounds { .. } => {
                self.column_metrics(cursor, slot, node, map)?;
            }
            FileSlot::KeyMetadata => {
                let key = cursor.binary(schema, node)?;
                file.encrypted = key.is_some_and(|key| !key.is_empty());
            }
            FileSlot::SplitOffsets => {
                each(cursor, schema, node, |cursor, item| {
                    file.split_offsets.extend(cursor.long(schema, item)?);
                    Ok(())
                })?;
            }
            FileSlot::EqualityIds => {
                each(cursor, schema, node, |cursor, item| {
                    file.equality_ids.extend(cursor.int(schema, item)?);
                    Ok(())
                })?;
            }
            FileSlot::SortOrder => file.sort_order_id = cursor.int(schema, node)?,
            FileSlot::FirstRowId => file.first_row_id = cursor.long(schema, node)?,
            FileSlot::ReferencedFile => file.referenced_data_file = cursor.text(schema, node)?,
            FileSlot::ContentOffset => file.content_offset = cursor.long(schema, node)?,
            FileSlot::ContentSize => file.content_size_bytes = cursor.long(schema, node)?,
        }
        Ok(())
    }

    fn column_metrics(
        &mut self,
        cursor: &mut Cursor<'_>,
        slot: FileSlot,
        node: NodeId,
        map: Option<&MapReader>,
    ) -> Read<()> {
        let (schema, row) = (self.schema, self.entries.len());
        // Something else than a map of columns says nothing about columns.
        let branch = cursor.branch(schema, node)?;
        let map = map.filter(|map| map.reads(schema, branch));
        match (map, slot) {
            (Some(map), FileSlot::ColumnCounts(count)) => {
                self.metrics.read_counts(cursor, schema, map, count, row)
            }
            (Some(map), FileSlot::ColumnBounds { upper }) => {
                self.metrics.read_bounds(cursor, schema, map, upper, row)
            }
            _ => cursor.skip(schema, branch),
        }
    }

    fn finish(
        &mut self,
        status: EntryStatus,
        header: Header,
        file: DataFile<'_>,
    ) -> Read<DataFileEntry> {
        let path = file.path.ok_or(MISSING.within("file_path"))?;
        let format = file.format.ok_or(MISSING.within("file_format"))?;
        let natural = |number: Option<i64>, name| {
            let number = number.ok_or(MISSING.within(name))?;
            u64::try_from(number).map_err(|_| NEGATIVE.within(name))
        };
        let record_count = natural(file.record_count, "record_count")?;
        let (sequence_number, file_sequence_number) = self.sequence_numbers(status, header)?;
        Ok(DataFileEntry {
            status,
            snapshot_id: header.snapshot_id.or(self.file.added_snapshot_id),
            path: Arc::from(path),
            content: match file.content {
                None | Some(0) => DataContentType::Data,
                Some(1) => DataContentType::PositionDeletes,
                Some(2) => DataContentType::EqualityDeletes,
                Some(_) => return Err(Fault::new("it is not 0, 1 or 2").within("content")),
            },
            format: FileFormat::of(format),
            size_bytes: natural(file.size_bytes, "file_size_in_bytes")?,
            record_count,
            sequence_number,
            file_sequence_number,
            split_offsets: file.split_offsets.into(),
            sort_order_id: file.sort_order_id,
            equality_ids: file.equality_ids.into(),
            first_row_id: self.first_row_id(status, file.first_row_id, record_count)?,
            referenced_data_file: file.referenced_data_file.map(Arc::from),
            content_offset: file.content_offset,
            content_size_bytes: file.content_size_bytes,
            encrypted: file.encrypted,
        })
    }

    /// Data and file sequence number. Those of added files are the manifest's unless they are
    /// written down; in a manifest of version 1, and so of sequence number 0, all are 0.
    fn sequence_numbers(&self, status: EntryStatus, header: Header) -> Read<(i64, Option<i64>)> {
        if self.version_1 {
            return Ok((0, Some(0)));
        }
        let manifest = self.file.sequence_number;
        let inherited = (status == EntryStatus::Added || manifest == 0).then_some(manifest);
        let data = header.sequence_number.or(inherited);
        let missing = Fault::new("it has no value, which only files of status ADDED may");
        Ok((
            data.ok_or(missing.within("sequence_number"))?,
            header.file_sequence_number.or(inherited),
        ))
    }

    /// Row id of a file's first row. Files without one have the manifest's, one after another;
    /// where the manifest has none, no file has.
    fn first_row_id(
        &mut self,
        status: EntryStatus,
        own: Option<i64>,
        record_count: u64,
    ) -> Read<Option<i64>> {
        let Some(next) = self.next_row_id else {
            return Ok(None);
        };
        if own.is_some() || status == EntryStatus::Deleted {
            return Ok(own);
        }
        let after = i64::try_from(record_count)
            .ok()
            .and_then(|count| next.checked_add(count))
            .ok_or(Fault::new("row ids have more than 64 bits").within("first_row_id"))?;
        self.next_row_id = Some(after);
        Ok(Some(next))
    }
}

/// Reads the items of an array, if there is one.
fn each<'a>(
    cursor: &mut Cursor<'a>,
    schema: &Schema,
    node: NodeId,
    mut item: impl FnMut(&mut Cursor<'a>, NodeId) -> Read<()>,
) -> Read<()> {
    let node = cursor.branch(schema, node)?;
    let items = schema.items(node);
    let Some(items) = items.filter(|items| !schema.is_empty(*items)) else {
        return cursor.skip(schema, node);
    };
    loop {
        let count = cursor.block()?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            item(cursor, items)?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::Array;

    use super::super::avro::tests::{file, long, text};
    use super::*;

    /// Everything nullable, no id inside `data_file`'s maps, and the status last: allowed, and met.
    const NULLABLE: &str = r#"{"type":"record","name":"manifest_entry","fields":[
        {"name":"sequence_number","type":["null","long"]},
        {"name":"data_file","field-id":2,"type":["null",{"type":"record","name":"f","fields":[
            {"name":"file_format","type":["null","string"]},
            {"name":"record_count","type":["null","long"]},
            {"name":"size","type":["null","long"],"field-id":104},
            {"name":"file_path","type":["null","string"]},
            {"name":"lower_bounds","type":["null",{"type":"array","items":["null",
                {"type":"record","name":"e","fields":[
                    {"name":"value","type":["null","bytes"]},
                    {"name":"key","type":["null","int"]}]}]}]}]}]},
        {"name":"status","type":["null","int"]}]}"#;

    fn some(bytes: Vec<u8>) -> Vec<u8> {
        [long(1), bytes].concat()
    }

    fn entry(status: i64, sequence_number: Option<i64>, format: &str) -> Vec<u8> {
        let bound = [some(text(b"low")), some(long(7))].concat();
        let without_value = [long(0), some(long(8))].concat();
        // Nothing, a pair, and one without a value.
        let bounds = [long(3), long(0), some(bound), some(without_value), long(0)].concat();
        [
            sequence_number.map_or(long(0), |number| some(long(number))),
            some(
                [
                    some(text(format.as_bytes())),
                    some(long(5)),
                    some(long(100)),
                    some(text(b"s3://b/f")),
                    some(bounds),
                ]
                .concat(),
            ),
            some(long(status)),
        ]
        .concat()
    }

    fn decode(
        entries: &[Vec<u8>],
        sequence_number: i64,
        which: Entries,
    ) -> Result<DecodedManifest> {
        let manifest = ManifestFile {
            sequence_number,
            added_snapshot_id: Some(3),
            ..ManifestFile::at("m.avro".into())
        };
        let pairs = [("avro.schema", NULLABLE)];
        let bytes = file(&pairs, entries.len() as i64, &entries.concat());
        DecodedManifest::decode(&manifest, &bytes, &PartitionFields::default(), which)
    }

    #[test]
    fn nullable_fields_without_ids_are_read() {
        let entries = [
            entry(2, Some(1), "PARQUET"),
            entry(1, None, "PARQUET"),
            entry(0, Some(4), "lance"),
        ];
        let live = decode(&entries, 9, Entries::Live).unwrap();
        let found: Vec<_> = live
            .entries
            .iter()
            .map(|e| (e.status, e.sequence_number))
            .collect();
        assert_eq!(found, [(EntryStatus::Added, 9), (EntryStatus::Existing, 4)]);
        assert_eq!(live.entries[0].snapshot_id, Some(3));
        assert_eq!(
            (live.entries[0].record_count, live.entries[0].size_bytes),
            (5, 100)
        );
        // A format that is not known is that file's affair.
        assert_eq!(live.entries[0].format, FileFormat::of("parquet"));
        assert_eq!(live.entries[1].format.to_string(), "\"lance\"");
        let ids: Vec<i32> = live.columns.keys().copied().collect();
        assert_eq!(ids, [7]);
        assert_eq!(
            live.columns[&7].lower.iter().collect::<Vec<_>>(),
            [Some(&b"low"[..]); 2]
        );
        let all = decode(&entries, 9, Entries::All).unwrap();
        assert_eq!(all.entries.len(), 3);
        assert_eq!(all.entries[0].status, EntryStatus::Deleted);
        assert_eq!(all.columns[&7].lower.len(), 3);
    }

    #[test]
    fn only_added_files_may_lack_a_sequence_number() {
        let entries = [entry(1, None, "parquet"), entry(0, None, "parquet")];
        let error = decode(&entries, 9, Entries::Live).unwrap_err().to_string();
        for part in ["m.avro", "record 1", "sequence_number"] {
            assert!(error.contains(part), "{error}");
        }
        let decoded = decode(&entries, 0, Entries::Live).unwrap();
        assert!(
            decoded
                .entries
                .iter()
                .all(|entry| entry.sequence_number == 0)
        );
    }
}
