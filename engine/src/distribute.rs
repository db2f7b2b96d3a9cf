//! How many tasks a stage gets, which files each of them reads, and which worker runs it.
//!
//! These are the handlers that datafusion-distributed calls while it cuts a plan into stages.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::common::config::{ConfigExtension, ConfigOptions};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DesiredTaskCountHandler,
    DistributedLeafExec, RouteTasksEvent, RouteTasksEventResponse, RouteTasksHandler,
    ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse, ScaleUpLeafNodeHandler, WorkerResolver,
};
use inshore_lake::{files, scan};
use url::Url;

use crate::guard;

datafusion::common::extensions_options! {
    /// Settings of the coordinator, `inshore.*`.
    pub struct PlacementOptions {
        /// A scan is given one more task for each such number of bytes to read.
        pub bytes_per_task: u64, default = 4 * 1024 * 1024
        /// Every scan gets at least this many tasks.
        pub min_tasks: usize, default = 1
        /// How long a statement may take, in seconds; 0 stands for no bound but the coordinator's.
        pub statement_timeout_seconds: u64, default = 0
    }
}

impl ConfigExtension for PlacementOptions {
    const PREFIX: &'static str = "inshore";
}

impl PlacementOptions {
    /// Reads the options from a session; defaults where there are none.
    pub fn of(options: &ConfigOptions) -> Self {
        options
            .extensions
            .get::<Self>()
            .cloned()
            .unwrap_or_default()
    }
}

/// Decides the number of tasks from the bytes a scan reads, and keeps whatever must see all rows
/// of its stage in a single task (see [`guard::needs_one_task`]).
#[derive(Debug, Default)]
pub struct TaskCounts;

#[async_trait]
impl DesiredTaskCountHandler for TaskCounts {
    async fn handle(
        &self,
        event: DesiredTaskCountEvent<'_>,
    ) -> Option<Result<DesiredTaskCountEventResponse>> {
        if guard::needs_one_task(event.plan) {
            return Some(Ok(DesiredTaskCountEventResponse::maximum(1)));
        }
        let plan = event.plan.as_ref();
        let bytes = scan::scan_bytes(plan).or_else(|| files::scan_bytes(plan))?;
        let options = PlacementOptions::of(event.session_config.options());
        let tasks = bytes
            .div_ceil(options.bytes_per_task.max(1))
            .max(options.min_tasks as u64)
            .max(1);
        let tasks = usize::try_from(tasks).unwrap_or(usize::MAX);
        Some(Ok(DesiredTaskCountEventResponse::desired(tasks)))
    }
}

/// Gives each task of a stage its share of a scan's files.
#[derive(Debug, Default)]
pub struct SplitScans;

impl ScaleUpLeafNodeHandler for SplitScans {
    fn handle(
        &self,
        event: ScaleUpLeafNodeEvent<'_>,
    ) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
        let variants = scan::split_for_tasks(event.plan, event.task_count)
            .or_else(|| files::split_for_tasks(event.plan, event.task_count))?;
        let leaf = variants
            .and_then(|variants| DistributedLeafExec::try_new(Arc::clone(event.plan), variants))
            .map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf)));
        Some(leaf)
    }
}

/// The workers one query may use: those that were live when it was planned. Task `i` of a stage
/// runs on worker `i` of the list, so that stages meet on the same machine and part of an exchange
/// needs no network.
#[derive(Clone, Debug)]
pub struct QueryWorkers {
    urls: Arc<[Url]>,
    /// Where stages with fewer tasks than workers begin, so that small queries spread.
    offset: usize,
}

impl QueryWorkers {
    /// `offset` should differ from query to query.
    pub fn new(urls: Vec<Url>, offset: usize) -> Self {
        Self {
            urls: urls.into(),
            offset,
        }
    }

    /// Number of workers.
    pub fn len(&self) -> usize {
        self.urls.len()
    }

    /// The workers of a stage's tasks, in their order. None where there is no worker.
    pub fn assigned(&self, tasks: usize) -> impl Iterator<Item = Url> {
        let first = self.offset.checked_rem(self.urls.len()).unwrap_or_default();
        self.urls.iter().cycle().skip(first).take(tasks).cloned()
    }

    /// Whether there is no worker.
    pub fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }
}

impl WorkerResolver for QueryWorkers {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.urls.to_vec())
    }
}

impl RouteTasksHandler for QueryWorkers {
    fn handle(&self, event: RouteTasksEvent<'_>) -> Option<Result<RouteTasksEventResponse>> {
        if self.urls.is_empty() {
            return None;
        }
        let urls = self.assigned(event.task_count).collect();
        Some(Ok(RouteTasksEventResponse::new(urls)))
    }
}

/// Whether the plan reads an Iceberg table with more than one partition, and could therefore be
/// distributed.
pub fn has_distributable_scan(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.children().is_empty() {
        return scan::as_iceberg_scan(plan.as_ref()).is_some()
            && plan.output_partitioning().partition_count() > 1;
    }
    plan.children().into_iter().any(has_distributable_scan)
}
