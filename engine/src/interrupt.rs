//! Joins that can be stopped.
//!
//! DataFusion's operators give way to other tasks, and so to being cancelled, at the leaves of a plan.
//! A join that makes many rows of few does not come to its leaves for a long time, and whoever adds
//! its rows up takes them all in one go: the thread is gone, and with enough of such partitions the
//! whole node does not answer any more. So
//!
//! - [`YieldingJoins`] has every join, and every unnesting, give way between its batches;
//! - [`interruptible`] has a nested loop join look whether its statement is still wanted, and leave
//!   its thread's other work to another thread, between two pieces of a batch: where its condition
//!   lets nothing through there may be no batch for hours.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion_distributed::{DistributedExec, NetworkBoundaryExt};
use inshore_proto::error::{Code, RetryVerdict, WireError};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_util::sync::CancellationToken;

use crate::transport::error::into_datafusion;

tokio::task_local! {
    /// Cancelled when the task whose plan is being decoded is over.
    static TASK_OVER: CancellationToken;
}

/// How long a condition may be at work before its thread's other work goes to another.
const POLITE: Duration = Duration::from_millis(20);

/// Has joins give way between their batches.
#[derive(Debug, Default)]
pub struct YieldingJoins;

impl PhysicalOptimizerRule for YieldingJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = plan.transform_up(|node| {
            let is_join = node.is::<CrossJoinExec>()
                || node.is::<NestedLoopJoinExec>()
                || node.is::<HashJoinExec>()
                || node.is::<SortMergeJoinExec>()
                || node.is::<UnnestExec>();
            Ok(match is_join {
                true => Transformed::yes(Arc::new(CooperativeExec::new(node)) as _),
                false => Transformed::no(node),
            })
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &str {
        "yielding_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Runs `work`, which decodes the plan of a task. The plan is made [`interruptible`] by `over`.
pub async fn decoding<T>(over: CancellationToken, work: impl Future<Output = T>) -> T {
    TASK_OVER.scope(over, work).await
}

/// The plan, interruptible when it is decoded in [`decoding`].
pub fn interruptible_task(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match TASK_OVER.try_with(CancellationToken::clone) {
        Ok(over) => interruptible(plan, &over),
        Err(_) => Ok(plan),
    }
}

/// Has the plan's nested loop joins end when `over` is cancelled. The plan can be run here, and not be
/// sent any more; a distributed one stays as it is, since its stages are changed where they arrive.
pub fn interruptible(
    plan: Arc<dyn ExecutionPlan>,
    over: &CancellationToken,
) -> Result<Arc<dyn ExecutionPlan>> {
    let is_wanted = |node: &Arc<dyn ExecutionPlan>| {
        let join = node.downcast_ref::<NestedLoopJoinExec>();
        Ok(join.is_some_and(|join| join.filter().is_some()))
    };
    if plan.is::<DistributedExec>() || !plan.exists(|node| is_wanted(node))? {
        return Ok(plan);
    }
    let plan = plan.transform_down(|node| {
        // What lies below one runs in another task.
        if node.is_network_boundary() {
            return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
        }
        let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else {
            return Ok(Transformed::no(node));
        };
        let Some(filter) = join.filter() else {
            return Ok(Transformed::no(node));
        };
        let condition: Arc<dyn PhysicalExpr> = Arc::new(Interruptible {
            inner: Arc::clone(filter.expression()),
            over: over.clone(),
            began: Instant::now(),
            last_polite_ms: AtomicU64::new(0),
        });
        let columns = filter.column_indices().to_vec();
        let filter = JoinFilter::new(condition, columns, Arc::clone(filter.schema()));
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter));
        Ok(Transformed::yes(Arc::new(join.build()?) as _))
    })?;
    Ok(plan.data)
}

/// A condition that fails when its statement is over.
#[derive(Debug)]
struct Interruptible {
    inner: Arc<dyn PhysicalExpr>,
    over: CancellationToken,
    began: Instant,
    /// When its thread was last left to others, in milliseconds since it began.
    last_polite_ms: AtomicU64,
}

impl Interruptible {
    /// Whether it is time to leave the thread's other work to another.
    fn is_due(&self) -> bool {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last_ms = self.last_polite_ms.load(Ordering::Relaxed);
        if Duration::from_millis(now_ms.saturating_sub(last_ms)) < POLITE {
            return false;
        }
        self.last_polite_ms.store(now_ms, Ordering::Relaxed);
        // Elsewhere it cannot be done.
        Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
    }
}

impl PhysicalExpr for Interruptible {
    fn data_type(&self, input_schema: &Schema) -> Result<DataType> {
        self.inner.data_type(input_schema)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        self.inner.nullable(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.over.is_cancelled() {
            let message = "the statement was cancelled";
            let error = WireError::new(Code::Cancelled, RetryVerdict::Never, message);
            return Err(into_datafusion(error));
        }
        match self.is_due() {
            // Once another thread has taken over, this one is nobody's until it yields.
            true => tokio::task::block_in_place(|| self.inner.evaluate(batch)),
            false => self.inner.evaluate(batch),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.into_iter().next();
        Ok(Arc::new(Self {
            inner: inner.unwrap_or_else(|| Arc::clone(&self.inner)),
            over: self.over.clone(),
            began: self.began,
            last_polite_ms: AtomicU64::new(self.last_polite_ms.load(Ordering::Relaxed)),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

impl fmt::Display for Interruptible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

impl PartialEq for Interruptible {
    fn eq(&self, other: &Self) -> bool {
        self.inner.as_ref() == other.inner.as_ref()
    }
}

impl Eq for Interruptible {}

impl Hash for Interruptible {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}
