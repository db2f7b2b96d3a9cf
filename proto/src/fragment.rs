//! Messages of the coordinator channel, one `DoExchange` per task.
//!
//! ```text
//! coordinator                                   worker
//!     | SetPlan (or AbortTask)                     |
//!     |------------------------------------------->|  task exists
//!     | WorkUnits ...  WorkUnitEnd                 |
//!     |------------------------------------------->|
//!     |                     LoadInfo ...  LoadEnd  |
//!     |<-------------------------------------------|
//!     | (end of the coordinator's half)            |
//!     |------------------------------------------->|  query over: task ends
//!     |                                   Metrics  |
//!     |<-------------------------------------------|
//! ```

use bytes::Bytes;
use prost::Message;
use url::Url;
use uuid::Uuid;

use crate::error::WireError;
use crate::task::TaskId;
use crate::{pb, wire};

/// From the coordinator to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum FromCoordinator {
    /// First message: the plan that the task runs.
    SetPlan(SetPlan),
    /// First message instead of a plan: why there will be none.
    Abort {
        /// The task that has no plan.
        task: TaskId,
        /// What to tell whoever asks for its partitions.
        error: WireError,
    },
    /// What some partitions of a plan node are to work on.
    WorkUnits(Vec<WorkUnit>),
    /// No more work units follow.
    WorkUnitEnd,
}

/// The plan of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPlan {
    /// The task.
    pub task: TaskId,
    /// Tasks of its stage.
    pub task_count: usize,
    /// An encoded `datafusion.PhysicalPlanNode`.
    pub plan: Bytes,
    /// Feeds of work units that will be sent.
    pub feeds: Vec<WorkUnitFeed>,
    /// URL under which the coordinator knows the receiving worker; the plan's exchanges name
    /// workers in the same way.
    pub target_url: Url,
    /// When the query started, in nanoseconds since the Unix epoch.
    pub query_start_ns: u64,
}

/// A feed of work units for one plan node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkUnitFeed {
    /// Names the plan node.
    pub id: Uuid,
    /// Its number of partitions.
    pub partitions: usize,
}

/// One thing that a partition of a plan node is to work on. Times in nanoseconds since the Unix
/// epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkUnit {
    /// The feed it belongs to.
    pub feed_id: Uuid,
    /// The partition.
    pub partition: usize,
    /// Known to the plan node only.
    pub body: Bytes,
    /// When the coordinator made it.
    pub created_ns: u64,
    /// When the coordinator sent it.
    pub sent_ns: u64,
    /// When the worker received it.
    pub received_ns: u64,
    /// When the worker began with it.
    pub processed_ns: u64,
}

/// From a worker to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    /// Metrics of the finished task: one set per plan node in pre-order, and its own.
    Metrics {
        /// One per plan node, in pre-order.
        nodes: Vec<pb::MetricsSet>,
        /// Of the task as a whole.
        task: pb::MetricsSet,
    },
    /// What a sampled partition has ready.
    Load(LoadInfo),
    /// No more load follows.
    LoadEnd,
}

/// What a sampled partition of a task has ready.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadInfo {
    /// The partition.
    pub partition: usize,
    /// Rows ready to be returned.
    pub rows_ready: usize,
    /// Bytes ready to be returned, per column.
    pub column_bytes_ready: Vec<usize>,
    /// Approximate share of distinct values, per column.
    pub column_distinct_ratio: Vec<f32>,
    /// Approximate share of nulls, per column.
    pub column_null_ratio: Vec<f32>,
    /// Rows pulled from leaf nodes while sampling.
    pub rows_pulled_from_leaf: usize,
    /// Whether the partition was exhausted, so that the figures are final.
    pub reached_end: bool,
}

impl FromCoordinator {
    /// The bytes of the message.
    pub fn encode(self) -> Bytes {
        use pb::coordinator_message::Message as Pb;
        let message = match self {
            Self::SetPlan(plan) => Pb::SetPlan(plan.into()),
            Self::Abort { task, error } => Pb::Abort(pb::AbortTask {
                task: Some(task.into()),
                error: Some((&error).into()),
            }),
            Self::WorkUnits(units) => Pb::WorkUnits(pb::WorkUnitBatch {
                units: units.into_iter().map(Into::into).collect(),
            }),
            Self::WorkUnitEnd => Pb::WorkUnitEnd(pb::WorkUnitEnd {}),
        };
        let message = pb::CoordinatorMessage {
            message: Some(message),
        };
        Bytes::from(message.encode_to_vec())
    }

    /// Reads and validates a message.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        use pb::coordinator_message::Message as Pb;
        let message = pb::CoordinatorMessage::decode(bytes)
            .map_err(|error| wire::malformed("CoordinatorMessage", &error.to_string()))?;
        Ok(
            match wire::required(message.message, "CoordinatorMessage")? {
                Pb::SetPlan(plan) => Self::SetPlan(plan.try_into()?),
                Pb::Abort(abort) => Self::Abort {
                    task: wire::required(abort.task, "AbortTask.task")?.try_into()?,
                    error: wire::required(abort.error, "AbortTask.error")?.try_into()?,
                },
                Pb::WorkUnits(batch) => Self::WorkUnits(
                    batch
                        .units
                        .into_iter()
                        .map(TryInto::try_into)
                        .collect::<Result<_, _>>()?,
                ),
                Pb::WorkUnitEnd(_) => Self::WorkUnitEnd,
            },
        )
    }
}

