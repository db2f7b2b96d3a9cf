//! What a finished query did, read off its plan.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{Metric, MetricValue, MetricsSet};
use datafusion_distributed::{
    DISTRIBUTED_DATAFUSION_TASK_ID_LABEL, DistributedExec, DistributedMetricsFormat,
    NetworkBoundaryExt, rewrite_distributed_plan_with_metrics,
};
use url::Url;

use crate::distribute::QueryWorkers;

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

/// One task of a query: the coordinator's own has stage 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFigures {
    /// The stage's number.
    pub stage: usize,
    /// The task's number within its stage.
    pub task: usize,
    /// The worker that it was given to.
    pub worker: Option<Url>,
    /// What it did, once it is known.
    pub measured: Option<TaskTotals>,
}

/// What a task did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskTotals {
    /// Rows that it handed on.
    pub rows: u64,
    /// Bytes read from the lake's data files.
    pub bytes_read: u64,
    /// Encoded bytes that it got from other nodes.
    pub bytes_received: u64,
}

/// What a plan that ran did.
#[derive(Clone, Debug)]
pub struct Measured {
    /// In total.
    pub totals: QueryTotals,
    /// By task, in the order of [`tasks`].
    pub tasks: Vec<TaskFigures>,
}

/// The tasks of a plan, known before it runs, and the workers that they are for.
pub fn tasks(
    plan: &Arc<dyn ExecutionPlan>,
    workers: Option<&QueryWorkers>,
) -> Result<Vec<TaskFigures>> {
    let mut tasks = vec![TaskFigures {
        stage: 0,
        task: 0,
        worker: None,
        measured: None,
    }];
    plan.apply(|node| {
        if let Some(boundary) = node.as_network_boundary() {
            let stage = boundary.input_stage();
            let mut urls = workers.map(|workers| workers.assigned(stage.task_count()));
            tasks.extend((0..stage.task_count()).map(|task| TaskFigures {
                stage: stage.num(),
                task,
                worker: urls.as_mut().and_then(Iterator::next),
                measured: None,
            }));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tasks)
}

/// What a plan that ran did. Workers report when the query ends; none if not all of them did
/// within `patience`, as a planned task that never ran does not (datafusion-distributed #739).
pub async fn measured(
    plan: Arc<dyn ExecutionPlan>,
    patience: Duration,
) -> Result<Option<Measured>> {
    let mut totals = shape(&plan)?;
    let mut tasks = tasks(&plan, None)?;
    let rewritten = match plan.downcast_ref::<DistributedExec>() {
        Some(_) => {
            let rewritten = rewrite_distributed_plan_with_metrics(
                Arc::clone(&plan),
                DistributedMetricsFormat::PerTask,
            );
            match tokio::time::timeout(patience, rewritten).await {
                Ok(rewritten) => rewritten?,
                Err(_) => return Ok(None),
            }
        }
        None => plan,
    };
    let mut by_task = HashMap::new();
    add_stage(&rewritten, 0, &mut by_task);
    for (place, figures) in &by_task {
        totals.bytes_read += figures.bytes_read;
        totals.bytes_exchanged += figures.bytes_received;
        let mut tasks = tasks.iter_mut();
        if let Some(task) = tasks.find(|task| (task.stage, task.task) == *place) {
            task.measured = Some(*figures);
        }
    }
    Ok(Some(Measured { totals, tasks }))
}

/// Adds up the figures of a stage whose plan has `root` at its top, and of the stages below.
fn add_stage(
    root: &Arc<dyn ExecutionPlan>,
    stage: usize,
    by_task: &mut HashMap<(usize, usize), TaskTotals>,
) {
    let counting = first_counting(root);
    let mut pending = vec![root];
    while let Some(node) = pending.pop() {
        let boundary = node.as_network_boundary();
        for metric in node.metrics().iter().flat_map(MetricsSet::iter) {
            let figures = by_task.entry((stage, task_of(metric))).or_default();
            let value = value_of(metric.value());
            match metric.value().name() {
                "bytes_scanned" => figures.bytes_read += value,
                "bytes_transferred" if boundary.is_some() => figures.bytes_received += value,
                "output_rows" if Arc::ptr_eq(node, counting) => figures.rows += value,
                _ => {}
            }
        }
        match boundary {
            Some(boundary) => {
                for child in node.children() {
                    add_stage(child, boundary.input_stage().num(), by_task);
                }
            }
            None => pending.extend(node.children()),
        }
    }
}

/// The topmost node that counts its rows.
fn first_counting(root: &Arc<dyn ExecutionPlan>) -> &Arc<dyn ExecutionPlan> {
    let counts = |node: &Arc<dyn ExecutionPlan>| {
        let metrics = node.metrics();
        let mut metrics = metrics.iter().flat_map(MetricsSet::iter);
        metrics.any(|metric| metric.value().name() == "output_rows")
    };
    let mut node = root;
    loop {
        match node.children().as_slice() {
            [child] if !counts(node) && !node.is_network_boundary() => node = child,
            _ => return node,
        }
    }
}

fn task_of(metric: &Metric) -> usize {
    let mut labels = metric.labels().iter();
    let label = labels.find(|label| label.name() == DISTRIBUTED_DATAFUSION_TASK_ID_LABEL);
    label
        .and_then(|label| label.value().parse().ok())
        .unwrap_or_default()
}

fn value_of(value: &MetricValue) -> u64 {
    match value {
        MetricValue::Custom { value, .. } => value.as_usize() as u64,
        value => value.as_usize() as u64,
    }
}
