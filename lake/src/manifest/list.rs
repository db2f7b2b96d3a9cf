//! Manifest lists: the manifests of a snapshot, with what is known about each.
//!
//! Source: Iceberg specification, "Manifest Lists". Fields are found by field id, whatever their
//! name, since early writers used other ones; by name where the writer gave no id. So lists of all
//! format versions are read in one way, and what an older one lacks has the default for it.

use std::sync::Arc;

use super::avro::{Container, Cursor, Fault, Read};
use super::schema::{Field, NodeId, Schema};
use crate::{Error, Result};

/// What [`iceberg::spec::Snapshot::manifest_list`] begins with for snapshots of version 1 that name
/// their manifests themselves; a JSON array of manifest locations follows.
pub const EMBEDDED_LIST_PREFIX: &str = "inshore-embedded:";

/// Manifests that one list may have.
const MANIFESTS_MAX: usize = 1 << 20;

/// What kind of files a manifest has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ManifestContent {
    /// Data files.
    #[default]
    Data,
    /// Delete files and deletion vectors.
    Deletes,
}

/// One manifest, as its list describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestFile {
    /// Full location.
    pub path: Arc<str>,
    /// Size in bytes; 0 when unknown.
    pub length_bytes: u64,
    /// The partition spec its files were written with.
    pub spec_id: i32,
    /// What kind of files it has.
    pub content: ManifestContent,
    /// Sequence number of the commit that added it; 0 in version 1.
    pub sequence_number: i64,
    /// Smallest data sequence number of its live files; 0 in version 1.
    pub min_sequence_number: i64,
    /// The snapshot that added it.
    pub added_snapshot_id: Option<i64>,
    /// Entries of status ADDED; `None` when unknown, which may be any number.
    pub added_files: Option<u64>,
    /// Entries of status EXISTING.
    pub existing_files: Option<u64>,
    /// Entries of status DELETED.
    pub deleted_files: Option<u64>,
    /// Rows of entries of status ADDED.
    pub added_rows: Option<i64>,
    /// Rows of entries of status EXISTING.
    pub existing_rows: Option<i64>,
    /// Rows of entries of status DELETED.
    pub deleted_rows: Option<i64>,
    /// One summary for each field of the partition spec.
    pub partitions: Option<Vec<FieldSummary>>,
    /// Whether the manifest is encrypted.
    pub encrypted: bool,
    /// Row id of the first row of its files that have none themselves (version 3).
    pub first_row_id: Option<i64>,
}

/// The values of one partition field over the files of a manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSummary {
    /// Whether a file has no value.
    pub contains_null: bool,
    /// Whether a file's value is NaN, if the writer says.
    pub contains_nan: Option<bool>,
    /// Smallest value that is neither NULL nor NaN, serialized (specification, appendix D).
    pub lower_bound: Option<Box<[u8]>>,
    /// Largest such value.
    pub upper_bound: Option<Box<[u8]>>,
}

impl ManifestFile {
    /// A manifest of which nothing is known but where it is.
    pub fn at(path: Arc<str>) -> Self {
        Self {
            path,
            length_bytes: 0,
            spec_id: 0,
            content: ManifestContent::Data,
            sequence_number: 0,
            min_sequence_number: 0,
            added_snapshot_id: None,
            added_files: None,
            existing_files: None,
            deleted_files: None,
            added_rows: None,
            existing_rows: None,
            deleted_rows: None,
            partitions: None,
            encrypted: false,
            first_row_id: None,
        }
    }

    /// Whether it can have live files: a count that is unknown may be any.
    pub fn may_have_live_files(&self) -> bool {
        self.added_files != Some(0) || self.existing_files != Some(0)
    }

    /// Live files, as far as they are counted.
    pub fn live_files(&self) -> u64 {
        let (added, existing) = (self.added_files, self.existing_files);
        added.unwrap_or(0).saturating_add(existing.unwrap_or(0))
    }

    /// Bytes this takes in memory, for a cache's weight.
    pub fn memory_bytes(&self) -> usize {
        let bound = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        let summaries: usize = self
            .partitions
            .iter()
            .flatten()
            .map(|s| size_of::<FieldSummary>() + bound(&s.lower_bound) + bound(&s.upper_bound))
            .sum();
        size_of::<Self>() + self.path.len() + summaries
    }
}

