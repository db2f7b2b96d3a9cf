//! One `DoGet` stream with the messages of several partitions, taken apart into a queue each.
//!
//! The queues have no bound of their own: a full one would stop the stream, and with it the
//! partition that the reader of the full one waits for. Instead the bytes in all queues together
//! have a budget, beyond which the stream is not read on. A message is always let in when the
//! queues are empty, so that one larger than the budget cannot block for ever.
//!
//! Nothing is asked for until a partition is first polled. When all partitions were dropped, the
//! stream ends. If that happens before any was polled, the call is made nevertheless, and cancelled
//! at once: the producer may have other partitions that wait for these to be taken or refused.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::metrics::{
    Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder, MetricValue, Time,
};
use datafusion_distributed::{
    BytesCounterMetric, BytesMetricExt, FirstLatencyMetric, LatencyMetricExt, MaxLatencyMetric,
    MinLatencyMetric, P50LatencyMetric, P95LatencyMetric,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::exchange::BatchMetadata;
use prost::Message;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::transport::error::into_datafusion;

/// The messages of a `DoGet` call.
pub(super) type Messages = BoxStream<'static, Result<FlightData, WireError>>;

/// Makes the call.
pub(super) type Call = BoxFuture<'static, Result<Messages, WireError>>;

/// Takes the answer of `call` apart into one stream per partition.
pub(super) fn demultiplex(
    call: Call,
    partitions: Range<usize>,
    budget_bytes: usize,
    pool: &Arc<dyn MemoryPool>,
    metrics: &ExecutionPlanMetricsSet,
) -> Vec<BoxStream<'static, Result<RecordBatch>>> {
    let shared = Arc::new(Shared {
        reservation: MemoryConsumer::new("exchange").register(pool),
        budget_bytes,
        room: Notify::new(),
        wanted: Notify::new(),
        abandoned: CancellationToken::new(),
        streams_left: AtomicUsize::new(partitions.len()),
    });
    let decoding = Time::new();
    MetricBuilder::new(metrics).build(MetricValue::ElapsedCompute(decoding.clone()));
    let (senders, receivers): (Vec<_>, Vec<_>) =
        partitions.clone().map(|_| unbounded_channel()).unzip();
    let pump = Pump {
        shared: Arc::clone(&shared),
        first_partition: partitions.start,
        senders,
        figures: Figures::new(metrics),
    };
    if receivers.is_empty() {
        return Vec::new();
    }
    // Ends when the answer does or when all streams were dropped.
    tokio::spawn(pump.run(call));
    receivers
        .into_iter()
        .map(|receiver| partition_stream(receiver, Arc::clone(&shared), decoding.clone()))
        .collect()
}

/// What the task that reads the answer shares with the partitions' streams.
struct Shared {
    /// Bytes in all queues.
    reservation: MemoryReservation,
    budget_bytes: usize,
    /// Something was taken from a queue.
    room: Notify,
    /// A partition was polled.
    wanted: Notify,
    /// All streams were dropped.
    abandoned: CancellationToken,
    streams_left: AtomicUsize,
}

/// A message in a queue, with its part of the reservation.
struct Queued {
    data: FlightData,
    bytes: usize,
    shared: Arc<Shared>,
}

