//! One worker, from start to drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion_distributed::{Worker as Executor, WorkerSessionBuilder};
use inshore_engine::transport::channel;
use inshore_proto::MAX_MESSAGE_BYTES;
use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::membership::{Load, Registration};
use inshore_proto::version::{BUILD_VERSION, PROTOCOL_VERSION};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use url::Url;
use uuid::Uuid;

use crate::member::Member;
use crate::server::{Door, Identity, Server};
use crate::tasks::Tasks;
use crate::tidy::tidy;
use crate::{Error, Result};

/// Queries that were planned before the coordinator knew of the drain may still send tasks for
/// this long.
const LATE_TASKS: Duration = Duration::from_millis(500);

/// For the coordinator to take note of a drain or a leave.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// For connections to close once no task is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where other nodes reach the worker; by default where it listens.
    pub advertise: Option<Url>,
    /// The coordinator to register with; by default none, for a worker that is found otherwise.
    pub coordinator: Option<Url>,
    /// The worker's network location.
    pub site: Option<String>,
    /// Cores that its tasks may use.
    pub cores: u32,
    /// Bound of what its tasks may reserve, in bytes; 0 for none. For display: the runtime's pool
    /// enforces it.
    pub memory_limit_bytes: u64,
    /// Between two heartbeats.
    pub heartbeat_interval: Duration,
    /// How long tasks may take to finish once the worker is asked to stop.
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            coordinator: None,
            site: None,
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            memory_limit_bytes: 0,
            heartbeat_interval: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Refuses what cannot work or is not safe, before a port is opened.
    pub fn validate(&self) -> Result<()> {
        refuse_open(self.listen)?;
        match &self.advertise {
            Some(url) => check_url(url),
            None => Ok(()),
        }
    }

    /// Opens the port.
    pub async fn bind(&self) -> Result<TcpListener> {
        self.validate()?;
        let address = self.listen;
        TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen { address, source })
    }
}

fn refuse_open(address: SocketAddr) -> Result<()> {
    match address.ip().is_loopback() {
        true => Ok(()),
        false => Err(Error::NotLoopback { address }),
    }
}

fn check_url(url: &Url) -> Result<()> {
    let why = match (url.scheme(), url.host_str(), url.port()) {
        ("grpc", Some(host), Some(_)) if !host.is_empty() => return Ok(()),
        ("grpc", _, Some(_)) => "it names no host",
        ("grpc", ..) => "it names no port",
        _ => "the scheme is not grpc",
    };
    Err(Error::Advertise {
        url: url.to_string(),
        why: why.to_owned(),
    })
}

/// Runs a worker until `shutdown`, then drains it.
pub async fn run(
    config: Config,
    listener: TcpListener,
    sessions: impl WorkerSessionBuilder + Send + Sync + 'static,
    runtime: Arc<RuntimeEnv>,
    shutdown: CancellationToken,
) -> Result<()> {
    let drain_timeout = config.drain_timeout;
    let mut worker = Worker::start(config, listener, sessions, runtime)?;
    tokio::select! {
        () = shutdown.cancelled() => worker.drain(drain_timeout).await,
        ended = worker.ended() => ended,
    }
}

