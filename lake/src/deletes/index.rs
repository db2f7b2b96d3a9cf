//! Which delete files concern which data files (Iceberg specification, "Scan Planning").

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::Array;
use datafusion::execution::object_store::ObjectStoreUrl;
use iceberg::spec::{DataContentType, DataFileFormat, PrimitiveLiteral};
use object_store::path::Path;

use super::{DeleteFile, DeleteKind, EqualityGroup, FileDeletes};
use crate::manifest::{DataFileEntry, DecodedManifest, FileFormat};
use crate::{Error, Result};

/// Field id of the column `file_path` in position delete files (specification, "Reserved Field IDs").
pub const DELETE_FILE_PATH_ID: i32 = 2_147_483_546;

/// Partition of a file: its spec and its values.
type Partition = (i32, Vec<Option<PrimitiveLiteral>>);

/// What equality delete files have in common that make one group: the partition, unless they apply
/// everywhere, and the key columns.
type Scope = (Option<Partition>, Vec<i32>);

/// The delete files of a snapshot, by what they apply to.
#[derive(Debug, Default)]
pub struct DeleteIndex {
    /// Vectors and position deletes of a single data file, by its location.
    by_file: HashMap<Arc<str>, Vec<Arc<DeleteFile>>>,
    /// Other position deletes.
    by_partition: HashMap<Partition, Vec<Arc<DeleteFile>>>,
    /// Equality deletes of a partition.
    equality: HashMap<Partition, Vec<Arc<EqualityGroup>>>,
    /// Equality deletes written without partitioning: they apply everywhere.
    global: Vec<Arc<EqualityGroup>>,
    /// Delete files in all.
    count: u64,
}

/// Finds the store and path of a location.
pub type Address<'a> = &'a dyn Fn(&str) -> Result<(ObjectStoreUrl, Path)>;

impl DeleteIndex {
    /// Indexes the entries of all delete manifests of a snapshot. `unpartitioned` are the ids of
    /// partition specs without a field.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for encrypted delete files and formats that cannot be read;
    /// [`Error::Corrupt`] for entries that lack what the specification requires.
    pub fn new(
        table: &str,
        manifests: &[Arc<DecodedManifest>],
        unpartitioned: &HashSet<i32>,
        address: Address<'_>,
    ) -> Result<Self> {
        let mut index = Self::default();
        let mut equality: HashMap<Scope, Vec<Arc<DeleteFile>>> = HashMap::new();
        for manifest in manifests {
            for (place, entry) in manifest.entries.iter().enumerate() {
                check_readable(table, entry)?;
                index.count += 1;
                let kind = kind_of(manifest, place, entry)?;
                let file = Arc::new(delete_file(entry, kind, address)?);
                match &file.kind {
                    DeleteKind::Vector { data_file, .. }
                    | DeleteKind::Positions {
                        only: Some(data_file),
                    } => index
                        .by_file
                        .entry(Arc::clone(data_file))
                        .or_default()
                        .push(file),
                    DeleteKind::Positions { only: None } => index
                        .by_partition
                        .entry(manifest.partition_of(place))
                        .or_default()
                        .push(file),
                    DeleteKind::Equality => {
                        let mut ids = entry.equality_ids.to_vec();
                        ids.sort_unstable();
                        ids.dedup();
                        let scope = (!unpartitioned.contains(&manifest.spec_id))
                            .then(|| manifest.partition_of(place));
                        equality.entry((scope, ids)).or_default().push(file);
                    }
                }
            }
        }
        for ((scope, ids), mut files) in equality {
            files.sort_by_key(|file| file.sequence_number);
            let group = Arc::new(EqualityGroup {
                ids: ids.into(),
                files: files.into(),
            });
            match scope {
                Some(partition) => index.equality.entry(partition).or_default().push(group),
                None => index.global.push(group),
            }
        }
        Ok(index)
    }

