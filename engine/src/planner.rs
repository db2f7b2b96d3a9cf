//! The query planner of the coordinator.
//!
//! ```text
//! LogicalPlan
//!   -> DataFusion's physical planner        one node, all optimizations
//!   -> guard::prepare                       shapes that would be distributed wrongly
//!   -> datafusion-distributed               stages, tasks
//!   -> verify                               every fragment can be sent; else one node
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion_distributed::{
    DistributedCodec, DistributedExec, DistributedLeafExec, NetworkBoundaryExt,
};
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use tracing::debug;

use crate::distribute::{PlacementOptions, has_distributable_scan};
use crate::guard;

/// DataFusion's physical planner, followed by the guards' rewrites. Stands below
/// datafusion-distributed's planner.
#[derive(Debug, Default)]
pub struct GuardedPlanner;

#[async_trait]
impl QueryPlanner for GuardedPlanner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        state: &SessionState,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = DefaultPhysicalPlanner::default()
            .create_physical_plan(logical_plan, state)
            .await?;
        guard::prepare(plan)
    }
}

/// The coordinator's planner in a cluster. Stands above datafusion-distributed's.
#[derive(Debug)]
pub struct ClusterPlanner {
    distributed: Arc<dyn QueryPlanner + Send + Sync>,
}

impl ClusterPlanner {
    /// Wraps datafusion-distributed's planner.
    pub fn new(distributed: Arc<dyn QueryPlanner + Send + Sync>) -> Self {
        Self { distributed }
    }

    async fn on_one_node(
        plan: &LogicalPlan,
        state: &SessionState,
        reason: &str,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        debug!(reason, "planned on the coordinator alone");
        DefaultPhysicalPlanner::default()
            .create_physical_plan(plan, state)
            .await
    }
}

#[async_trait]
impl QueryPlanner for ClusterPlanner {
    async fn create_physical_plan(
        &self,
        logical_plan: &LogicalPlan,
        state: &SessionState,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(reason) = guard::single_node_reason(logical_plan)? {
            return Self::on_one_node(logical_plan, state, reason).await;
        }
        let mut plan = self
            .distributed
            .create_physical_plan(logical_plan, state)
            .await?;
        if !is_distributed(&plan)? && has_distributable_scan(&plan) {
            // Small as it is, the reading belongs on the workers: only they are sure to reach the
            // lake. A boundary between two single tasks is left out upstream, so ask for two.
            plan = self
                .distributed
                .create_physical_plan(logical_plan, &with_two_tasks(state))
                .await?;
        }
        match unsendable(&plan, state)? {
            None => Ok(plan),
            Some(reason) => Self::on_one_node(logical_plan, state, &reason).await,
        }
    }
}

fn is_distributed(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    plan.exists(|node| Ok(node.is::<DistributedExec>()))
}

fn with_two_tasks(state: &SessionState) -> SessionState {
    let mut state = state.clone();
    let options = state.config_mut().options_mut();
    let mut placement = PlacementOptions::of(options);
    placement.min_tasks = 2;
    options.extensions.insert(placement);
    state
}

/// Names the first fragment that cannot be encoded, if one holds a leaf that is not ours.
fn unsendable(plan: &Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<Option<String>> {
    let mut reason = None;
    let codec = DistributedCodec::new_combined_with_user(state.config());
    plan.apply(|node| {
        // Only fragments go over the wire; the head stage stays here.
        let Some(fragment) = node
            .as_network_boundary()
            .and_then(|boundary| boundary.input_stage().local_plan())
        else {
            return Ok(TreeNodeRecursion::Continue);
        };
        if let Some(leaf) = foreign_leaf(fragment) {
            let encoded = PhysicalPlanNode::try_from_physical_plan(Arc::clone(&leaf), &codec);
            if let Err(error) = encoded {
                reason = Some(format!(
                    "{} cannot be sent to workers: {error}",
                    leaf.name()
                ));
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(reason)
}

fn foreign_leaf(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if plan.is::<DistributedLeafExec>() || plan.is_network_boundary() {
        return None;
    }
    let children = plan.children();
    if children.is_empty() {
        return inshore_lake::scan::as_iceberg_scan(plan.as_ref())
            .is_none()
            .then(|| Arc::clone(plan));
    }
    children.into_iter().find_map(foreign_leaf)
}
