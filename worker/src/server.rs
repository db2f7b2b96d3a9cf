//! The Flight door of a worker: `DoExchange` takes plans, `DoGet` gives partitions, `DoAction`
//! answers and cancels. Everything else a Flight service can do is refused.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket as FlightTicket,
};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion_distributed::{DistributedConfig, Worker as Executor, WorkerToCoordinatorMsg};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use inshore_engine::interrupt::decoding;
use inshore_engine::transport::encode::compression;
use inshore_engine::transport::error::{into_datafusion, panic_error, wire_error};
use inshore_engine::transport::fragment;
use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::fragment::FromCoordinator;
use inshore_proto::membership::{Info, Load, decode_cancel_query};
use inshore_proto::task::{TaskId, Ticket};
use inshore_proto::{names, version};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;
use url::Url;

use crate::exchange::Exchange;
use crate::tasks::{PLAN_TIMEOUT, Starting, Tasks};

/// How long a caller may take to send the plan after it opened the channel.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// What one worker serves.
pub struct Server {
    pub(crate) executor: Executor,
    pub(crate) tasks: Tasks,
    pub(crate) identity: Identity,
    pub(crate) draining: AtomicBool,
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) bytes_sent: Arc<AtomicU64>,
}

/// Who the worker is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Chosen when the process starts.
    pub node_id: String,
    /// Where other nodes reach it.
    pub url: Url,
}

impl Server {
    /// What the worker carries.
    pub fn load(&self) -> Load {
        Load {
            running_tasks: u32::try_from(self.tasks.running()).unwrap_or(u32::MAX),
            memory_reserved_bytes: self.runtime.memory_pool.reserved() as u64,
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
        }
    }

    fn info(&self) -> Info {
        Info {
            protocol_version: version::PROTOCOL_VERSION,
            build_version: version::BUILD_VERSION.to_owned(),
            node_id: self.identity.node_id.clone(),
            url: self.identity.url.clone(),
            draining: self.draining.load(Ordering::Relaxed),
            load: self.load(),
        }
    }

    /// An error as it leaves this node.
    fn status(&self, error: WireError) -> Status {
        error.at_node(self.identity.url.as_str()).to_status()
    }

    /// Takes a task's plan, and answers with its load and metrics until the task is over.
    async fn start_task(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Messages, Status> {
        let (metadata, _, mut body) = request.into_parts();
        version::check_headers(&metadata).map_err(|error| self.status(error))?;
        let first = tokio::time::timeout(FIRST_MESSAGE_TIMEOUT, body.message()).await;
        let first = match first {
            Ok(message) => message?,
            Err(_) => return Err(self.status(no_plan("none came in time"))),
        };
        let (id, first) = first_message(first).map_err(|error| self.status(error))?;
        if let FromCoordinator::Abort { error, .. } = first {
            self.tasks.abort(id, error.clone());
            return Err(self.status(error));
        }
        let starting = self.tasks.begin(id).map_err(|error| self.status(error))?;
        let inbound = coordinator_messages(first, body, &starting);
        let over = starting.cancelled();
        let span = tracing::info_span!(
            "task",
            query_id = %id.query_id,
            stage_id = id.stage,
            task_id = id.task,
        );
        let headers = metadata.into_headers();
        let call = self
            .executor
            .coordinator_channel(headers, inbound)
            .instrument(span);
        let outbound = caught(decoding(starting.cancelled(), call))
            .await
            .and_then(|result| result.map_err(|e| wire_error(&e)));
        let outbound = match outbound {
            Ok(outbound) => outbound,
            Err(error) => {
                let error = error.at_node(self.identity.url.as_str());
                starting.fail(error.clone());
                return Err(error.to_status());
            }
        };
        starting.run();
        let url = self.identity.url.clone();
        let messages = outbound.map(move |message| worker_message(message, &url));
        // The channel stands for the task: it stays open until the task is over, even if there is
        // nothing more to say.
        let until_over =
            futures::stream::once(over.cancelled_owned()).filter_map(|()| std::future::ready(None));
        Ok(messages.chain(until_over).boxed())
    }

    /// Runs some partitions of a task.
    async fn get_partitions(&self, request: Request<FlightTicket>) -> Result<Messages, WireError> {
        version::check_headers(request.metadata())?;
        let ticket = Ticket::decode(&request.into_inner().ticket)?;
        let (id, first_partition) = (ticket.task, ticket.partitions.start);
        let over = self.tasks.wait(id, PLAN_TIMEOUT).await?;
        let call = self.executor.execute_task(fragment::request(ticket));
        let (streams, context) = caught(call).await?.map_err(|error| wire_error(&error))?;
        let config = DistributedConfig::from_session_config(context.session_config())
            .map_err(|error| wire_error(&error))?;
        let exchange = Exchange::start(
            id,
            streams,
            first_partition,
            compression(&config.compression)?,
            context.memory_pool(),
            Arc::clone(&self.bytes_sent),
        )?;
        let (tasks, url) = (self.tasks.clone(), self.identity.url.clone());
        let messages = futures::stream::unfold(Some(exchange), move |exchange| {
            let (tasks, over) = (tasks.clone(), over.clone());
            async move {
                let mut exchange = exchange?;
                tokio::select! {
                    biased;
                    () = over.cancelled() => Some((Err(tasks.reason(id)), None)),
                    message = exchange.next() => message.map(|message| (message, Some(exchange))),
                }
            }
        });
        Ok(messages
            .map_err(move |error| error.at_node(url.as_str()).to_status())
            .boxed())
    }

    fn act(&self, action: &Action) -> Result<Bytes, WireError> {
        match action.r#type.as_str() {
            names::INFO => Ok(self.info().encode()),
            names::CANCEL_QUERY => {
                let query_id = decode_cancel_query(&action.body)?;
                let ended = self.tasks.cancel_query(query_id);
                tracing::info!(%query_id, tasks = ended, "query cancelled");
                Ok(Bytes::new())
            }
            other => Err(WireError::new(
                Code::Unsupported,
                RetryVerdict::Never,
                format!("a worker has no action {other:?}; see ListActions"),
            )),
        }
    }
}

