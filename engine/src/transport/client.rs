//! Calls of one node to a worker.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor, Ticket as FlightTicket};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, DistributedConfig, ExecuteTaskRequest,
    GetWorkerInfoRequest, GetWorkerInfoResponse, WorkerChannel, WorkerToCoordinatorMsg,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http::{Extensions, HeaderMap};
use inshore_proto::error::WireError;
use inshore_proto::fragment::{FromCoordinator, FromWorker};
use inshore_proto::membership::{self, Info};
use inshore_proto::{MAX_MESSAGE_BYTES, names, version};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use url::Url;
use uuid::Uuid;

use crate::transport::channel::{Channels, OnUnreachable};
use crate::transport::demux::{Call, Messages, demultiplex};
use crate::transport::error::{call_error, gone, into_datafusion};
use crate::transport::fate::{Fate, Fates};
use crate::transport::fragment;

/// Until a worker begins to answer: it decodes a plan, or waits for one that is on its way.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// For an action to be done.
const ACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a finished query waits for the metrics of a task.
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);

/// What a fragment message holds besides its body, at most, in bytes.
const ENVELOPE_BYTES: usize = 4 * 1024;

/// Makes channels to workers over shared connections. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FlightChannelResolver {
    channels: Arc<Channels>,
    fates: Arc<Fates>,
}

impl FlightChannelResolver {
    /// A resolver that reports each worker that turns out to be gone.
    pub fn new(on_unreachable: impl Fn(&Url) + Send + Sync + 'static) -> Self {
        let on_unreachable: Box<OnUnreachable> = Box::new(on_unreachable);
        Self {
            channels: Arc::new(Channels::new(on_unreachable)),
            fates: Arc::default(),
        }
    }

    /// The connections.
    pub fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// A channel to one worker.
    pub fn worker(&self, url: &Url) -> Result<FlightWorkerChannel, WireError> {
        Ok(FlightWorkerChannel {
            client: self.channels.client(url)?,
            url: url.clone(),
            channels: Arc::clone(&self.channels),
            fates: Arc::clone(&self.fates),
        })
    }
}

#[async_trait]
impl ChannelResolver for FlightChannelResolver {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>> {
        Ok(Box::new(self.worker(url).map_err(into_datafusion)?))
    }
}

/// Calls to one worker.
#[derive(Clone, Debug)]
pub struct FlightWorkerChannel {
    client: FlightServiceClient<Channel>,
    url: Url,
    channels: Arc<Channels>,
    fates: Arc<Fates>,
}

impl FlightWorkerChannel {
    /// What the worker says about itself.
    pub async fn info(&mut self) -> Result<Info, WireError> {
        Info::decode(&self.action(membership::info_action()).await?)
    }

    /// Ends all tasks of a query on the worker.
    pub async fn cancel_query(&mut self, query_id: Uuid) -> Result<(), WireError> {
        self.action(membership::cancel_query_action(query_id))
            .await?;
        Ok(())
    }

    /// Has an action done, and returns the body of its first result.
    pub async fn action(&mut self, action: arrow_flight::Action) -> Result<Bytes, WireError> {
        let doing = format!("doing {}", action.r#type);
        let request = stamped(HeaderMap::new(), action);
        let answer = async {
            let mut results = self.client.do_action(request).await?.into_inner();
            let first = results.message().await?;
            Ok(first.map(|result| result.body).unwrap_or_default())
        };
        let Ok(answer) = tokio::time::timeout(ACTION_TIMEOUT, answer).await else {
            return Err(self.peer().silent(ACTION_TIMEOUT, &doing));
        };
        answer.map_err(|status: Status| self.peer().error(&status, &doing))
    }

    fn peer(&self) -> Peer {
        Peer {
            url: self.url.clone(),
            channels: Arc::clone(&self.channels),
        }
    }
}

/// The worker that a call goes to, for its errors.
#[derive(Clone)]
struct Peer {
    url: Url,
    channels: Arc<Channels>,
}

impl Peer {
    /// The error that a call ended with.
    fn error(&self, status: &Status, doing: &str) -> WireError {
        let error = call_error(status, &self.url, doing);
        // Errors that the worker itself reports come with its own error; this is the transport's.
        if error.code == inshore_proto::error::Code::Unavailable
            && WireError::from_status(status).is_none()
        {
            self.channels.unreachable(&self.url);
        }
        error
    }

    /// The error of a call that was not answered in time.
    fn silent(&self, timeout: Duration, doing: &str) -> WireError {
        let why = format!("no answer within {} s", timeout.as_secs());
        gone(&self.url, &why, doing)
    }

    /// Waits for a call's answer to begin.
    async fn first_answer<T>(
        &self,
        call: BoxFuture<'_, Result<Response<Streaming<T>>, Status>>,
        doing: &str,
    ) -> Result<Streaming<T>, WireError> {
        match tokio::time::timeout(FIRST_ANSWER_TIMEOUT, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.error(&status, doing)),
            Err(_) => Err(self.silent(FIRST_ANSWER_TIMEOUT, doing)),
        }
    }
}

fn stamped<T>(headers: HeaderMap, message: T) -> Request<T> {
    let mut metadata = MetadataMap::from_headers(headers);
    version::stamp(&mut metadata);
    Request::from_parts(metadata, Extensions::default(), message)
}