/// A field of a manifest list that is read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Slot {
    Path,
    Length,
    SpecId,
    Content,
    SequenceNumber,
    MinSequenceNumber,
    AddedSnapshot,
    AddedFiles,
    ExistingFiles,
    DeletedFiles,
    AddedRows,
    ExistingRows,
    DeletedRows,
    Partitions,
    KeyMetadata,
    FirstRowId,
    ContainsNull,
    ContainsNan,
    LowerBound,
    UpperBound,
}

/// Id and names of each field.
const SLOTS: &[(Slot, i32, &str)] = &[
    (Slot::Path, 500, "manifest_path"),
    (Slot::Length, 501, "manifest_length"),
    (Slot::SpecId, 502, "partition_spec_id"),
    (Slot::Content, 517, "content"),
    (Slot::SequenceNumber, 515, "sequence_number"),
    (Slot::MinSequenceNumber, 516, "min_sequence_number"),
    (Slot::AddedSnapshot, 503, "added_snapshot_id"),
    (Slot::AddedFiles, 504, "added_files_count"),
    (Slot::AddedFiles, 504, "added_data_files_count"),
    (Slot::ExistingFiles, 505, "existing_files_count"),
    (Slot::ExistingFiles, 505, "existing_data_files_count"),
    (Slot::DeletedFiles, 506, "deleted_files_count"),
    (Slot::DeletedFiles, 506, "deleted_data_files_count"),
    (Slot::AddedRows, 512, "added_rows_count"),
    (Slot::ExistingRows, 513, "existing_rows_count"),
    (Slot::DeletedRows, 514, "deleted_rows_count"),
    (Slot::Partitions, 507, "partitions"),
    (Slot::KeyMetadata, 519, "key_metadata"),
    (Slot::FirstRowId, 520, "first_row_id"),
];

/// The same for summaries of partition fields.
const SUMMARY_SLOTS: &[(Slot, i32, &str)] = &[
    (Slot::ContainsNull, 509, "contains_null"),
    (Slot::ContainsNan, 518, "contains_nan"),
    (Slot::LowerBound, 510, "lower_bound"),
    (Slot::UpperBound, 511, "upper_bound"),
];