type Messages = BoxStream<'static, Result<FlightData, Status>>;

/// Awaits a future whose panic must not go further.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, WireError> {
    AssertUnwindSafe(future)
        .catch_unwind()
        .await
        .map_err(|panic| panic_error(panic.as_ref()))
}

fn no_plan(why: &str) -> WireError {
    WireError::new(
        Code::InvalidArgument,
        RetryVerdict::Never,
        format!("the channel of a fragment begins with its plan: {why}"),
    )
}

fn first_message(message: Option<FlightData>) -> Result<(TaskId, FromCoordinator), WireError> {
    let message = message.ok_or_else(|| no_plan("it ended"))?;
    let command = message.flight_descriptor.map(|descriptor| descriptor.cmd);
    if command.as_deref() != Some(names::FRAGMENT_COMMAND.as_bytes()) {
        let expected = names::FRAGMENT_COMMAND;
        return Err(no_plan(&format!(
            "its descriptor is not the command {expected}"
        )));
    }
    let message = FromCoordinator::decode(message.app_metadata)?;
    let id = match &message {
        FromCoordinator::SetPlan(plan) => plan.task,
        FromCoordinator::Abort { task, .. } => *task,
        _ => return Err(no_plan("another message came")),
    };
    Ok((id, message))
}

/// The coordinator's messages for the executor. They end when the coordinator ends them, when it is
/// gone, and when the task is cancelled; and when they have ended, so has the task.
fn coordinator_messages(
    first: FromCoordinator,
    rest: Streaming<FlightData>,
    starting: &Starting,
) -> BoxStream<'static, datafusion::error::Result<datafusion_distributed::CoordinatorToWorkerMsg>> {
    let guard = starting.channel_guard();
    let rest = rest
        // A broken connection: the coordinator is gone.
        .take_while(|message| std::future::ready(message.is_ok()))
        .map_err(|status| WireError::new(Code::Unavailable, RetryVerdict::Never, status.message()))
        .and_then(|data| std::future::ready(FromCoordinator::decode(data.app_metadata)));
    futures::stream::once(std::future::ready(Ok(first)))
        .chain(rest)
        .take_until(starting.cancelled().cancelled_owned())
        .map(move |message| {
            let _held = &guard;
            message
                .and_then(fragment::to_worker)
                .map_err(into_datafusion)
        })
        .boxed()
}

fn worker_message(
    message: datafusion::error::Result<WorkerToCoordinatorMsg>,
    url: &Url,
) -> Result<FlightData, Status> {
    match message {
        Ok(message) => Ok(FlightData {
            app_metadata: fragment::from_worker(message).encode(),
            ..FlightData::default()
        }),
        Err(error) => Err(wire_error(&error).at_node(url.as_str()).to_status()),
    }
}

fn refused<T>(what: &str) -> Result<Response<T>, Status> {
    let error = WireError::new(
        Code::Unsupported,
        RetryVerdict::Never,
        format!("a worker does not offer {what}; send SQL to the coordinator"),
    );
    Err(error.to_status())
}

/// The service over a shared [`Server`].
#[derive(Clone)]
pub struct Door(pub Arc<Server>);

#[async_trait]
impl FlightService for Door {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = Messages;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = Messages;

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Messages>, Status> {
        self.0.start_task(request).await.map(Response::new)
    }

    async fn do_get(&self, request: Request<FlightTicket>) -> Result<Response<Messages>, Status> {
        let messages = self.0.get_partitions(request).await;
        messages
            .map(Response::new)
            .map_err(|error| self.0.status(error))
    }

    async fn do_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let body = version::check_headers(request.metadata())
            .and_then(|()| self.0.act(request.get_ref()))
            .map_err(|error| self.0.status(error))?;
        let result = Ok(arrow_flight::Result { body });
        Ok(Response::new(futures::stream::iter([result]).boxed()))
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let actions = [
            (names::INFO, "what the worker is and carries"),
            (names::CANCEL_QUERY, "ends all tasks of a query"),
        ];
        let actions = actions.map(|(name, description)| {
            Ok(ActionType {
                r#type: name.to_owned(),
                description: description.to_owned(),
            })
        });
        Ok(Response::new(futures::stream::iter(actions).boxed()))
    }

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        refused("Handshake")
    }

    async fn list_flights(
        &self,
        _request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        refused("ListFlights")
    }

    async fn get_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        refused("GetFlightInfo")
    }

    async fn poll_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        refused("PollFlightInfo")
    }

    async fn get_schema(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        refused("GetSchema")
    }

    async fn do_put(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        refused("DoPut")
    }
}
