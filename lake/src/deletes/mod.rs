//! Rows that a snapshot has deleted from its data files.
//!
//! ```text
//! planning   delete manifests -> DeleteIndex -> FileDeletes of each data file      (index)
//! reading    positions and vectors -> bitmap of rows               (positions, vector, rows)
//!            bitmap of rows        -> the reader's access plan, or a mask          (live)
//!            equality files        -> hash index of keys -> filter over batches    (equality)
//! ```
//!
//! Delete files are read where the data files are, once for each process as long as the cache
//! holds them. The cost grows with the rows deleted: a bitmap skips them before they are decoded where
//! they stand together, and however many equality files there are, a row is looked up once for each set of key columns.

mod cache;
mod equality;
mod index;
mod live;
mod positions;
mod rows;
pub mod vector;

use std::fmt;
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use iceberg::spec::DataFileFormat;
use object_store::path::Path;

pub use cache::{DEFAULT_CAPACITY_BYTES, DeleteCache, DeleteReader};
pub use equality::{EqualityIndex, KeyFilter, KeyPath, key_path};
pub use index::DeleteIndex;
pub use live::{Live, LiveMask, MaskedGroup, has_page_index, live};
pub use rows::DeletedRows;

/// How a delete file names the rows it deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteKind {
    /// Rows of (file path, position). `only` is the one data file it speaks of, when that is known.
    Positions {
        /// Location of that data file, as its manifest spells it.
        only: Option<Arc<str>>,
    },
    /// A bitmap of positions in one data file, at a place in a Puffin file.
    Vector {
        /// First byte of the blob.
        offset: u64,
        /// Length of the blob in bytes.
        length_bytes: u64,
        /// Location of the data file.
        data_file: Arc<str>,
    },
    /// Rows of key values.
    Equality,
}

/// A delete file, as a scan refers to it.
#[derive(Clone, PartialEq)]
pub struct DeleteFile {
    /// The location as the manifest spells it.
    pub location: Arc<str>,
    /// The store it lies in.
    pub store: ObjectStoreUrl,
    /// Its path in the store.
    pub path: Path,
    /// Its format.
    pub format: DataFileFormat,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Rows it deletes, as the writer counted.
    pub record_count: u64,
    /// Its data sequence number.
    pub sequence_number: i64,
    /// How it names rows.
    pub kind: DeleteKind,
}

impl fmt::Debug for DeleteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeleteFile({}, {:?})", self.location, self.kind)
    }
}

/// Equality delete files that share a scope and key columns, and so one index of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct EqualityGroup {
    /// Field ids of the key columns, sorted.
    pub ids: Box<[i32]>,
    /// The files, in the order of their sequence numbers.
    pub files: Box<[Arc<DeleteFile>]>,
}

impl EqualityGroup {
    /// Sequence number of the latest file: data files of this or a later one are not affected.
    pub fn last_sequence_number(&self) -> i64 {
        self.files.last().map_or(0, |file| file.sequence_number)
    }
}

/// What deletes rows of one data file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileDeletes {
    /// Position delete files, or one deletion vector.
    pub positions: Arc<[Arc<DeleteFile>]>,
    /// Equality deletes; each group has files with a greater sequence number than the data file's.
    pub equality: Arc<[Arc<EqualityGroup>]>,
}

impl FileDeletes {
    /// Whether no row of the file is deleted.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty() && self.equality.is_empty()
    }
}