    /// Number of delete files.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Key columns of all equality deletes, by field id.
    pub fn key_ids(&self) -> Vec<i32> {
        let groups = self.equality.values().flatten().chain(&self.global);
        let mut ids: Vec<i32> = groups.flat_map(|group| group.ids.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// What deletes rows of the data file at `place` of `manifest`.
    pub fn of_file(&self, manifest: &DecodedManifest, place: usize) -> FileDeletes {
        let Some(entry) = manifest.entries.get(place).filter(|_| !self.is_empty()) else {
            return FileDeletes::default();
        };
        let needs_partition = !self.by_partition.is_empty() || !self.equality.is_empty();
        let partition = needs_partition.then(|| manifest.partition_of(place));
        FileDeletes {
            positions: self.positions_of(entry, partition.as_ref()),
            equality: self.equality_of(entry, partition.as_ref()),
        }
    }

    /// Position deletes apply to files of the same or an earlier sequence number: they may delete
    /// rows that their own commit added.
    fn positions_of(
        &self,
        entry: &DataFileEntry,
        partition: Option<&Partition>,
    ) -> Arc<[Arc<DeleteFile>]> {
        let applies = |file: &&Arc<DeleteFile>| file.sequence_number >= entry.sequence_number;
        let named = self.by_file.get(&entry.path).map_or(&[][..], Vec::as_slice);
        let vector = named
            .iter()
            .filter(applies)
            .filter(|file| matches!(file.kind, DeleteKind::Vector { .. }))
            .max_by_key(|file| file.sequence_number);
        if let Some(vector) = vector {
            // It holds what earlier position deletes of its file said.
            return Arc::from([Arc::clone(vector)]);
        }
        let unnamed = partition
            .and_then(|partition| self.by_partition.get(partition))
            .map_or(&[][..], Vec::as_slice);
        named
            .iter()
            .chain(unnamed)
            .filter(applies)
            .cloned()
            .collect()
    }

    /// Equality deletes apply to files of an earlier sequence number only: rows that the same commit
    /// adds stay.
    fn equality_of(
        &self,
        entry: &DataFileEntry,
        partition: Option<&Partition>,
    ) -> Arc<[Arc<EqualityGroup>]> {
        let scoped = partition
            .and_then(|partition| self.equality.get(partition))
            .map_or(&[][..], Vec::as_slice);
        scoped
            .iter()
            .chain(&self.global)
            .filter(|group| group.last_sequence_number() > entry.sequence_number)
            .cloned()
            .collect()
    }
}

fn check_readable(table: &str, entry: &DataFileEntry) -> Result<()> {
    let unsupported = |why: &str| {
        Err(Error::Unsupported {
            table: table.to_owned(),
            what: format!("delete file {}", entry.path),
            why: why.to_owned(),
        })
    };
    match entry.content {
        _ if matches!(entry.format, FileFormat::Unknown(_)) => {
            unsupported(&format!("its format is {}", entry.format))
        }
        _ if entry.encrypted => unsupported("it is encrypted"),
        DataContentType::Data => unsupported("it is listed as a data file"),
        DataContentType::EqualityDeletes if entry.format == DataFileFormat::Puffin => {
            unsupported("equality deletes cannot be in a Puffin file")
        }
        _ => Ok(()),
    }
}

fn kind_of(manifest: &DecodedManifest, place: usize, entry: &DataFileEntry) -> Result<DeleteKind> {
    let corrupt = |why: &str| Error::Corrupt {
        path: manifest.path.to_string(),
        why: format!("delete file {}: {why}", entry.path),
    };
    if entry.content == DataContentType::EqualityDeletes {
        return match entry.equality_ids.is_empty() {
            true => Err(corrupt("it names no key columns (equality_ids)")),
            false => Ok(DeleteKind::Equality),
        };
    }
    if entry.format != DataFileFormat::Puffin {
        let only = entry
            .referenced_data_file
            .clone()
            .or_else(|| single_path(manifest, place));
        return Ok(DeleteKind::Positions { only });
    }
    let place = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    match (
        place(entry.content_offset),
        place(entry.content_size_bytes),
        &entry.referenced_data_file,
    ) {
        (Some(offset), Some(length_bytes), Some(data_file)) => Ok(DeleteKind::Vector {
            offset,
            length_bytes,
            data_file: Arc::clone(data_file),
        }),
        _ => Err(corrupt(
            "a deletion vector needs content_offset, content_size_in_bytes and \
             referenced_data_file",
        )),
    }
}

/// The data file of a position delete file whose bounds of `file_path` are one and the same.
fn single_path(manifest: &DecodedManifest, place: usize) -> Option<Arc<str>> {
    let metrics = manifest.columns.get(&DELETE_FILE_PATH_ID)?;
    if metrics.lower.is_null(place) || metrics.upper.is_null(place) {
        return None;
    }
    let lower = metrics.lower.value(place);
    (lower == metrics.upper.value(place))
        .then(|| std::str::from_utf8(lower).ok().map(Arc::from))
        .flatten()
}

fn delete_file(
    entry: &DataFileEntry,
    kind: DeleteKind,
    address: Address<'_>,
) -> Result<DeleteFile> {
    let (store, path) = address(&entry.path)?;
    let FileFormat::Known(format) = entry.format else {
        return Err(Error::Internal(format!("{} has no format", entry.path)));
    };
    Ok(DeleteFile {
        location: Arc::clone(&entry.path),
        store,
        path,
        format,
        size_bytes: entry.size_bytes,
        record_count: entry.record_count,
        sequence_number: entry.sequence_number,
        kind,
    })
}
