//! Planning a scan from manifests: which files of a snapshot have to be read.
//!
//! ```text
//! snapshot -> manifest list -> prune by partition summaries
//!          -> manifests (decoded in parallel, cached) -> prune by partition values and bounds
//!          -> files
//! ```

pub mod bounds;
mod cache;
pub mod manifest;
pub mod prune;
pub mod statistics;

use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use iceberg::spec::{
    DataContentType, DataFileFormat, ManifestContentType, ManifestFile, SnapshotRef,
};
use iceberg::table::Table;

pub use cache::{DEFAULT_CAPACITY_BYTES, ManifestCache};
pub use manifest::{DataFileEntry, DecodedManifest};

use crate::scan::schema::TableColumns;
use crate::{Error, Result};
use prune::Pruner;

/// Manifests read at the same time for one scan.
const CONCURRENT_MANIFESTS: usize = 16;

/// How much pruning saved; shown in `EXPLAIN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanCounts {
    /// Data manifests of the snapshot.
    pub manifests_total: u64,
    /// Data manifests that were opened.
    pub manifests_read: u64,
    /// Live data files in all manifests, as far as the manifest list counts them.
    pub files_total: u64,
    /// Data files left to read.
    pub files_read: u64,
    /// Bytes of the data files left to read.
    pub bytes_read: u64,
}

/// The files of a scan.
#[derive(Clone, Debug, Default)]
pub struct FilePlan {
    /// Each file as its manifest and its place in it.
    pub files: Vec<(Arc<DecodedManifest>, usize)>,
    /// What pruning saved.
    pub counts: PlanCounts,
}

/// Finds the files of `snapshot` that may hold rows passing `filter`.
///
/// # Errors
/// [`Error::Unsupported`] when the snapshot has delete files or files that cannot be read;
/// [`Error::Corrupt`] or [`Error::NotFound`] naming a broken or missing manifest.
pub async fn plan_files(
    table_name: &str,
    table: &Table,
    snapshot: &SnapshotRef,
    columns: &TableColumns,
    filter: Option<Arc<dyn PhysicalExpr>>,
    cache: &ManifestCache,
) -> Result<FilePlan> {
    let metadata = table.metadata();
    let schema = metadata.current_schema();
    let pruner = filter.and_then(|filter| Pruner::new(filter, columns, schema));
    let list = cache.manifest_list(table, snapshot).await?;
    refuse_deletes(table_name, table, list.entries(), cache).await?;

    let mut counts = PlanCounts::default();
    let mut manifests: Vec<&ManifestFile> = vec![];
    for manifest in list.entries() {
        if manifest.content != ManifestContentType::Data || !may_have_live_files(manifest) {
            continue;
        }
        let spec = metadata
            .partition_spec_by_id(manifest.partition_spec_id)
            .ok_or_else(|| Error::Corrupt {
                path: manifest.manifest_path.clone(),
                why: format!(
                    "it names partition spec {}, which table {table_name} does not have",
                    manifest.partition_spec_id
                ),
            })?;
        counts.manifests_total += 1;
        counts.files_total += live_files(manifest);
        let keep = pruner
            .as_ref()
            .is_none_or(|pruner| pruner.keep_manifest(manifest, spec));
        if keep {
            manifests.push(manifest);
        }
    }
    counts.manifests_read = manifests.len() as u64;

    let loads: Vec<_> = manifests
        .into_iter()
        .map(|manifest| cache.manifest(table.file_io(), manifest).boxed())
        .collect();
    let decoded: Vec<Arc<DecodedManifest>> = stream::iter(loads)
        .buffered(CONCURRENT_MANIFESTS)
        .try_collect()
        .await?;

    let mut files = vec![];
    for manifest in decoded {
        let keep = pruner.as_ref().map(|pruner| pruner.keep_files(&manifest));
        for (index, entry) in manifest.entries.iter().enumerate() {
            check_readable(table_name, entry)?;
            let keep = keep
                .as_ref()
                .is_none_or(|keep| keep.get(index).copied().unwrap_or(true));
            if keep {
                counts.files_read += 1;
                counts.bytes_read += entry.size_bytes;
                files.push((Arc::clone(&manifest), index));
            }
        }
    }
    Ok(FilePlan { files, counts })
}

fn may_have_live_files(manifest: &ManifestFile) -> bool {
    manifest.has_added_files() || manifest.has_existing_files()
}

fn live_files(manifest: &ManifestFile) -> u64 {
    u64::from(manifest.added_files_count.unwrap_or(0))
        + u64::from(manifest.existing_files_count.unwrap_or(0))
}

/// Refuses a snapshot with live delete files: without applying them, deleted rows would come back.
async fn refuse_deletes(
    table_name: &str,
    table: &Table,
    manifests: &[ManifestFile],
    cache: &ManifestCache,
) -> Result<()> {
    for manifest in manifests {
        if manifest.content != ManifestContentType::Deletes || !may_have_live_files(manifest) {
            continue;
        }
        let decoded = cache.manifest(table.file_io(), manifest).await?;
        if let Some(entry) = decoded.entries.first() {
            let kind = match (entry.content, entry.format) {
                (DataContentType::EqualityDeletes, _) => "equality delete files",
                (_, DataFileFormat::Puffin) => "deletion vectors",
                _ => "position delete files",
            };
            return Err(Error::Unsupported {
                table: table_name.to_string(),
                what: "the current snapshot".to_string(),
                why: format!("it has {kind}, which are not applied yet ({})", entry.path),
            });
        }
    }
    Ok(())
}

fn check_readable(table_name: &str, entry: &DataFileEntry) -> Result<()> {
    let unsupported = |why: String| Error::Unsupported {
        table: table_name.to_string(),
        what: format!("data file {}", entry.path),
        why,
    };
    if entry.content != DataContentType::Data {
        return Err(unsupported(
            "a delete file stands among data files".to_string(),
        ));
    }
    if entry.format != DataFileFormat::Parquet {
        return Err(unsupported(format!(
            "its format is {}; only parquet is read",
            entry.format
        )));
    }
    if entry.encrypted {
        return Err(unsupported("it is encrypted".to_string()));
    }
    Ok(())
}