/// What each field of a record is; `None` for those that are passed over. Of two fields that claim
/// to be the same the first counts.
pub(super) fn resolve<S: Copy + PartialEq>(
    fields: &[Field],
    slots: &[(S, i32, &'static str)],
) -> Vec<(Option<(S, &'static str)>, NodeId)> {
    let mut resolved: Vec<(Option<(S, &'static str)>, NodeId)> = vec![];
    for field in fields {
        let slot = slots.iter().find(|(_, id, name)| match field.id {
            Some(field_id) => field_id == *id,
            None => *name == &*field.name,
        });
        let slot = slot
            .map(|(slot, _, name)| (*slot, *name))
            .filter(|(slot, _)| {
                let mut taken = resolved.iter().filter_map(|(slot, _)| *slot);
                !taken.any(|(other, _)| other == *slot)
            });
        resolved.push((slot, field.node));
    }
    resolved
}

type Fields = Vec<(Option<(Slot, &'static str)>, NodeId)>;

/// Reads a manifest list of any format version.
///
/// # Errors
/// [`Error::Corrupt`] naming the file, [`Error::Unsupported`] for its compression.
pub fn decode_list(path: &str, bytes: &[u8]) -> Result<Vec<ManifestFile>> {
    let container = Container::open(path, bytes)?;
    let Some((root, fields)) = container.schema.record(container.schema.root()) else {
        return Err(container.corrupt("its Avro schema is not a record"));
    };
    let fields = resolve(fields, SLOTS);
    for (slot, name) in [
        (Slot::Path, "manifest_path"),
        (Slot::SpecId, "partition_spec_id"),
    ] {
        let mut found = fields.iter().filter_map(|(found, _)| *found);
        if !found.any(|(found, _)| found == slot) {
            let why = format!("it has no field {name}, so it is no manifest list");
            return Err(container.corrupt(why));
        }
    }
    let (schema, blocks) = container.into_parts();
    let mut manifests = vec![];
    blocks.for_each(|cursor| {
        if manifests.len() >= MANIFESTS_MAX {
            return Err(Fault::new("it has more manifests than can be"));
        }
        if cursor.branch(&schema, schema.root())? != root {
            return Err(Fault::new("it has no value"));
        }
        manifests.push(manifest(cursor, &schema, &fields)?);
        Ok(())
    })?;
    Ok(manifests)
}

fn manifest(cursor: &mut Cursor<'_>, schema: &Schema, fields: &Fields) -> Read<ManifestFile> {
    let mut path = None;
    let mut spec_id = None;
    let mut file = ManifestFile::at(Arc::from(""));
    for (slot, node) in fields {
        let Some((slot, name)) = *slot else {
            cursor.skip(schema, *node)?;
            continue;
        };
        let read = match slot {
            Slot::Path => cursor
                .text(schema, *node)
                .map(|text| path = text.map(Arc::from)),
            Slot::SpecId => cursor.int(schema, *node).map(|id| spec_id = id),
            _ => manifest_field(cursor, schema, slot, *node, &mut file),
        };
        read.map_err(|fault| fault.within(name))?;
    }
    file.path = path.ok_or(Fault::new("it has no value").within("manifest_path"))?;
    file.spec_id = spec_id.ok_or(Fault::new("it has no value").within("partition_spec_id"))?;
    Ok(file)
}

fn manifest_field(
    cursor: &mut Cursor<'_>,
    schema: &Schema,
    slot: Slot,
    node: NodeId,
    file: &mut ManifestFile,
) -> Read<()> {
    match slot {
        Slot::Partitions => file.partitions = summaries(cursor, schema, node)?,
        Slot::KeyMetadata => {
            let key = cursor.binary(schema, node)?;
            file.encrypted = key.is_some_and(|key| !key.is_empty());
        }
        _ => {
            let number = cursor.long(schema, node)?;
            let count = number.and_then(|count| u64::try_from(count).ok());
            let rows = number.filter(|rows| *rows >= 0);
            match slot {
                Slot::Length => file.length_bytes = count.unwrap_or(0),
                Slot::Content => {
                    file.content = match number {
                        None | Some(0) => ManifestContent::Data,
                        Some(1) => ManifestContent::Deletes,
                        Some(_) => return Err(Fault::new("it is neither 0 nor 1")),
                    }
                }
                Slot::SequenceNumber => file.sequence_number = number.unwrap_or(0),
                Slot::MinSequenceNumber => file.min_sequence_number = number.unwrap_or(0),
                Slot::AddedSnapshot => file.added_snapshot_id = number,
                Slot::AddedFiles => file.added_files = count,
                Slot::ExistingFiles => file.existing_files = count,
                Slot::DeletedFiles => file.deleted_files = count,
                Slot::AddedRows => file.added_rows = rows,
                Slot::ExistingRows => file.existing_rows = rows,
                Slot::DeletedRows => file.deleted_rows = rows,
                Slot::FirstRowId => file.first_row_id = rows,
                _ => {}
            }
        }
    }
    Ok(())
}

fn summaries(
    cursor: &mut Cursor<'_>,
    schema: &Schema,
    node: NodeId,
) -> Read<Option<Vec<FieldSummary>>> {
    let node = cursor.branch(schema, node)?;
    let items = schema.items(node);
    let Some(items) = items.filter(|items| !schema.is_empty(*items)) else {
        cursor.skip(schema, node)?;
        return Ok(None);
    };
    let Some((record, fields)) = schema.record(items) else {
        return Err(Fault::new("its items are no records"));
    };
    let fields = resolve(fields, SUMMARY_SLOTS);
    let mut summaries = vec![];
    loop {
        let count = cursor.block()?;
        if count == 0 {
            return Ok(Some(summaries));
        }
        for _ in 0..count {
            if cursor.branch(schema, items)? == record {
                summaries.push(summary(cursor, schema, &fields)?);
            } else {
                return Err(Fault::new("an item has no value"));
            }
        }
    }
}

fn summary(cursor: &mut Cursor<'_>, schema: &Schema, fields: &Fields) -> Read<FieldSummary> {
    // A writer that does not say whether NULL occurs may have some.
    let mut summary = FieldSummary {
        contains_null: true,
        ..FieldSummary::default()
    };
    for (slot, node) in fields {
        match slot.map(|(slot, _)| slot) {
            Some(Slot::ContainsNull) => {
                summary.contains_null = cursor.boolean(schema, *node)?.unwrap_or(true);
            }
            Some(Slot::ContainsNan) => summary.contains_nan = cursor.boolean(schema, *node)?,
            Some(Slot::LowerBound) => {
                summary.lower_bound = cursor.binary(schema, *node)?.map(Box::from);
            }
            Some(Slot::UpperBound) => {
                summary.upper_bound = cursor.binary(schema, *node)?.map(Box::from);
            }
            _ => cursor.skip(schema, *node)?,
        }
    }
    Ok(summary)
}

/// The manifest locations in a snapshot's list, if the snapshot names its manifests itself (see
/// [`EMBEDDED_LIST_PREFIX`]).
///
/// # Errors
/// [`Error::Corrupt`] when what follows the prefix is not an array of texts.
pub fn embedded_paths(manifest_list: &str) -> Result<Option<Vec<String>>> {
    let Some(json) = manifest_list.strip_prefix(EMBEDDED_LIST_PREFIX) else {
        return Ok(None);
    };
    serde_json::from_str(json)
        .map(Some)
        .map_err(|error| Error::Corrupt {
            path: manifest_list.to_string(),
            why: format!("the snapshot's manifests are no list of locations: {error}"),
        })
}

/// Describes a manifest by its own header, where no list does.
///
/// # Errors
/// [`Error::Corrupt`] naming the manifest.
pub fn describe_by_header(path: Arc<str>, bytes: &[u8]) -> Result<ManifestFile> {
    let container = Container::open(&path, bytes)?;
    let spec_id = container.metadata("partition-spec-id").unwrap_or("0");
    let spec_id = spec_id.parse().map_err(|_| {
        container.corrupt(format!(
            "its header names partition spec {spec_id:?}, not a number"
        ))
    })?;
    let content = match container.metadata("content") {
        None | Some("data") => ManifestContent::Data,
        Some("deletes") => ManifestContent::Deletes,
        Some(other) => {
            let why = format!("its header says that it has {other:?}, not data or deletes");
            return Err(container.corrupt(why));
        }
    };
    Ok(ManifestFile {
        length_bytes: bytes.len() as u64,
        spec_id,
        content,
        ..ManifestFile::at(Arc::clone(&path))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::avro::tests::{file, long, text};
    use super::*;

    #[test]
    fn old_names_and_ids_mean_the_same() {
        let schema = r#"{"type":"record","name":"manifest_file","fields":[
            {"name":"where","type":"string","field-id":500},
            {"name":"partition_spec_id","type":"int"},
            {"name":"added_data_files_count","type":["null","int"]},
            {"name":"content","type":"string","field-id":999},
            {"name":"n","type":["null","int"],"field-id":505}]}"#;
        let record = [
            text(b"m.avro"),
            long(3),
            [long(1), long(7)].concat(),
            text(b"something else"),
            [long(1), long(0)].concat(),
        ]
        .concat();
        let list = decode_list("l", &file(&[("avro.schema", schema)], 1, &record)).unwrap();
        let expected = ManifestFile {
            spec_id: 3,
            added_files: Some(7),
            existing_files: Some(0),
            ..ManifestFile::at("m.avro".into())
        };
        assert_eq!(list, [expected]);
        assert!(list[0].may_have_live_files());
    }

    #[test]
    fn another_avro_file_is_no_manifest_list() {
        let error = decode_list("l", &file(&[("avro.schema", "\"int\"")], 0, b"")).unwrap_err();
        assert_eq!(error.code(), crate::error::Code::Corrupt);
        let schema = r#"{"type":"record","name":"r","fields":[]}"#;
        let error = decode_list("l", &file(&[("avro.schema", schema)], 0, b"")).unwrap_err();
        assert!(error.to_string().contains("manifest_path"), "{error}");
    }

    #[test]
    fn headers_describe_manifests_that_no_list_does() {
        let pairs = [
            ("avro.schema", "\"int\""),
            ("partition-spec-id", "4"),
            ("content", "deletes"),
        ];
        let found = describe_by_header("m".into(), &file(&pairs, 0, b"")).unwrap();
        assert_eq!(
            (found.spec_id, found.content),
            (4, ManifestContent::Deletes)
        );
        let found = describe_by_header("m".into(), &file(&pairs[..1], 0, b"")).unwrap();
        assert_eq!((found.spec_id, found.content), (0, ManifestContent::Data));
        let pairs = [("avro.schema", "\"int\""), ("partition-spec-id", "x")];
        assert!(describe_by_header("m".into(), &file(&pairs, 0, b"")).is_err());
    }

    #[test]
    fn embedded_lists_are_recognized() {
        assert_eq!(embedded_paths("s3://b/snap.avro").unwrap(), None);
        let paths = embedded_paths(r#"inshore-embedded:["a","b"]"#).unwrap();
        assert_eq!(paths, Some(vec!["a".to_string(), "b".to_string()]));
        assert!(embedded_paths("inshore-embedded:a").is_err());
    }
}
