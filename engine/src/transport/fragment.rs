//! Plans, work units and load between datafusion-distributed's types and those of the contract.

use datafusion::error::Result;
use datafusion_distributed as dfd;
use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::fragment::{
    FromCoordinator, FromWorker, LoadInfo, SetPlan, WorkUnit, WorkUnitFeed,
};
use inshore_proto::task::{Head, TaskId, Ticket};

use crate::transport::error::into_datafusion;
use crate::transport::metrics;

/// A task's name as the contract has it.
pub fn task_id(key: dfd::TaskKey) -> TaskId {
    TaskId {
        query_id: key.query_id,
        stage: key.stage_id,
        task: key.task_number,
    }
}

/// A task's name as datafusion-distributed has it.
pub fn task_key(id: TaskId) -> dfd::TaskKey {
    dfd::TaskKey {
        query_id: id.query_id,
        stage_id: id.stage,
        task_number: id.task,
    }
}

/// The ticket of a request.
pub fn ticket(request: &dfd::ExecuteTaskRequest) -> Ticket {
    let head = match &request.producer_head_spec {
        dfd::ProducerHeadSpec::None => Head::Plain,
        dfd::ProducerHeadSpec::BroadcastExec { output_partitions } => Head::Broadcast {
            output_partitions: *output_partitions,
        },
        dfd::ProducerHeadSpec::RepartitionExec { partitioning } => Head::Repartition {
            partitioning: partitioning.clone().into(),
        },
    };
    Ticket {
        task: task_id(request.task_key),
        partitions: request.target_partition_start..request.target_partition_end,
        head,
    }
}

/// The request of a ticket.
pub fn request(ticket: Ticket) -> dfd::ExecuteTaskRequest {
    let producer_head_spec = match ticket.head {
        Head::Plain => dfd::ProducerHeadSpec::None,
        Head::Broadcast { output_partitions } => {
            dfd::ProducerHeadSpec::BroadcastExec { output_partitions }
        }
        Head::Repartition { partitioning } => dfd::ProducerHeadSpec::RepartitionExec {
            partitioning: partitioning.into(),
        },
    };
    dfd::ExecuteTaskRequest {
        task_key: task_key(ticket.task),
        target_partition_start: ticket.partitions.start,
        target_partition_end: ticket.partitions.end,
        producer_head_spec,
    }
}

/// A message to a worker, ready to be encoded.
pub fn from_coordinator(message: dfd::CoordinatorToWorkerMsg) -> FromCoordinator {
    match message {
        dfd::CoordinatorToWorkerMsg::SetPlanRequest(request) => {
            FromCoordinator::SetPlan(set_plan(request))
        }
        dfd::CoordinatorToWorkerMsg::WorkUnitBatch(batch) => {
            FromCoordinator::WorkUnits(batch.batch.into_iter().map(work_unit).collect())
        }
        dfd::CoordinatorToWorkerMsg::WorkUnitEos => FromCoordinator::WorkUnitEnd,
    }
}

/// A received message for the worker. A task that was aborted has none.
pub fn to_worker(message: FromCoordinator) -> Result<dfd::CoordinatorToWorkerMsg, WireError> {
    Ok(match message {
        FromCoordinator::SetPlan(plan) => {
            dfd::CoordinatorToWorkerMsg::SetPlanRequest(set_plan_request(plan))
        }
        FromCoordinator::Abort { error, .. } => return Err(error),
        FromCoordinator::WorkUnits(units) => {
            dfd::CoordinatorToWorkerMsg::WorkUnitBatch(dfd::WorkUnitBatch {
                batch: units.into_iter().map(work_unit_msg).collect(),
            })
        }
        FromCoordinator::WorkUnitEnd => dfd::CoordinatorToWorkerMsg::WorkUnitEos,
    })
}

fn set_plan(request: dfd::SetPlanRequest) -> SetPlan {
    let feeds = request.work_unit_feed_declarations.into_iter();
    SetPlan {
        task: task_id(request.task_key),
        task_count: request.task_count,
        plan: request.plan_proto.into(),
        feeds: feeds
            .map(|feed| WorkUnitFeed {
                id: feed.id,
                partitions: feed.partitions,
            })
            .collect(),
        target_url: request.target_worker_url,
        query_start_ns: request.query_start_time_ns as u64,
    }
}