impl Queued {
    fn new(data: FlightData, bytes: usize, shared: &Arc<Shared>) -> Self {
        shared.reservation.grow(bytes);
        Self {
            data,
            bytes,
            shared: Arc::clone(shared),
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.shared.reservation.shrink(self.bytes);
        self.shared.room.notify_one();
    }
}

type Queue = Result<Queued, WireError>;

/// Reads the answer into the queues.
struct Pump {
    shared: Arc<Shared>,
    first_partition: usize,
    senders: Vec<UnboundedSender<Queue>>,
    figures: Figures,
}

impl Pump {
    async fn run(mut self, call: Call) {
        let abandoned = self.shared.abandoned.clone();
        tokio::select! {
            biased;
            () = abandoned.cancelled() => {
                // The call has a deadline of its own.
                let _ = call.await;
                return;
            }
            () = self.shared.wanted.notified() => {}
        }
        tokio::select! {
            biased;
            () = abandoned.cancelled() => {}
            outcome = self.pump(call) => {
                if let Err(error) = outcome {
                    for sender in &self.senders {
                        // Whoever dropped their stream does not care.
                        let _ = sender.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    async fn pump(&mut self, call: Call) -> Result<(), WireError> {
        let mut messages = call.await?;
        loop {
            while self.shared.reservation.size() >= self.shared.budget_bytes.max(1) {
                self.shared.room.notified().await;
            }
            let Some(message) = messages.next().await else {
                return Ok(());
            };
            self.enqueue(message?)?;
        }
    }

    fn enqueue(&mut self, data: FlightData) -> Result<(), WireError> {
        let metadata = BatchMetadata::decode(&data.app_metadata)?;
        let sender = metadata
            .partition
            .checked_sub(self.first_partition)
            .and_then(|index| self.senders.get(index))
            .ok_or_else(|| {
                let first = self.first_partition;
                WireError::new(
                    Code::Internal,
                    RetryVerdict::Never,
                    format!(
                        "received a batch of partition {}, asked for {first}..{}",
                        metadata.partition,
                        first + self.senders.len()
                    ),
                )
            })?;
        let bytes = data.encoded_len();
        let queued = Queued::new(data, bytes, &self.shared);
        self.figures
            .record(bytes, self.shared.reservation.size(), metadata.created);
        // A dropped stream's batches are dropped; the other partitions still want theirs.
        let _ = sender.send(Ok(queued));
        Ok(())
    }
}

/// The batches of one partition.
fn partition_stream(
    mut receiver: UnboundedReceiver<Queue>,
    shared: Arc<Shared>,
    decoding: Time,
) -> BoxStream<'static, Result<RecordBatch>> {
    let wanted = Arc::clone(&shared);
    let mut asked = false;
    let messages = futures::stream::poll_fn(move |context| {
        if !asked {
            asked = true;
            wanted.wanted.notify_one();
        }
        receiver.poll_recv(context).map(|message| {
            message.map(|queued| {
                queued
                    // Its part of the reservation is given back here.
                    .map(|mut queued| std::mem::take(&mut queued.data))
                    .map_err(|error| FlightError::ExternalError(Box::new(error)))
            })
        })
    });
    let batches = FlightRecordBatchStream::new_from_flight_data(messages).map_err(decode_error);
    PartitionStream {
        batches: batches.boxed(),
        decoding,
        shared,
    }
    .boxed()
}

/// Measures decoding, and tells when it is dropped.
struct PartitionStream {
    batches: BoxStream<'static, Result<RecordBatch>>,
    decoding: Time,
    shared: Arc<Shared>,
}

impl Stream for PartitionStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let start = Instant::now();
        let polled = self.batches.poll_next_unpin(context);
        self.decoding.add_duration(start.elapsed());
        polled
    }
}

impl Drop for PartitionStream {
    fn drop(&mut self) {
        if self.shared.streams_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.abandoned.cancel();
        }
    }
}

fn decode_error(error: FlightError) -> DataFusionError {
    match error {
        FlightError::ExternalError(error) => DataFusionError::External(error),
        other => into_datafusion(WireError::new(
            Code::Internal,
            RetryVerdict::Never,
            format!("an exchanged batch cannot be decoded: {other}"),
        )),
    }
}

/// What one call measures.
struct Figures {
    metrics: ExecutionPlanMetricsSet,
    max_mem_used: Gauge,
    max_mem_bytes: usize,
    bytes_transferred: BytesCounterMetric,
    msg_count: Count,
    latency: Option<Latency>,
}

impl Figures {
    fn new(metrics: &ExecutionPlanMetricsSet) -> Self {
        Self {
            metrics: metrics.clone(),
            max_mem_used: MetricBuilder::new(metrics).global_gauge("max_mem_used"),
            max_mem_bytes: 0,
            bytes_transferred: MetricBuilder::new(metrics).bytes_counter("bytes_transferred"),
            msg_count: MetricBuilder::new(metrics).global_counter("msg_count"),
            latency: None,
        }
    }

    fn record(&mut self, bytes: usize, buffered_bytes: usize, created: SystemTime) {
        self.msg_count.add(1);
        self.bytes_transferred.add_bytes(bytes);
        if buffered_bytes > self.max_mem_bytes {
            self.max_mem_bytes = buffered_bytes;
            self.max_mem_used.set(buffered_bytes);
        }
        // Clocks of two machines may disagree; a message from the future has no latency.
        if let Ok(latency) = SystemTime::now().duration_since(created) {
            let metrics = &self.metrics;
            self.latency
                .get_or_insert_with(|| Latency::new(metrics))
                .record(latency);
        }
    }
}

/// From encoding a batch to its arrival, under the names that datafusion-distributed shows.
struct Latency {
    min: MinLatencyMetric,
    max: MaxLatencyMetric,
    p50: P50LatencyMetric,
    p95: P95LatencyMetric,
    first: FirstLatencyMetric,
    sum: Time,
    count: Count,
}

impl Latency {
    fn new(metrics: &ExecutionPlanMetricsSet) -> Self {
        let sum = Time::new();
        MetricBuilder::new(metrics).build(MetricValue::Time {
            name: "network_latency_sum".into(),
            time: sum.clone(),
        });
        Self {
            min: MetricBuilder::new(metrics).min_latency("network_latency_min"),
            max: MetricBuilder::new(metrics).max_latency("network_latency_max"),
            p50: MetricBuilder::new(metrics).p50_latency("network_latency_p50"),
            p95: MetricBuilder::new(metrics).p95_latency("network_latency_p95"),
            first: MetricBuilder::new(metrics).first_latency("network_latency_first"),
            sum,
            count: MetricBuilder::new(metrics).counter("network_latency_count", 0),
        }
    }

    fn record(&self, latency: Duration) {
        self.min.add_duration(latency);
        self.max.add_duration(latency);
        self.p50.add_duration(latency);
        self.p95.add_duration(latency);
        self.first.add_duration(latency);
        self.sum.add_duration(latency);
        self.count.add(1);
    }
}
