//! Manifest lists and manifests, from their bytes.
//!
//! ```text
//! avro       container files and their values, walked by a compiled schema
//! list       manifest list -> ManifestFile
//! decode     manifest      -> DecodedManifest (entries, metrics, partition)
//! bounds     serialized bounds -> Arrow arrays of the column's type
//! ```

mod avro;
pub mod bounds;
mod decode;
pub mod entries;
pub mod list;
pub mod metrics;
pub mod partition;
mod schema;

pub use bounds::bound_literal;
pub use entries::{DataFileEntry, DecodedManifest, Entries, EntryStatus, FileFormat};
pub use list::{EMBEDDED_LIST_PREFIX, FieldSummary, ManifestContent, ManifestFile};
pub use metrics::ColumnMetrics;
pub use partition::{PartitionColumn, PartitionField, PartitionFields, PartitionSpecs};
