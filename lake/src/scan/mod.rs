//! Scanning: DataFusion's Parquet reader over the files of an Iceberg table.
//!
//! ```text
//! DataSourceExec
//!   FileScanConfig      pieces of files, balanced over partitions (split)
//!     IcebergSource     names files in errors, keeps footers, knows field ids (source, reader)
//!       ParquetSource   DataFusion's own: pruning, late materialisation, dynamic filters
//! ```
//!
//! For each file the table's columns are matched with the file's by field id (`mapping`, `adapter`)
//! and nested columns are converted (`convert`).

pub mod adapter;
pub mod convert;
pub mod mapping;
pub mod metadata_columns;
mod morsel;
mod opening;
mod reader;
mod row_count;
mod rows;
pub mod schema;
mod source;
mod split;

use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::common::config::{ConfigExtension, ConfigOptions};
use datafusion::common::extensions_options;
use datafusion::common::stats::Precision;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;

pub(crate) use morsel::{name_file, panicked};
pub(crate) use reader::check;
pub use row_count::RowCountExec;
pub use source::{IcebergSource, ScanEnv, ScanFile, ScanInfo};
pub(crate) use split::{groups, piece_bytes, ranges};

extensions_options! {
    /// Settings of scans, under the prefix `lake`.
    pub struct ScanOptions {
        /// Largest piece of a file that one partition reads at a time, in bytes. A row group is
        /// never cut.
        pub target_piece_bytes: u64, default = 64 * 1024 * 1024
        /// Pieces are not made smaller than this to have more of them, in bytes.
        pub least_piece_bytes: u64, default = 8 * 1024 * 1024
        /// A scan has at least this many partitions, empty ones if need be. A plan over a single
        /// partition lacks the exchanges that make it distributable.
        pub min_partitions: usize, default = 1
        /// Statistics are attached to single files up to this number of files times columns; they
        /// let dynamic filters skip files.
        pub file_statistics_max: usize, default = 500_000
        /// Whether manifests and files are pruned by the filter. Off only to test pruning.
        pub prune: bool, default = true
    }
}

impl ConfigExtension for ScanOptions {
    const PREFIX: &'static str = "lake";
}

impl ScanOptions {
    /// The session's settings, or the defaults when none were registered.
    pub fn of(config: &ConfigOptions) -> Self {
        config
            .extensions
            .get::<ScanOptions>()
            .cloned()
            .unwrap_or_default()
    }
}

/// The scan in `plan`, if it is one of ours.
pub fn as_iceberg_scan(plan: &dyn ExecutionPlan) -> Option<&IcebergSource> {
    scan_config(plan).map(|(_, source)| source)
}

/// The scan's configuration and source, if `plan` is one of ours.
pub(crate) fn scan_config(plan: &dyn ExecutionPlan) -> Option<(&FileScanConfig, &IcebergSource)> {
    let exec = plan.downcast_ref::<DataSourceExec>()?;
    let config = exec.data_source().downcast_ref::<FileScanConfig>()?;
    let source = config.file_source.downcast_ref::<IcebergSource>()?;
    Some((config, source))
}

/// Estimated bytes that a scan reads from the lake: of the projected columns, after pruning.
pub fn scan_bytes(plan: &dyn ExecutionPlan) -> Option<u64> {
    let (config, _) = scan_config(plan)?;
    let pieces = config.file_groups.iter().flat_map(FileGroup::iter);
    Some(pieces.map(split::piece_weight).sum())
}

/// Splits a scan for `task_count` tasks: one variant each, with the schema and the number of
/// partitions of the original. Every piece is in exactly one variant. `None` when `plan` is not a
/// scan of ours.
pub fn split_for_tasks(
    plan: &Arc<dyn ExecutionPlan>,
    task_count: usize,
) -> Option<Result<Vec<Arc<dyn ExecutionPlan>>>> {
    let (config, _) = scan_config(plan.as_ref())?;
    let task_count = task_count.max(1);
    let partitions = config.file_groups.len().max(1);
    let pieces: Vec<PartitionedFile> = config
        .file_groups
        .iter()
        .flat_map(FileGroup::iter)
        .cloned()
        .collect();
    let total: u64 = pieces.iter().map(split::piece_weight).sum();
    let variants = split::balance(pieces, task_count)
        .into_iter()
        .map(|pieces| {
            let weight: u64 = pieces.iter().map(split::piece_weight).sum();
            let groups = split::balance(pieces, partitions)
                .into_iter()
                .map(FileGroup::new)
                .collect();
            let statistics = share(config.statistics(), weight, total);
            let variant = FileScanConfigBuilder::from(config.clone())
                .with_file_groups(groups)
                .with_statistics(statistics)
                .build();
            let exec: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(variant);
            exec
        })
        .collect();
    Some(Ok(variants))
}

/// Statistics of a part of a scan: sizes in proportion, and nothing exact any more.
fn share(statistics: Statistics, weight: u64, total: u64) -> Statistics {
    let scale = |precision: Precision<usize>| {
        precision.to_inexact().map(|value| {
            let part = value as u128 * u128::from(weight) / u128::from(total.max(1));
            usize::try_from(part).unwrap_or(usize::MAX)
        })
    };
    let mut statistics = statistics.to_inexact();
    statistics.num_rows = scale(statistics.num_rows);
    statistics.total_byte_size = scale(statistics.total_byte_size);
    for column in &mut statistics.column_statistics {
        column.null_count = scale(column.null_count);
        column.byte_size = scale(column.byte_size);
    }
    statistics
}