#[async_trait]
impl WorkerChannel for FlightWorkerChannel {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        mut to_worker: BoxStream<'static, CoordinatorToWorkerMsg>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        let first = to_worker.next().await;
        let fate = first.as_ref().and_then(query_of);
        let fate = fate.map(|query_id| self.fates.of(query_id));
        let to_worker = futures::stream::iter(first).chain(to_worker).boxed();
        let query_over = CancellationToken::new();
        let messages = fragment_messages(to_worker, query_over.clone());
        let peer = self.peer();
        let doing = "starting a task";
        let call = self.client.do_exchange(stamped(headers, messages)).boxed();
        let answer = peer.first_answer(call, doing).await.map_err(|error| {
            tell(fate.as_ref(), &error);
            into_datafusion(error)
        })?;
        let state = Answers {
            answer,
            query_over,
            peer,
            fate,
        };
        Ok(futures::stream::unfold(state, |mut state| async move {
            let next = state.next().await?;
            Some((
                next.map_err(into_datafusion)
                    .and_then(fragment::to_coordinator),
                state,
            ))
        })
        .boxed())
    }

    async fn execute_task(
        &mut self,
        headers: HeaderMap,
        request: ExecuteTaskRequest,
        metrics: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch>>>> {
        let config = DistributedConfig::from_task_context(context)?;
        let budget_bytes = config.worker_connection_buffer_budget_bytes;
        let ticket = fragment::ticket(&request);
        let partitions = ticket.partitions.clone();
        let call = self.clone().get_partitions(headers, ticket);
        Ok(demultiplex(
            call,
            partitions,
            budget_bytes,
            context.memory_pool(),
            &metrics,
        ))
    }

    async fn get_worker_info(
        &mut self,
        _request: GetWorkerInfoRequest,
    ) -> Result<GetWorkerInfoResponse> {
        let info = self.info().await.map_err(into_datafusion)?;
        Ok(GetWorkerInfoResponse {
            version: info.build_version,
        })
    }
}

impl FlightWorkerChannel {
    fn get_partitions(mut self, headers: HeaderMap, ticket: inshore_proto::task::Ticket) -> Call {
        async move {
            let peer = self.peer();
            let fate = self.fates.of(ticket.task.query_id);
            let doing = format!("running {}", ticket.task);
            let ticket = FlightTicket {
                ticket: ticket.encode(),
            };
            let call = self.client.do_get(stamped(headers, ticket)).boxed();
            let messages = tokio::select! {
                biased;
                messages = peer.first_answer(call, &doing) => messages?,
                error = fate.failed() => return Err(error),
            };
            let messages = messages
                .map(move |message| message.map_err(|status| peer.error(&status, &doing)))
                .boxed();
            Ok(until_failed(messages, fate))
        }
        .boxed()
    }
}

/// The messages of a query that may fail elsewhere meanwhile.
fn until_failed(messages: Messages, fate: Arc<Fate>) -> Messages {
    futures::stream::unfold(Some((messages, fate)), |state| async move {
        let (mut messages, fate) = state?;
        tokio::select! {
            biased;
            message = messages.next() => message.map(|message| (message, Some((messages, fate)))),
            error = fate.failed() => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// The query of the task that a channel begins with.
fn query_of(message: &CoordinatorToWorkerMsg) -> Option<Uuid> {
    match message {
        CoordinatorToWorkerMsg::SetPlanRequest(request) => Some(request.task_key.query_id),
        _ => None,
    }
}

fn tell(fate: Option<&Arc<Fate>>, error: &WireError) {
    if let Some(fate) = fate {
        fate.fail(error);
    }
}

/// The coordinator's half of a fragment's channel.
fn fragment_messages(
    messages: BoxStream<'static, CoordinatorToWorkerMsg>,
    query_over: CancellationToken,
) -> BoxStream<'static, FlightData> {
    let mut descriptor = Some(FlightDescriptor::new_cmd(names::FRAGMENT_COMMAND));
    let over = futures::stream::once(async move { query_over.cancel() })
        .filter_map(|()| std::future::ready(None));
    messages
        .map(move |message| {
            let message: FromCoordinator = fragment::from_coordinator(message);
            let body = fragment::encode_bounded(message, MAX_MESSAGE_BYTES - ENVELOPE_BYTES);
            FlightData {
                flight_descriptor: descriptor.take(),
                app_metadata: body,
                ..FlightData::default()
            }
        })
        .chain(over)
        .boxed()
}

/// The worker's half of a fragment's channel.
struct Answers {
    answer: Streaming<FlightData>,
    /// The coordinator's half has ended: the query has its result.
    query_over: CancellationToken,
    peer: Peer,
    fate: Option<Arc<Fate>>,
}

impl Answers {
    /// The next message. Once the query is over only metrics are outstanding: they get a bounded
    /// time, and a worker that dies with them does not fail the query.
    async fn next(&mut self) -> Option<Result<FromWorker, WireError>> {
        let over = self.query_over.clone();
        let expired = async {
            over.cancelled().await;
            tokio::time::sleep(METRICS_TIMEOUT).await;
        };
        let message = tokio::select! {
            biased;
            message = self.answer.message() => message,
            () = expired => return None,
        };
        match message {
            Ok(message) => Some(FromWorker::decode(message?.app_metadata)),
            Err(status) if self.query_over.is_cancelled() => {
                tracing::debug!(worker = %self.peer.url, %status, "metrics of a task are lost");
                None
            }
            Err(status) => {
                let error = self.peer.error(&status, "a task of it was running");
                tell(self.fate.as_ref(), &error);
                Some(Err(error))
            }
        }
    }
}
