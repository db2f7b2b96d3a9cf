//! What datafusion-distributed 3.0.0 would plan wrongly, and how that is prevented.
//!
//! A stage runs in several tasks, each of which sees only its share of the rows. The planner cuts a
//! stage above hash repartitions, broadcasts, and below operators that merge partitions; it trusts
//! that everything else works on each share by itself. Three shapes break that trust:
//!
//! 1. **A merge directly over a scan.** `CoalescePartitionsExec` (or a sort-preserving merge) over
//!    a leaf gets no boundary, so in a stage of N tasks a limit above it lets N times its rows
//!    through (upstream #655). [`open_leaves`] puts a node between the two, which makes the planner
//!    cut there; it also keeps the reading on the workers where the whole query is such a merge.
//! 2. **A scan with one partition.** The optimizer leaves out exchanges over it, so that a limit,
//!    an aggregate or a window above may rely on seeing all rows. [`needs_one_task`] keeps its
//!    stage in one task.
//! 3. **A limit on the build side of a broadcast join.** The planner broadcasts what lies below the
//!    limiting merge and applies the limit in each consumer, to rows in different orders (upstream
//!    #624, #708). [`seal_limited_builds`] hides the merge from it, so that it is done once, before
//!    the broadcast.
//!
//! [`single_node_reason`] names plans that have no form that could be sent to a worker.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode,
};
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// Rewrites a single-node plan so that distributing it keeps its meaning.
pub fn prepare(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    seal_limited_builds(open_leaves(plan)?)
}

fn merges_partitions(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>()
}

fn is_leaf(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.children().is_empty()
}

/// Puts a pass-through node between a merge and the leaf under it (shape 1), and on top of a plan
/// that is a leaf altogether, since the planner merges its partitions.
fn open_leaves(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if is_leaf(&plan) {
        return Ok(match plan.output_partitioning().partition_count() {
            1 => plan,
            _ => Arc::new(CooperativeExec::new(plan)),
        });
    }
    let opened = plan.transform_down(|node| {
        let Some(leaf) = node
            .children()
            .first()
            .filter(|child| merges_partitions(&node) && is_leaf(child))
            .map(|child| Arc::clone(child))
        else {
            return Ok(Transformed::no(node));
        };
        let opened: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(leaf));
        Ok(Transformed::yes(node.with_new_children(vec![opened])?))
    })?;
    Ok(opened.data)
}

/// Hides a limiting merge on a build side that may be broadcast (shape 3).
fn seal_limited_builds(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let sealed = plan.transform_down(|node| {
        if !collects_left(&node) {
            return Ok(Transformed::no(node));
        }
        let mut children: Vec<_> = node.children().into_iter().cloned().collect();
        let limited = children
            .first()
            .and_then(|build| build.downcast_ref::<CoalescePartitionsExec>())
            .is_some_and(|merge| merge.fetch().is_some());
        if !limited {
            return Ok(Transformed::no(node));
        }
        children[0] = Arc::new(CooperativeExec::new(Arc::clone(&children[0])));
        Ok(Transformed::yes(node.with_new_children(children)?))
    })?;
    Ok(sealed.data)
}

fn collects_left(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<NestedLoopJoinExec>()
        || plan.is::<CrossJoinExec>()
        || plan
            .downcast_ref::<HashJoinExec>()
            .is_some_and(|join| join.partition_mode() == &PartitionMode::CollectLeft)
}

/// Whether the stage that holds this node must run in one task (shape 2).
pub fn needs_one_task(plan: &Arc<dyn ExecutionPlan>) -> bool {
    is_leaf(plan) && plan.output_partitioning().partition_count() == 1
}

/// Why a statement has to be planned on the coordinator alone, if it has.
pub fn single_node_reason(plan: &LogicalPlan) -> Result<Option<&'static str>> {
    let mut reason = None;
    plan.apply_with_subqueries(|node| {
        if matches!(node, LogicalPlan::RecursiveQuery(_)) {
            reason = Some("a recursive query has no form that can be sent to workers");
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(reason)
}
