//! Dealing the files of a scan out to the tasks of a stage.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileGroupPartitioner, FileScanConfig, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::unpack::is_unpacking;
use crate::scan::as_iceberg_scan;

/// The scan in a leaf that reads files of no table.
fn file_scan(plan: &dyn ExecutionPlan) -> Option<&FileScanConfig> {
    if as_iceberg_scan(plan).is_some() {
        return None;
    }
    let leaf = plan.downcast_ref::<DataSourceExec>()?;
    leaf.data_source().downcast_ref::<FileScanConfig>()
}

/// Whether a task may read a part of a file: Parquet always, lines only where the scan was split
/// already, which says that they may be.
fn splits(scan: &FileScanConfig) -> bool {
    let mut files = scan.file_groups.iter().flat_map(|group| group.iter());
    !is_unpacking(&scan.object_store_url)
        && (scan.file_source().downcast_ref::<ParquetSource>().is_some()
            || files.any(|file| file.range.is_some()))
}

/// Bytes that a scan of files reads, as far as more tasks make it quicker. None for other plans.
pub fn scan_bytes(plan: &dyn ExecutionPlan) -> Option<u64> {
    let scan = file_scan(plan)?;
    let sizes = scan
        .file_groups
        .iter()
        .flat_map(|group| group.iter())
        .map(PartitionedFile::effective_size);
    Some(sizes.sum())
}

/// One scan for each task, with its share of the files. None for other plans.
pub fn split_for_tasks(
    plan: &Arc<dyn ExecutionPlan>,
    tasks: usize,
) -> Option<Result<Vec<Arc<dyn ExecutionPlan>>>> {
    let scan = file_scan(plan.as_ref())?;
    let partitions = plan.output_partitioning().partition_count().max(1);
    let groups = partitions.saturating_mul(tasks.max(1));
    let split = splits(scan)
        .then(|| {
            FileGroupPartitioner::new()
                .with_target_partitions(groups)
                .with_repartition_file_min_size(0)
                .repartition_file_groups(&scan.file_groups)
        })
        .flatten();
    let dealt: Vec<FileGroup> = split.unwrap_or_else(|| by_files(scan, groups));
    // Every task has the same number of partitions; some may be empty.
    let mut shares = vec![vec![FileGroup::new(vec![]); partitions]; tasks.max(1)];
    for (at, group) in dealt.into_iter().enumerate() {
        let task = at % shares.len();
        let place = (at / shares.len()) % partitions;
        if let Some(share) = shares.get_mut(task).and_then(|share| share.get_mut(place)) {
            for file in group.into_inner() {
                share.push(file);
            }
        }
    }
    let scans = shares.into_iter().map(|share| {
        let mut scan = scan.clone();
        scan.file_groups = share;
        DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>
    });
    Some(Ok(scans.collect()))
}

/// Whole files, the largest first to the group that has least.
fn by_files(scan: &FileScanConfig, groups: usize) -> Vec<FileGroup> {
    let files = scan.file_groups.iter().flat_map(|group| group.iter());
    let mut files: Vec<PartitionedFile> = files.cloned().collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.effective_size()));
    let mut dealt: Vec<(u64, Vec<PartitionedFile>)> = vec![(0, vec![]); groups.max(1)];
    for file in files {
        if let Some(least) = dealt.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            least.0 += file.effective_size().max(1);
            least.1.push(file);
        }
    }
    dealt
        .into_iter()
        .map(|(_, files)| FileGroup::new(files))
        .collect()
}