/// A running worker. Dropping it ends its tasks at once, and its connections soon.
pub struct Worker {
    server: Arc<Server>,
    member: Option<Member>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Worker {
    /// Starts to serve on `listener`, and to register if there is a coordinator. `sessions` makes
    /// the session of each task, within `runtime`.
    pub fn start(
        config: Config,
        listener: TcpListener,
        sessions: impl WorkerSessionBuilder + Send + Sync + 'static,
        runtime: Arc<RuntimeEnv>,
    ) -> Result<Self> {
        let listen = config.listen;
        let address = listener.local_addr().map_err(|source| Error::Listen {
            address: listen,
            source,
        })?;
        refuse_open(address)?;
        let url = match &config.advertise {
            Some(url) => url.clone(),
            None => listening_url(address)?,
        };
        check_url(&url)?;
        let server = Arc::new(Server {
            executor: Executor::from_session_builder(sessions)
                .with_runtime_env(Arc::clone(&runtime))
                .with_version(BUILD_VERSION),
            tasks: Tasks::default(),
            identity: Identity {
                node_id: Uuid::now_v7().to_string(),
                url,
            },
            draining: AtomicBool::new(false),
            runtime,
            bytes_sent: Arc::new(AtomicU64::new(0)),
        });
        let stop = CancellationToken::new();
        // Ends with `stop`.
        tokio::spawn(tidy(Arc::clone(&server), stop.clone()));
        let serving = tokio::spawn(serve(listener, Arc::clone(&server), stop.clone()));
        let member = match &config.coordinator {
            Some(coordinator) => Some(join(&config, coordinator, &server)?),
            None => None,
        };
        tracing::info!(url = %server.identity.url, "worker serves");
        Ok(Self {
            server,
            member,
            stop,
            serving,
        })
    }

    /// Where other nodes reach the worker.
    pub fn url(&self) -> &Url {
        &self.server.identity.url
    }

    /// What the worker carries.
    pub fn load(&self) -> Load {
        self.server.load()
    }

    /// The worker's tasks.
    pub fn tasks(&self) -> &Tasks {
        &self.server.tasks
    }

    /// Waits until the coordinator has accepted the worker; for ever if it has none.
    pub async fn registered(&self) {
        match &self.member {
            Some(member) => member.registered().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until serving ends by itself, which is an error.
    pub async fn ended(&mut self) -> Result<()> {
        let why = match (&mut self.serving).await {
            Ok(Ok(())) => "it ended by itself".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(Error::Serve(why))
    }

    /// Takes no new queries, finishes what runs within `timeout`, leaves the cluster and ends.
    pub async fn drain(mut self, timeout: Duration) -> Result<()> {
        self.server.draining.store(true, Ordering::Relaxed);
        tracing::info!(tasks = self.server.tasks.running(), "worker drains");
        if let Some(member) = &self.member {
            member.drain(FAREWELL_TIMEOUT).await;
            tokio::time::sleep(LATE_TASKS.min(timeout)).await;
        }
        if tokio::time::timeout(timeout, self.server.tasks.idle())
            .await
            .is_err()
        {
            let ended = self.server.tasks.cancel_all(|id| {
                WireError::new(
                    Code::Unavailable,
                    RetryVerdict::Elsewhere,
                    format!("the worker stops, and {id} did not finish in time"),
                )
            });
            tracing::warn!(tasks = ended, "tasks did not finish in time");
        }
        if let Some(member) = self.member.take() {
            member.leave(FAREWELL_TIMEOUT).await;
        }
        self.stop.cancel();
        // Connections that nobody closes are cut.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, &mut self.serving).await;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.server.tasks.cancel_all(|id| {
            let message = format!("the worker stopped while {id} was running");
            WireError::new(Code::Unavailable, RetryVerdict::Elsewhere, message)
        });
        self.stop.cancel();
    }
}

fn listening_url(address: SocketAddr) -> Result<Url> {
    let text = format!("grpc://{address}");
    Url::parse(&text).map_err(|error| Error::Advertise {
        url: text,
        why: error.to_string(),
    })
}

fn join(config: &Config, coordinator: &Url, server: &Arc<Server>) -> Result<Member> {
    let registration = Registration {
        protocol_version: PROTOCOL_VERSION,
        build_version: BUILD_VERSION.to_owned(),
        node_id: server.identity.node_id.clone(),
        url: server.identity.url.clone(),
        site: config.site.clone(),
        cores: config.cores,
        memory_limit_bytes: config.memory_limit_bytes,
    };
    let load = {
        let server = Arc::clone(server);
        Arc::new(move || server.load())
    };
    Member::join(
        coordinator.clone(),
        registration,
        config.heartbeat_interval,
        load,
    )
}

async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let door = FlightServiceServer::new(Door(server))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(channel::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(channel::KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(channel::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(channel::CONNECTION_WINDOW_BYTES)
        .max_frame_size(channel::MAX_FRAME_BYTES)
        .max_concurrent_streams(channel::MAX_CONCURRENT_CALLS)
        .http2_max_header_list_size(channel::MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(channel::MAX_PENDING_CANCELLATIONS))
        .add_service(door)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stop.cancelled_owned(),
        )
        .await
}
