//! What a consumer of a task's partitions asks of a worker, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket as FlightTicket,
};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::{
    DistributedExt, ExecuteTaskRequest, ProducerHeadSpec, SessionStateBuilderExt, TaskKey,
    WorkerChannel,
};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use inshore_engine::transport::encode::BatchEncoder;
use inshore_engine::transport::error::wire_error;
use inshore_engine::transport::{FlightChannelResolver, fragment};
use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::exchange::BatchMetadata;
use inshore_proto::fragment::{FromCoordinator, SetPlan};
use inshore_proto::task::{TaskId, Ticket};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use url::Url;
use uuid::Uuid;

/// What the worker does with each partition it is asked for.
#[derive(Clone, Copy)]
enum Script {
    /// Sends as many batches of 1000 rows to each partition, in turn.
    Batches(usize),
    /// Sends a batch of a partition that nobody asked for.
    WrongPartition,
    /// Sends a batch, then fails.
    Fails,
    /// Does not answer.
    Silent,
}

/// Gives partitions by a script, and counts what it is asked and what it gave.
#[derive(Clone)]
struct Producer {
    script: Script,
    calls: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn batch() -> RecordBatch {
    let numbers = Int64Array::from_iter_values(0..1000);
    RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef)]).unwrap()
}

fn tagged(partition: usize, message: FlightData) -> Result<FlightData, Status> {
    Ok(message.with_app_metadata(BatchMetadata::now(partition).encode()))
}

impl Producer {
    fn messages(&self, ticket: &Ticket) -> Vec<Result<FlightData, Status>> {
        let mut messages = Vec::new();
        let mut encoder = BatchEncoder::new(None).unwrap();
        let partitions = ticket.partitions.clone();
        for partition in partitions.clone() {
            messages.push(tagged(partition, encoder.encode_schema(&batch().schema())));
        }
        let rounds = match self.script {
            Script::Batches(rounds) => rounds,
            _ => 1,
        };
        for _ in 0..rounds {
            for partition in partitions.clone() {
                let encoded = encoder.encode(batch()).unwrap().into_iter();
                messages.extend(encoded.map(|message| tagged(partition, message)));
            }
        }
        match self.script {
            Script::WrongPartition => {
                let message = encoder.encode(batch()).unwrap().remove(0);
                messages.push(tagged(partitions.end + 3, message));
            }
            Script::Fails => {
                let error = WireError::new(Code::Corrupt, RetryVerdict::Never, "broken");
                messages.push(Err(error.to_status()));
            }
            _ => {}
        }
        messages
    }
}