fn set_plan_request(plan: SetPlan) -> dfd::SetPlanRequest {
    let feeds = plan.feeds.into_iter();
    dfd::SetPlanRequest {
        task_key: task_key(plan.task),
        task_count: plan.task_count,
        plan_proto: plan.plan.into(),
        work_unit_feed_declarations: feeds
            .map(|feed| dfd::WorkUnitFeedDeclaration {
                id: feed.id,
                partitions: feed.partitions,
            })
            .collect(),
        target_worker_url: plan.target_url,
        query_start_time_ns: nanos(plan.query_start_ns),
    }
}

fn work_unit(unit: dfd::WorkUnitMsg) -> WorkUnit {
    WorkUnit {
        feed_id: unit.id,
        partition: unit.partition,
        body: unit.body.into(),
        created_ns: unit.created_timestamp_unix_nanos as u64,
        sent_ns: unit.sent_timestamp_unix_nanos as u64,
        received_ns: unit.received_timestamp_unix_nanos as u64,
        processed_ns: unit.processed_timestamp_unix_nanos as u64,
    }
}

fn work_unit_msg(unit: WorkUnit) -> dfd::WorkUnitMsg {
    dfd::WorkUnitMsg {
        id: unit.feed_id,
        partition: unit.partition,
        body: unit.body.into(),
        created_timestamp_unix_nanos: nanos(unit.created_ns),
        sent_timestamp_unix_nanos: nanos(unit.sent_ns),
        received_timestamp_unix_nanos: nanos(unit.received_ns),
        processed_timestamp_unix_nanos: nanos(unit.processed_ns),
    }
}

/// Only for metrics, so a clock that ran away may be cut off.
fn nanos(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A message to the coordinator, ready to be encoded.
pub fn from_worker(message: dfd::WorkerToCoordinatorMsg) -> FromWorker {
    match message {
        dfd::WorkerToCoordinatorMsg::TaskMetrics(metrics) => FromWorker::Metrics {
            nodes: metrics
                .pre_order_plan_metrics
                .iter()
                .map(metrics::encode)
                .collect(),
            task: metrics::encode(&metrics.task_metrics),
        },
        dfd::WorkerToCoordinatorMsg::LoadInfo(load) => FromWorker::Load(LoadInfo {
            partition: load.partition,
            rows_ready: load.rows_ready,
            column_bytes_ready: load.per_column_bytes_ready,
            column_distinct_ratio: load.per_column_ndv_percentage,
            column_null_ratio: load.per_column_null_percentage,
            rows_pulled_from_leaf: load.rows_pulled_from_leaf,
            reached_end: load.reached_eos,
        }),
        dfd::WorkerToCoordinatorMsg::LoadInfoEos => FromWorker::LoadEnd,
    }
}

/// A received message for the coordinator.
pub fn to_coordinator(message: FromWorker) -> Result<dfd::WorkerToCoordinatorMsg> {
    Ok(match message {
        FromWorker::Metrics { nodes, task } => {
            let nodes = nodes.into_iter().map(metrics::decode);
            let metrics = dfd::TaskMetrics {
                pre_order_plan_metrics: nodes.collect::<Result<_, _>>().map_err(into_datafusion)?,
                task_metrics: metrics::decode(task).map_err(into_datafusion)?,
            };
            dfd::WorkerToCoordinatorMsg::TaskMetrics(metrics)
        }
        FromWorker::Load(load) => dfd::WorkerToCoordinatorMsg::LoadInfo(dfd::LoadInfo {
            partition: load.partition,
            rows_ready: load.rows_ready,
            per_column_bytes_ready: load.column_bytes_ready,
            per_column_ndv_percentage: load.column_distinct_ratio,
            per_column_null_percentage: load.column_null_ratio,
            rows_pulled_from_leaf: load.rows_pulled_from_leaf,
            reached_eos: load.reached_end,
        }),
        FromWorker::LoadEnd => dfd::WorkerToCoordinatorMsg::LoadInfoEos,
    })
}

/// Encodes a message to a worker; one that is too large becomes an [`FromCoordinator::Abort`], so
/// that those who wait for the task's partitions hear why there will be none.
pub fn encode_bounded(message: FromCoordinator, max_bytes: usize) -> bytes::Bytes {
    let task = match &message {
        FromCoordinator::SetPlan(plan) => Some(plan.task),
        _ => None,
    };
    let encoded = message.encode();
    match task {
        Some(task) if encoded.len() > max_bytes => {
            let error = WireError::new(
                Code::ResourceExhausted,
                RetryVerdict::Never,
                format!(
                    "the plan of {task} has {} bytes, and a message between nodes holds at most \
                     {max_bytes}; use fewer literals in the statement, or a table for them",
                    encoded.len()
                ),
            );
            FromCoordinator::Abort { task, error }.encode()
        }
        _ => encoded,
    }
}
