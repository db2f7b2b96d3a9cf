//! What a finished query did, read off its plan.

use std::sync::Arc;
use std::time::Duration;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use datafusion_distributed::{
    DistributedExec, DistributedMetricsFormat, NetworkBoundaryExt,
    rewrite_distributed_plan_with_metrics,
};

/// Totals of one query over all its stages and tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryTotals {
    /// Stages, the one on the coordinator included.
    pub stages: u64,
    /// Tasks over all stages, the coordinator's included.
    pub tasks: u64,
    /// Bytes read from the lake's data files.
    pub bytes_read: u64,
    /// Encoded bytes that went from one node to another.
    pub bytes_exchanged: u64,
}

/// Stages and tasks of a plan, known before it runs.
pub fn shape(plan: &Arc<dyn ExecutionPlan>) -> Result<QueryTotals> {
    let mut totals = QueryTotals {
        stages: 1,
        tasks: 1,
        ..QueryTotals::default()
    };
    plan.apply(|node| {
        if let Some(boundary) = node.as_network_boundary() {
            totals.stages += 1;
            totals.tasks += boundary.input_stage().task_count() as u64;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(totals)
}

/// Totals of a plan that ran. Workers report when the query ends; none if not all of them did
/// within `patience`, as a planned task that never ran does not (datafusion-distributed #739).
pub async fn totals(
    plan: Arc<dyn ExecutionPlan>,
    patience: Duration,
) -> Result<Option<QueryTotals>> {
    let mut totals = shape(&plan)?;
    let measured = match plan.downcast_ref::<DistributedExec>() {
        Some(_) => {
            let rewritten = rewrite_distributed_plan_with_metrics(
                Arc::clone(&plan),
                DistributedMetricsFormat::Aggregated,
            );
            match tokio::time::timeout(patience, rewritten).await {
                Ok(rewritten) => rewritten?,
                Err(_) => return Ok(None),
            }
        }
        None => plan,
    };
    measured.apply(|node| {
        if let Some(metrics) = node.metrics() {
            totals.bytes_read += sum(&metrics, "bytes_scanned");
            if node.is_network_boundary() {
                totals.bytes_exchanged += sum(&metrics, "bytes_transferred");
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(Some(totals))
}

fn sum(metrics: &MetricsSet, name: &str) -> u64 {
    metrics
        .iter()
        .filter(|metric| metric.value().name() == name)
        .map(|metric| match metric.value() {
            MetricValue::Custom { value, .. } => value.as_usize() as u64,
            value => value.as_usize() as u64,
        })
        .sum()
}
