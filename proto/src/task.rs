//! What a task is called, and the ticket that asks for its partitions.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use crate::error::WireError;
use crate::version::{self, PROTOCOL_VERSION};
use crate::{decode, pb, wire};

/// One task of one stage of one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId {
    /// The query, unique per attempt.
    pub query_id: Uuid,
    /// Number of the stage within the query.
    pub stage: usize,
    /// Number of the task within the stage.
    pub task: usize,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            query_id,
            stage,
            task,
        } = self;
        write!(f, "stage {stage} task {task} of query {query_id}")
    }
}

/// What stands on top of the task's plan; decided by its consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Nothing.
    Plain,
    /// Every partition is repeated, until there are so many.
    Broadcast {
        /// Partitions after the repetition.
        output_partitions: usize,
    },
    /// The rows are distributed anew.
    Repartition {
        /// An encoded `datafusion.Partitioning`.
        partitioning: Bytes,
    },
}

/// Asks for some partitions of a task. Travels as a Flight ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The task.
    pub task: TaskId,
    /// The partitions.
    pub partitions: Range<usize>,
    /// What stands on top of the task's plan.
    pub head: Head,
}

/// More partitions than any plan has; a ticket that asks for more is not ours.
const MAX_PARTITIONS: usize = 1 << 20;

impl Ticket {
    /// The bytes for a Flight ticket.
    pub fn encode(&self) -> Bytes {
        use pb::task_ticket::Head as PbHead;
        let head = match &self.head {
            Head::Plain => PbHead::Plain(pb::PlainHead {}),
            Head::Broadcast { output_partitions } => PbHead::Broadcast(pb::BroadcastHead {
                output_partitions: *output_partitions as u64,
            }),
            Head::Repartition { partitioning } => PbHead::Repartition(pb::RepartitionHead {
                partitioning: partitioning.clone(),
            }),
        };
        let ticket = pb::TaskTicket {
            protocol_version: PROTOCOL_VERSION,
            task: Some(self.task.into()),
            partition_start: self.partitions.start as u64,
            partition_end: self.partitions.end as u64,
            head: Some(head),
        };
        Bytes::from(ticket.encode_to_vec())
    }

    /// Reads a Flight ticket; refuses one of another protocol version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        use pb::task_ticket::Head as PbHead;
        let ticket: pb::TaskTicket = decode(bytes, "task ticket")?;
        version::check(ticket.protocol_version)?;
        let start = wire::index(ticket.partition_start, "TaskTicket.partition_start")?;
        let end = wire::index(ticket.partition_end, "TaskTicket.partition_end")?;
        if start > end || end > MAX_PARTITIONS {
            let why = format!("{start}..{end} is no range of partitions");
            return Err(wire::malformed("TaskTicket", &why));
        }
        let head = match wire::required(ticket.head, "TaskTicket.head")? {
            PbHead::Plain(_) => Head::Plain,
            PbHead::Broadcast(head) => Head::Broadcast {
                output_partitions: wire::index(head.output_partitions, "output_partitions")?,
            },
            PbHead::Repartition(head) => Head::Repartition {
                partitioning: head.partitioning,
            },
        };
        Ok(Self {
            task: wire::required(ticket.task, "TaskTicket.task")?.try_into()?,
            partitions: start..end,
            head,
        })
    }
}

impl From<TaskId> for pb::TaskId {
    fn from(id: TaskId) -> Self {
        Self {
            query_id: Bytes::copy_from_slice(id.query_id.as_bytes()),
            stage: id.stage as u64,
            task: id.task as u64,
        }
    }
}

impl TryFrom<pb::TaskId> for TaskId {
    type Error = WireError;

    fn try_from(id: pb::TaskId) -> Result<Self, WireError> {
        Ok(Self {
            query_id: wire::uuid(&id.query_id, "TaskId.query_id")?,
            stage: wire::index(id.stage, "TaskId.stage")?,
            task: wire::index(id.task, "TaskId.task")?,
        })
    }
}
