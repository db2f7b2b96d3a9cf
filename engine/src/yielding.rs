//! Operators that make many rows of few, and how they let others run.
//!
//! DataFusion counts the batches that leave its leaves and its exchanges, and gives the thread back
//! after some of them (its module `coop`). A join takes one batch of a leaf and may make thousands of
//! it; an aggregate above polls on and on, and the thread is never given back: a server that shares
//! it does not answer, and a cancelled query goes on. So the batches that leave such an operator are
//! counted too.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::unnest::UnnestExec;

/// Counts what leaves operators that multiply rows.
///
/// # Errors
/// None of its own.
pub fn prepare(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let counted = plan.transform_up(|node| {
        Ok(match multiplies(&node) {
            true => Transformed::yes(Arc::new(CooperativeExec::new(node)) as _),
            false => Transformed::no(node),
        })
    })?;
    Ok(counted.data)
}

fn multiplies(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<CrossJoinExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<HashJoinExec>()
        || plan.is::<SortMergeJoinExec>()
        || plan.is::<UnnestExec>()
}
