//! What a worker changes in a fragment before it runs it.
//!
//! A dynamic filter is one object shared by the operator that fills it (a hash join's build side, a
//! top-k) and the scan that uses it. A plan that was encoded and decoded has two, or none: the
//! filter is inert. Pushing the filters down once more, on the decoded fragment, joins the two again
//! for every operator whose scan lies in the same stage. And its joins are made to end with the task.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion_distributed::{
    WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerPlanRewriteHandler,
};

use crate::interrupt::interruptible_task;

/// Connects dynamic filters with their scans.
#[derive(Debug, Default)]
pub struct ConnectDynamicFilters;

impl WorkerPlanRewriteHandler for ConnectDynamicFilters {
    fn rewrite_worker_plan(
        &self,
        event: WorkerPlanRewriteEvent<'_>,
    ) -> Result<WorkerPlanRewriteEventResponse> {
        let rule = FilterPushdown::new_post_optimization();
        let plan = rule.optimize(Arc::clone(&event.plan), event.session_config.options())?;
        let plan = interruptible_task(plan)?;
        Ok(WorkerPlanRewriteEventResponse::new(plan))
    }
}