impl From<SetPlan> for pb::SetPlan {
    fn from(plan: SetPlan) -> Self {
        let feeds = plan.feeds.into_iter().map(|feed| pb::WorkUnitFeed {
            id: Bytes::copy_from_slice(feed.id.as_bytes()),
            partitions: feed.partitions as u64,
        });
        Self {
            task: Some(plan.task.into()),
            task_count: plan.task_count as u64,
            plan: plan.plan,
            feeds: feeds.collect(),
            target_url: plan.target_url.into(),
            query_start_ns: plan.query_start_ns,
        }
    }
}

impl TryFrom<pb::SetPlan> for SetPlan {
    type Error = WireError;

    fn try_from(plan: pb::SetPlan) -> Result<Self, WireError> {
        let feeds = plan.feeds.into_iter().map(|feed| {
            Ok(WorkUnitFeed {
                id: wire::uuid(&feed.id, "WorkUnitFeed.id")?,
                partitions: wire::index(feed.partitions, "WorkUnitFeed.partitions")?,
            })
        });
        let set_plan = Self {
            task: wire::required(plan.task, "SetPlan.task")?.try_into()?,
            task_count: wire::index(plan.task_count, "SetPlan.task_count")?,
            plan: plan.plan,
            feeds: feeds.collect::<Result<_, WireError>>()?,
            target_url: wire::url(&plan.target_url, "SetPlan.target_url")?,
            query_start_ns: plan.query_start_ns,
        };
        if set_plan.task.task >= set_plan.task_count {
            let (task, count) = (set_plan.task.task, set_plan.task_count);
            let why = format!("task {task} of a stage of {count} tasks");
            return Err(wire::malformed("SetPlan", &why));
        }
        Ok(set_plan)
    }
}

impl From<WorkUnit> for pb::WorkUnit {
    fn from(unit: WorkUnit) -> Self {
        Self {
            feed_id: Bytes::copy_from_slice(unit.feed_id.as_bytes()),
            partition: unit.partition as u64,
            body: unit.body,
            created_ns: unit.created_ns,
            sent_ns: unit.sent_ns,
            received_ns: unit.received_ns,
            processed_ns: unit.processed_ns,
        }
    }
}

impl TryFrom<pb::WorkUnit> for WorkUnit {
    type Error = WireError;

    fn try_from(unit: pb::WorkUnit) -> Result<Self, WireError> {
        Ok(Self {
            feed_id: wire::uuid(&unit.feed_id, "WorkUnit.feed_id")?,
            partition: wire::index(unit.partition, "WorkUnit.partition")?,
            body: unit.body,
            created_ns: unit.created_ns,
            sent_ns: unit.sent_ns,
            received_ns: unit.received_ns,
            processed_ns: unit.processed_ns,
        })
    }
}

impl FromWorker {
    /// The bytes of the message.
    pub fn encode(self) -> Bytes {
        use pb::worker_message::Message as Pb;
        let message = match self {
            Self::Metrics { nodes, task } => Pb::Metrics(pb::TaskMetrics {
                nodes,
                task: Some(task),
            }),
            Self::Load(load) => Pb::Load(load.into()),
            Self::LoadEnd => Pb::LoadEnd(pb::LoadInfoEnd {}),
        };
        let message = pb::WorkerMessage {
            message: Some(message),
        };
        Bytes::from(message.encode_to_vec())
    }

    /// Reads and validates a message.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        use pb::worker_message::Message as Pb;
        let message = pb::WorkerMessage::decode(bytes)
            .map_err(|error| wire::malformed("WorkerMessage", &error.to_string()))?;
        Ok(match wire::required(message.message, "WorkerMessage")? {
            Pb::Metrics(metrics) => Self::Metrics {
                nodes: metrics.nodes,
                task: wire::required(metrics.task, "TaskMetrics.task")?,
            },
            Pb::Load(load) => Self::Load(load.try_into()?),
            Pb::LoadEnd(_) => Self::LoadEnd,
        })
    }
}

impl From<LoadInfo> for pb::LoadInfo {
    fn from(load: LoadInfo) -> Self {
        Self {
            partition: load.partition as u64,
            rows_ready: load.rows_ready as u64,
            column_bytes_ready: load
                .column_bytes_ready
                .iter()
                .map(|bytes| *bytes as u64)
                .collect(),
            column_distinct_ratio: load.column_distinct_ratio,
            column_null_ratio: load.column_null_ratio,
            rows_pulled_from_leaf: load.rows_pulled_from_leaf as u64,
            reached_end: load.reached_end,
        }
    }
}

impl TryFrom<pb::LoadInfo> for LoadInfo {
    type Error = WireError;

    fn try_from(load: pb::LoadInfo) -> Result<Self, WireError> {
        let bytes = load.column_bytes_ready.iter();
        Ok(Self {
            partition: wire::index(load.partition, "LoadInfo.partition")?,
            rows_ready: wire::index(load.rows_ready, "LoadInfo.rows_ready")?,
            column_bytes_ready: bytes
                .map(|bytes| wire::index(*bytes, "LoadInfo.column_bytes_ready"))
                .collect::<Result<_, _>>()?,
            column_distinct_ratio: load.column_distinct_ratio,
            column_null_ratio: load.column_null_ratio,
            rows_pulled_from_leaf: wire::index(load.rows_pulled_from_leaf, "LoadInfo.rows_pulled")?,
            reached_end: load.reached_end,
        })
    }
}
