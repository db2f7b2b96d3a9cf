//! Decoded manifests in a compact, columnar form: what planning needs and nothing else.
//!
//! Metrics are kept as one Arrow array per column over all files of a manifest, so that pruning is
//! vectorised and a cached manifest of thousands of files costs a few allocations per column.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use iceberg::spec::{DataContentType, DataFileFormat, PrimitiveLiteral, PrimitiveType, Transform};

use super::decode::decode;
use super::list::ManifestFile;
use super::metrics::ColumnMetrics;
use super::partition::{PartitionColumn, PartitionFields};
use crate::Result;
use crate::plan::bounds::primitive_to_scalar;

/// Which entries of a manifest are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Entries {
    /// Those whose file belongs to the snapshot.
    #[default]
    Live,
    /// Also those that say that a file was removed.
    All,
}

/// What a commit did to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryStatus {
    /// It was there before, and still is.
    Existing,
    /// It was added.
    Added,
    /// It was removed.
    Deleted,
}

impl EntryStatus {
    /// The status's number in a manifest (specification, "Manifests").
    pub fn code(self) -> i32 {
        match self {
            Self::Existing => 0,
            Self::Added => 1,
            Self::Deleted => 2,
        }
    }
}

/// The format of a file. One that is not known makes only that file unreadable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// A format of the specification.
    Known(DataFileFormat),
    /// Any other, as the manifest spells it.
    Unknown(Arc<str>),
}

impl FileFormat {
    /// The format of this name, in any case.
    pub fn of(name: &str) -> Self {
        name.parse()
            .map_or_else(|_| Self::Unknown(Arc::from(name)), Self::Known)
    }
}

impl PartialEq<DataFileFormat> for FileFormat {
    fn eq(&self, other: &DataFileFormat) -> bool {
        matches!(self, Self::Known(format) if format == other)
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(format) => format.fmt(f),
            Self::Unknown(name) => write!(f, "{name:?}"),
        }
    }
}

/// One data or delete file of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFileEntry {
    /// What the commit of [`Self::snapshot_id`] did to the file.
    pub status: EntryStatus,
    /// The snapshot that added the file, or that removed it; inherited from the manifest where the
    /// entry has none.
    pub snapshot_id: Option<i64>,
    /// Full location, as the manifest spells it.
    pub path: Arc<str>,
    /// What the file holds.
    pub content: DataContentType,
    /// The file's format.
    pub format: FileFormat,
    /// Whole size in bytes.
    pub size_bytes: u64,
    /// Rows in the file; deleted positions in a deletion vector.
    pub record_count: u64,
    /// Data sequence number, inherited from the manifest where the entry has none.
    pub sequence_number: i64,
    /// Sequence number of the commit that added the file, inherited in the same way.
    pub file_sequence_number: Option<i64>,
    /// Row-group starts in bytes from the file's start; empty when unknown.
    pub split_offsets: Box<[i64]>,
    /// Sort order id, if the writer gave one.
    pub sort_order_id: Option<i32>,
    /// Field ids of the columns by which an equality delete file deletes; empty for other files.
    pub equality_ids: Box<[i32]>,
    /// Row id of the file's first row (version 3), inherited where the entry has none.
    pub first_row_id: Option<i64>,
    /// The one data file that a position delete file is about; always there for deletion vectors.
    pub referenced_data_file: Option<Arc<str>>,
    /// Where in the file a deletion vector begins, in bytes.
    pub content_offset: Option<i64>,
    /// How many bytes it takes.
    pub content_size_bytes: Option<i64>,
    /// Whether the file has encryption keys.
    pub encrypted: bool,
}

/// A decoded manifest.
#[derive(Clone, Debug)]
pub struct DecodedManifest {
    /// Where it was read from.
    pub path: Arc<str>,
    /// The partition spec its files were written with.
    pub spec_id: i32,
    /// Its entries, in the order of the file.
    pub entries: Vec<DataFileEntry>,
    /// Metrics by field id.
    pub columns: BTreeMap<i32, ColumnMetrics>,
    /// Partition fields in the order of the spec; one that the manifest lacks is left out.
    pub partitions: Vec<PartitionColumn>,
}

impl DecodedManifest {
    /// Reads a manifest of any format version. `file` is what its list says of it, `spec` the
    /// partition spec of that number.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] naming the file, [`crate::Error::Unsupported`] for its compression.
    pub fn decode(
        file: &ManifestFile,
        bytes: &[u8],
        spec: &PartitionFields,
        which: Entries,
    ) -> Result<Self> {
        decode(file, bytes, spec, which)
    }

    /// Bytes this takes in memory, for the cache's weight.
    pub fn memory_bytes(&self) -> usize {
        let entries: usize = self
            .entries
            .iter()
            .map(|e| {
                let referenced = e.referenced_data_file.as_ref().map_or(0, |path| path.len());
                size_of::<DataFileEntry>()
                    + e.path.len()
                    + e.split_offsets.len() * 8
                    + e.equality_ids.len() * 4
                    + referenced
            })
            .sum();
        let columns: usize = self.columns.values().map(ColumnMetrics::memory_bytes).sum();
        let partitions: usize = self
            .partitions
            .iter()
            .map(PartitionColumn::memory_bytes)
            .sum();
        size_of::<Self>() + entries + columns + partitions
    }

    /// The partition of one file: its spec and its values.
    pub fn partition_of(&self, entry: usize) -> (i32, Vec<Option<PrimitiveLiteral>>) {
        let values = self.partitions.iter().map(|column| {
            let value = column.values.get(entry);
            value.cloned().flatten()
        });
        (self.spec_id, values.collect())
    }

    /// The partition values of one file that are not NULL, by partition field id.
    pub fn partition_scalars(&self, entry: usize) -> HashMap<i32, ScalarValue> {
        self.partitions
            .iter()
            .filter_map(|column| {
                let value = column.values.get(entry)?.as_ref()?;
                Some((
                    column.field_id,
                    primitive_to_scalar(value, &column.value_type)?,
                ))
            })
            .collect()
    }

    /// Values of identity partition fields of one file, by source field id. NULLs are left out.
    pub fn identity_values(&self, entry: usize) -> HashMap<i32, (PrimitiveType, PrimitiveLiteral)> {
        self.partitions
            .iter()
            .filter(|column| column.transform == Transform::Identity)
            .filter_map(|column| {
                let value = column.values.get(entry)?.clone()?;
                Some((column.source_id, (column.value_type.clone(), value)))
            })
            .collect()
    }
}
