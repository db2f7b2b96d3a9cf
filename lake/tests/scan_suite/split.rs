//! Cutting scans into pieces, partitions and tasks.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect};
use datafusion::prelude::SessionConfig;
use inshore_lake::scan::{ScanOptions, scan_bytes, split_for_tasks};

use crate::pruning::find_scan;
use crate::tables::{ROWS, Sales};

/// Small pieces, so that the small files of a test have several.
pub fn small_pieces(partitions: usize) -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(partitions);
    let mut options = ScanOptions::default();
    options.target_piece_bytes = 2000;
    options.least_piece_bytes = 1000;
    config.options_mut().extensions.insert(options);
    config
}

/// How often each piece occurs.
fn pieces(plan: &Arc<dyn ExecutionPlan>) -> HashMap<(String, i64, i64), usize> {
    let exec = plan.downcast_ref::<DataSourceExec>().unwrap();
    let config = exec.data_source().downcast_ref::<FileScanConfig>().unwrap();
    let mut pieces = HashMap::new();
    for piece in config.file_groups.iter().flat_map(|group| group.iter()) {
        let range = piece.range.as_ref().map_or((0, -1), |r| (r.start, r.end));
        let key = (piece.object_meta.location.to_string(), range.0, range.1);
        *pieces.entry(key).or_insert(0) += 1;
    }
    pieces
}

#[tokio::test]
async fn tasks_share_the_pieces_and_each_row_is_read_once() {
    let sales = Sales::new().await;
    let ctx = sales.session(small_pieces(3));
    let plan = ctx
        .sql("SELECT id, tags FROM sales WHERE id >= 0")
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let scan = find_scan(&plan).unwrap();
    let original = pieces(&scan);
    assert!(original.len() > 24, "{} pieces", original.len());
    assert_eq!(scan.output_partitioning().partition_count(), 3);

    for tasks in [1, 2, 5] {
        let variants = split_for_tasks(&scan, tasks).unwrap().unwrap();
        assert_eq!(variants.len(), tasks);
        let mut together = HashMap::new();
        let mut rows = 0;
        let mut bytes = vec![];
        for variant in &variants {
            assert_eq!(variant.schema(), scan.schema());
            assert_eq!(variant.output_partitioning().partition_count(), 3);
            for (piece, count) in pieces(variant) {
                *together.entry(piece).or_insert(0) += count;
            }
            bytes.push(scan_bytes(variant.as_ref()).unwrap());
            let batches = collect(Arc::clone(variant), ctx.task_ctx()).await.unwrap();
            rows += batches.iter().map(|b| b.num_rows()).sum::<usize>();
        }
        assert_eq!(together, original);
        assert_eq!(rows, 12 * ROWS as usize);
        let (least, most) = (bytes.iter().min().unwrap(), bytes.iter().max().unwrap());
        assert!(most - least <= most / 4 + 2000, "unbalanced: {bytes:?}");
    }
}

#[tokio::test]
async fn datafusion_does_not_cut_pieces_again() {
    let sales = Sales::new().await;
    let ctx = sales.session(SessionConfig::new().with_target_partitions(2));
    let plan = ctx
        .sql("SELECT id FROM sales")
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let scan = find_scan(&plan).unwrap();
    let config = ctx.state().config_options().as_ref().clone();
    assert!(scan.repartitioned(16, &config).unwrap().is_none());
}

#[tokio::test]
async fn every_partition_count_gives_the_same_rows() {
    let sales = Sales::new().await;
    for partitions in [1, 2, 7, 64] {
        let ctx = sales.session(small_pieces(partitions));
        let batches = ctx
            .sql("SELECT count(*), count(DISTINCT id), sum(id) FROM sales WHERE id >= 0")
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        let found = crate::expected::rows(&batches);
        let n = 12 * ROWS;
        let expected = [n, n, n * (n - 1) / 2].map(|v| Some(v.to_string()));
        assert_eq!(found[0], expected);
    }
}
