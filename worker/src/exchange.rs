//! A task's partitions as one stream of messages.
//!
//! ```text
//! partition 4 -> task: poll, encode -> queue of 2 --+
//! partition 5 -> task: poll, encode -> queue of 2 --+--> messages tagged with their partition
//! partition 6 -> task: poll, encode -> queue of 2 --+
//! ```
//!
//! Each partition has a task of its own, so that encoding uses all cores. The queues are short:
//! when the receiver does not read, the tasks stop.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use arrow_flight::FlightData;
use arrow_ipc::CompressionType;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::stream::SelectAll;
use futures::{FutureExt, Stream, StreamExt};
use inshore_engine::transport::encode::BatchEncoder;
use inshore_engine::transport::error::{panic_error, wire_error};
use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::exchange::BatchMetadata;
use inshore_proto::task::TaskId;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;

/// Messages that wait to be sent, per partition.
const QUEUED_MESSAGES: usize = 2;

/// The messages of some partitions of a task. Dropping it ends them.
pub struct Exchange {
    partitions: SelectAll<PartitionMessages>,
    /// Aborted when dropped.
    _tasks: JoinSet<()>,
    bytes_sent: Arc<AtomicU64>,
}

impl Exchange {
    /// Begins to run the partitions of `task`, whose numbers count up from `first_partition`. What
    /// is sent is added to `bytes_sent`.
    pub fn start(
        task: TaskId,
        streams: Vec<SendableRecordBatchStream>,
        first_partition: usize,
        compression: Option<CompressionType>,
        pool: &Arc<dyn MemoryPool>,
        bytes_sent: Arc<AtomicU64>,
    ) -> Result<Self, WireError> {
        let reservation = Arc::new(MemoryConsumer::new("exchange").register(pool));
        let mut tasks = JoinSet::new();
        let mut partitions = SelectAll::new();
        for (partition, stream) in (first_partition..).zip(streams) {
            let (sender, receiver) = mpsc::channel(QUEUED_MESSAGES);
            let sender = Sender {
                partition,
                queue: sender,
                reservation: Arc::clone(&reservation),
            };
            let span = tracing::info_span!(
                "partition",
                query_id = %task.query_id,
                stage_id = task.stage,
                task_id = task.task,
                partition,
            );
            let encoder = BatchEncoder::new(compression)?;
            tasks.spawn(sender.run(stream, encoder).instrument(span));
            partitions.push(PartitionMessages {
                receiver,
                finished: false,
            });
        }
        Ok(Self {
            partitions,
            _tasks: tasks,
            bytes_sent,
        })
    }
}

impl Stream for Exchange {
    type Item = Result<FlightData, WireError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.partitions.poll_next_unpin(context);
        if let Poll::Ready(Some(Ok(message))) = &polled {
            let bytes = message.encoded_len() as u64;
            self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        }
        polled
    }
}

/// What a partition's task puts into its queue.
enum Queued {
    /// A message, and its part of the memory reservation.
    Message(FlightData, Reserved),
    Failed(WireError),
    /// Without this one a task that vanished would look like one that finished.
    Finished,
}

struct Reserved {
    reservation: Arc<MemoryReservation>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.reservation.shrink(self.bytes);
    }
}

/// Runs one partition into its queue.
struct Sender {
    partition: usize,
    queue: mpsc::Sender<Queued>,
    reservation: Arc<MemoryReservation>,
}

impl Sender {
    async fn run(self, stream: SendableRecordBatchStream, encoder: BatchEncoder) {
        let outcome = AssertUnwindSafe(self.send_all(stream, encoder))
            .catch_unwind()
            .await;
        let last = match outcome {
            Ok(Ok(())) => Queued::Finished,
            Ok(Err(error)) => Queued::Failed(error),
            Err(panic) => Queued::Failed(panic_error(panic.as_ref())),
        };
        // The receiver may be gone, and then nobody cares.
        let _ = self.queue.send(last).await;
    }

    async fn send_all(
        &self,
        mut stream: SendableRecordBatchStream,
        mut encoder: BatchEncoder,
    ) -> Result<(), WireError> {
        self.send(encoder.encode_schema(&stream.schema())).await;
        loop {
            let batch = tokio::select! {
                biased;
                () = self.queue.closed() => return Ok(()),
                batch = stream.next() => batch,
            };
            let Some(batch) = batch else {
                return Ok(());
            };
            let batch = batch.map_err(|error| wire_error(&error))?;
            for message in encoder.encode(batch)? {
                self.send(message).await;
            }
        }
    }

    async fn send(&self, mut message: FlightData) {
        message.app_metadata = BatchMetadata::now(self.partition).encode();
        let bytes = message.data_header.len() + message.data_body.len();
        self.reservation.grow(bytes);
        let reserved = Reserved {
            reservation: Arc::clone(&self.reservation),
            bytes,
        };
        // A closed queue is noticed before the next batch.
        let _ = self.queue.send(Queued::Message(message, reserved)).await;
    }
}

/// The messages of one partition.
struct PartitionMessages {
    receiver: mpsc::Receiver<Queued>,
    finished: bool,
}

impl Stream for PartitionMessages {
    type Item = Result<FlightData, WireError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.finished {
            return Poll::Ready(None);
        }
        let queued = match self.receiver.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(queued) => queued,
        };
        Poll::Ready(match queued {
            Some(Queued::Message(message, _reserved)) => Some(Ok(message)),
            Some(Queued::Finished) => {
                self.finished = true;
                None
            }
            Some(Queued::Failed(error)) => {
                self.finished = true;
                Some(Err(error))
            }
            None => {
                self.finished = true;
                Some(Err(WireError::new(
                    Code::Unavailable,
                    RetryVerdict::Elsewhere,
                    "the worker stopped before the task had finished",
                )))
            }
        })
    }
}
