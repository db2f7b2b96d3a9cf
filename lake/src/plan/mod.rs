//! Planning a scan from manifests: which files of a snapshot have to be read.
//!
//! ```text
//! snapshot -> manifest list -> prune by partition summaries
//!          -> manifests (decoded in parallel, cached) -> prune by partition values and bounds
//!          -> files
//! ```

pub mod bounds;
mod cache;
mod metrics;
pub mod prune;
pub mod statistics;

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use iceberg::spec::{DataContentType, DataFileFormat, Schema, SnapshotRef, Transform};
use iceberg::table::Table;

pub use crate::manifest::{DataFileEntry, DecodedManifest};
pub use cache::{DEFAULT_CAPACITY_BYTES, ManifestCache};

use crate::manifest::{ManifestContent, ManifestFile, PartitionFields, PartitionSpecs};
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
    /// Bytes of all data files in the manifests that were opened.
    pub bytes_total: u64,
    /// Row groups of the data files left to read, as far as the manifests name them.
    pub row_groups: u64,
    /// Delete files of the snapshot.
    pub delete_files: u64,
}

/// The files of a scan.
#[derive(Clone, Debug, Default)]
pub struct FilePlan {
    /// Each file as its manifest and its place in it.
    pub files: Vec<(Arc<DecodedManifest>, usize)>,
    /// What pruning saved.
    pub counts: PlanCounts,
    /// The manifests of the snapshot's delete files; none when no data file is left.
    pub deletes: Vec<Arc<DecodedManifest>>,
    /// Partition specs without a field.
    pub unpartitioned: HashSet<i32>,
}

/// Finds the files of `snapshot` that may hold rows passing `filter`, and its delete files.
///
/// # Errors
/// [`Error::Unsupported`] when the snapshot has files that cannot be read;
/// [`Error::Corrupt`] or [`Error::Gone`] naming a broken or missing manifest.
pub async fn plan_files(
    table_name: &str,
    table: &Table,
    snapshot: &SnapshotRef,
    schema: &Schema,
    columns: &TableColumns,
    filter: Option<Arc<dyn PhysicalExpr>>,
    cache: &ManifestCache,
) -> Result<FilePlan> {
    find_files(table_name, table, snapshot, schema, columns, filter, cache)
        .await
        .map_err(|error| error.of_snapshot(table_name, snapshot.snapshot_id()))
}

async fn find_files(
    table_name: &str,
    table: &Table,
    snapshot: &SnapshotRef,
    schema: &Schema,
    columns: &TableColumns,
    filter: Option<Arc<dyn PhysicalExpr>>,
    cache: &ManifestCache,
) -> Result<FilePlan> {
    let metadata = table.metadata();
    let pruner = filter.and_then(|filter| Pruner::new(filter, columns, schema));
    let specs = PartitionSpecs::of(metadata);
    let list = cache.manifest_list(table, snapshot).await?;
    let mut counts = PlanCounts::default();
    let mut manifests: Vec<(&ManifestFile, &Arc<PartitionFields>)> = vec![];
    for manifest in list.iter() {
        if manifest.content != ManifestContent::Data || !manifest.may_have_live_files() {
            continue;
        }
        counts.manifests_total += 1;
        counts.files_total = counts.files_total.saturating_add(manifest.live_files());
        manifests.push((manifest, specs.of_manifest(table_name, manifest)?));
    }
    if let Some(pruner) = &pruner {
        let mut keep = pruner.keep_manifests(&manifests).into_iter();
        manifests.retain(|_| keep.next().unwrap_or(true));
    }
    counts.manifests_read = manifests.len() as u64;

    let loads: Vec<_> = manifests
        .into_iter()
        .map(|(manifest, spec)| cache.manifest(table.file_io(), manifest, spec).boxed())
        .collect();
    let decoded: Vec<Arc<DecodedManifest>> = stream::iter(loads)
        .buffered(CONCURRENT_MANIFESTS)
        .try_collect()
        .await?;

    let mut keep = pruner.map(|pruner| pruner.keep_files(&decoded).into_iter());
    let mut files = vec![];
    for manifest in decoded {
        for (index, entry) in manifest.entries.iter().enumerate() {
            check_readable(table_name, entry)?;
            counts.bytes_total = counts.bytes_total.saturating_add(entry.size_bytes);
            let keep = keep.as_mut().is_none_or(|keep| keep.next().unwrap_or(true));
            if keep {
                counts.files_read += 1;
                counts.row_groups += entry.split_offsets.len().max(1) as u64;
                counts.bytes_read = counts.bytes_read.saturating_add(entry.size_bytes);
                files.push((Arc::clone(&manifest), index));
            }
        }
    }
    let deletes = match files.is_empty() {
        true => vec![],
        false => read_deletes(table_name, table, &list, &specs, cache).await?,
    };
    let unpartitioned = metadata
        .partition_specs_iter()
        .filter(|spec| spec.fields().iter().all(|f| f.transform == Transform::Void))
        .map(|spec| spec.spec_id());
    Ok(FilePlan {
        files,
        counts,
        deletes,
        unpartitioned: unpartitioned.collect(),
    })
}

/// The delete files of a snapshot. Their manifests are not pruned by the filter: partitions of
/// deletes and data are compared file by file.
async fn read_deletes(
    table_name: &str,
    table: &Table,
    manifests: &[ManifestFile],
    specs: &PartitionSpecs,
    cache: &ManifestCache,
) -> Result<Vec<Arc<DecodedManifest>>> {
    let mut loads = vec![];
    for manifest in manifests {
        if manifest.content == ManifestContent::Deletes && manifest.may_have_live_files() {
            let spec = specs.of_manifest(table_name, manifest)?;
            loads.push(cache.manifest(table.file_io(), manifest, spec).boxed());
        }
    }
    stream::iter(loads)
        .buffered(CONCURRENT_MANIFESTS)
        .try_collect()
        .await
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
    let readable = [
        DataFileFormat::Parquet,
        DataFileFormat::Avro,
        DataFileFormat::Orc,
    ];
    if !readable.iter().any(|format| entry.format == *format) {
        return Err(unsupported(format!(
            "its format is {}; parquet, avro and orc are read",
            entry.format
        )));
    }
    if entry.encrypted {
        return Err(unsupported("it is encrypted".to_string()));
    }
    Ok(())
}