type Boxed<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl FlightService for Producer {
    type HandshakeStream = Boxed<HandshakeResponse>;
    type ListFlightsStream = Boxed<FlightInfo>;
    type DoGetStream = Boxed<FlightData>;
    type DoPutStream = Boxed<PutResult>;
    type DoActionStream = Boxed<arrow_flight::Result>;
    type ListActionsStream = Boxed<ActionType>;
    type DoExchangeStream = Boxed<FlightData>;

    async fn do_get(
        &self,
        request: Request<FlightTicket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if matches!(self.script, Script::Silent) {
            std::future::pending::<()>().await;
        }
        let ticket = Ticket::decode(&request.into_inner().ticket)?;
        self.running.fetch_add(1, Ordering::SeqCst);
        let (running, sent) = (Running(Arc::clone(&self.running)), Arc::clone(&self.sent));
        let messages = futures::stream::iter(self.messages(&ticket)).inspect(move |_| {
            let _running = &running;
            sent.fetch_add(1, Ordering::SeqCst);
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_flights(
        &self,
        _: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn do_put(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn do_action(
        &self,
        _: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_actions(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented(""))
    }
    /// Fails, once partitions were asked for.
    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        until("it was asked for partitions", || {
            self.calls.load(Ordering::SeqCst) == 1
        })
        .await;
        let error = WireError::new(Code::Unavailable, RetryVerdict::Retry, "killed");
        Err(error.to_status())
    }
}

async fn producer(script: Script) -> (Producer, Url) {
    let producer = Producer {
        script,
        calls: Arc::default(),
        sent: Arc::default(),
        running: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("grpc://{}", listener.local_addr().unwrap())).unwrap();
    let service = FlightServiceServer::new(producer.clone());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    (producer, url)
}

fn context(budget_bytes: usize) -> Arc<TaskContext> {
    SessionStateBuilder::new()
        .with_default_features()
        .with_distributed_planner()
        .with_distributed_worker_connection_buffer_budget_bytes(budget_bytes)
        .unwrap()
        .build()
        .task_ctx()
}

struct Consumer {
    partitions: Vec<BoxStream<'static, Result<RecordBatch>>>,
    metrics: ExecutionPlanMetricsSet,
    context: Arc<TaskContext>,
}

/// Asks for partitions 4, 5 and 6.
async fn consumer(url: &Url, budget_bytes: usize) -> Consumer {
    let channels = FlightChannelResolver::default();
    consumer_of(&channels, Uuid::now_v7(), url, budget_bytes).await
}

async fn consumer_of(
    channels: &FlightChannelResolver,
    query_id: Uuid,
    url: &Url,
    budget_bytes: usize,
) -> Consumer {
    let metrics = ExecutionPlanMetricsSet::new();
    let context = context(budget_bytes);
    let request = ExecuteTaskRequest {
        task_key: TaskKey {
            query_id,
            stage_id: 2,
            task_number: 1,
        },
        target_partition_start: 4,
        target_partition_end: 7,
        producer_head_spec: ProducerHeadSpec::None,
    };
    let mut worker = channels.worker(url).unwrap();
    let headers = http::HeaderMap::new();
    let partitions = worker
        .execute_task(headers, request, metrics.clone(), &context)
        .await
        .unwrap();
    Consumer {
        partitions,
        metrics,
        context,
    }
}

impl Consumer {
    fn reserved(&self) -> usize {
        self.context.memory_pool().reserved()
    }

    async fn rows(&mut self, partition: usize) -> Result<usize> {
        let mut rows = 0;
        while let Some(batch) = self.partitions[partition].next().await {
            rows += batch?.num_rows();
        }
        Ok(rows)
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const AWHILE: Duration = Duration::from_millis(150);

#[tokio::test]
async fn nothing_is_asked_for_before_a_partition_is_polled() {
    let (producer, url) = producer(Script::Batches(2)).await;
    let mut consumer = consumer(&url, 1 << 20).await;
    tokio::time::sleep(AWHILE).await;
    assert_eq!(producer.calls.load(Ordering::SeqCst), 0);
    assert_eq!(consumer.rows(1).await.unwrap(), 2000);
    assert_eq!(producer.calls.load(Ordering::SeqCst), 1);
    assert_eq!(consumer.rows(0).await.unwrap(), 2000);
    assert_eq!(consumer.rows(2).await.unwrap(), 2000);
    assert_eq!(producer.calls.load(Ordering::SeqCst), 1);
    assert_eq!(consumer.reserved(), 0);
    let metrics = consumer.metrics.clone_inner();
    let figure = |name: &str| {
        metrics
            .iter()
            .find(|metric| metric.value().name() == name)
            .cloned()
    };
    assert_eq!(figure("msg_count").unwrap().value().as_usize(), 9);
    // Six batches of 1000 longs.
    assert!(figure("bytes_transferred").unwrap().value().as_usize() > 48_000);
    assert!(figure("max_mem_used").unwrap().value().as_usize() > 8000);
    assert!(figure("network_latency_max").unwrap().value().as_usize() > 0);
}

#[tokio::test]
async fn dropped_before_it_was_polled_it_is_asked_for_and_cancelled() {
    let (producer, url) = producer(Script::Batches(2000)).await;
    drop(consumer(&url, 1 << 20).await);
    until("it was asked for", || {
        producer.calls.load(Ordering::SeqCst) == 1
    })
    .await;
    until("it was cancelled", || {
        producer.running.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn reading_stops_at_the_budget_and_goes_on() {
    let (producer, url) = producer(Script::Batches(2000)).await;
    let mut consumer = consumer(&url, 100_000).await;
    let first = consumer.partitions[0].next().await.unwrap().unwrap();
    assert_eq!(first.num_rows(), 1000);
    tokio::time::sleep(AWHILE).await;
    let reserved = consumer.reserved();
    assert!((80_000..120_000).contains(&reserved), "{reserved}");
    // The rest waits on the worker: 6000 messages of 8 KB fit into no window.
    let sent = producer.sent.load(Ordering::SeqCst);
    assert!(sent < 1000, "{sent}");
    // All partitions are read at once, since each holds up the others.
    let partitions = std::mem::take(&mut consumer.partitions);
    let counts = partitions.into_iter().map(|partition| {
        partition.fold(0, |rows, batch| {
            std::future::ready(rows + batch.unwrap().num_rows())
        })
    });
    let rows: usize = futures::future::join_all(counts).await.into_iter().sum();
    assert_eq!(rows, 3 * 2000 * 1000 - 1000);
    assert_eq!(consumer.reserved(), 0);
}

#[tokio::test]
async fn a_partition_that_is_dropped_does_not_hold_up_the_others() {
    let (producer, url) = producer(Script::Batches(300)).await;
    let mut consumer = consumer(&url, 10_000).await;
    consumer.partitions[0].next().await.unwrap().unwrap();
    drop(consumer.partitions.remove(0));
    drop(consumer.partitions.remove(0));
    assert_eq!(consumer.rows(0).await.unwrap(), 300_000);
    assert_eq!(consumer.reserved(), 0);
    drop(consumer);
    until("it ended", || producer.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_dropped_consumer_stops_the_producer() {
    let (producer, url) = producer(Script::Batches(2000)).await;
    let mut consumer = consumer(&url, 1 << 20).await;
    consumer.partitions[2].next().await.unwrap().unwrap();
    let context = Arc::clone(&consumer.context);
    drop(consumer);
    until("it was cancelled", || {
        producer.running.load(Ordering::SeqCst) == 0
    })
    .await;
    until("memory is given back", || {
        context.memory_pool().reserved() == 0
    })
    .await;
}

#[tokio::test]
async fn every_partition_hears_of_a_failure() {
    let (_producer, url) = producer(Script::Fails).await;
    let mut consumer = consumer(&url, 1 << 20).await;
    for partition in 0..3 {
        let error = wire_error(&consumer.rows(partition).await.unwrap_err());
        assert_eq!(
            (error.code, error.message.as_str()),
            (Code::Corrupt, "broken")
        );
        assert_eq!(error.node.as_deref(), Some(url.as_str()));
    }
}

#[tokio::test]
async fn a_batch_of_another_partition_is_an_error() {
    let (_producer, url) = producer(Script::WrongPartition).await;
    let mut consumer = consumer(&url, 1 << 20).await;
    let error = wire_error(&consumer.rows(0).await.unwrap_err());
    assert_eq!(error.code, Code::Internal);
    assert!(
        error.message.contains("partition 10, asked for 4..7"),
        "{error}"
    );
}

#[tokio::test]
async fn a_silent_worker_can_be_given_up() {
    let (producer, url) = producer(Script::Silent).await;
    let mut consumer = consumer(&url, 1 << 20).await;
    assert!(consumer.partitions[0].next().now_or_never().is_none());
    until("it was asked", || {
        producer.calls.load(Ordering::SeqCst) == 1
    })
    .await;
    drop(consumer);
}

#[tokio::test]
async fn a_broken_channel_ends_the_streams_of_its_query_only() {
    let (_producer, url) = producer(Script::Silent).await;
    let (_other_producer, other_url) = producer(Script::Silent).await;
    let channels = FlightChannelResolver::default();
    let query_id = Uuid::now_v7();
    let plan = SetPlan {
        task: TaskId {
            query_id,
            stage: 1,
            task: 0,
        },
        task_count: 1,
        plan: bytes::Bytes::new(),
        feeds: vec![],
        target_url: url.clone(),
        query_start_ns: 0,
    };
    let plan = fragment::to_worker(FromCoordinator::SetPlan(plan)).unwrap();
    let messages = futures::stream::iter([plan]).chain(futures::stream::pending());
    let mut worker = channels.worker(&url).unwrap();
    let channel = worker.coordinator_channel(http::HeaderMap::new(), messages.boxed());
    // One waits for the worker whose channel breaks, one for another.
    let mut waiting = consumer_of(&channels, query_id, &url, 1 << 20).await;
    let mut elsewhere = consumer_of(&channels, query_id, &other_url, 1 << 20).await;
    let mut other_query = consumer_of(&channels, Uuid::now_v7(), &other_url, 1 << 20).await;
    let streams = async { tokio::join!(waiting.rows(0), elsewhere.rows(1), channel) };
    let ended = tokio::time::timeout(Duration::from_secs(5), streams).await;
    let (first, second, channel) = ended.expect("somebody waits for a query that failed");
    assert!(channel.is_err());
    for error in [first.unwrap_err(), second.unwrap_err()] {
        let error = wire_error(&error);
        assert_eq!(error.message, "killed");
        assert_eq!(error.node.as_deref(), Some(url.as_str()));
    }
    // Who begins a little later is told too.
    let mut late = consumer_of(&channels, query_id, &other_url, 1 << 20).await;
    let late = tokio::time::timeout(Duration::from_secs(5), late.rows(0)).await;
    assert!(late.unwrap().is_err());
    let other_query = tokio::time::timeout(AWHILE, other_query.rows(0)).await;
    assert!(other_query.is_err(), "another query ended");
}
