//! A coordinator and workers in this process, each behind a real socket on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use inshore_coordinator::{Coordinator, Options, Topology};
use inshore_engine::{EngineOptions, session};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::{Lake, rows};

/// How long a cluster may take to come up, or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Settings that make even small tables go through several tasks and batches.
pub fn forced() -> EngineOptions {
    EngineOptions {
        target_partitions: 3,
        batch_size: 512,
        bytes_per_task: 1,
        ..EngineOptions::default()
    }
}

/// The options of a coordinator over `lake`.
pub fn options(lake: &Lake, engine: EngineOptions, topology: Topology) -> Options {
    Options {
        catalogs: lake.catalogs(),
        stores: lake.stores(),
        working_directory: None,
        engine,
        topology,
        default_schema: None,
        worker_wait: PATIENCE,
        heartbeat_timeout: Duration::from_secs(3),
        statement_timeout: None,
        session_idle: Duration::from_secs(30 * 60),
    }
}

/// A worker of a [`Cluster`].
pub struct Worker {
    /// Ends the worker when cancelled, after it finished what it runs.
    pub shutdown: CancellationToken,
    task: JoinHandle<Result<()>>,
}

/// A running cluster. Ends with the process; [`Cluster::stop`] ends it in order.
pub struct Cluster {
    coordinator: Arc<Coordinator>,
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<inshore_coordinator::Result<()>>,
    workers: Vec<Worker>,
    engine: EngineOptions,
}

impl Cluster {
    /// Starts a coordinator and `workers` workers that distribute everything.
    ///
    /// # Errors
    /// A socket cannot be opened, or the workers do not register in time.
    pub async fn start(lake: &Lake, workers: usize) -> Result<Self> {
        Self::start_with(lake, workers, forced()).await
    }

    /// Starts a cluster with engine settings of its own.
    ///
    /// # Errors
    /// A socket cannot be opened, or the workers do not register in time.
    pub async fn start_with(lake: &Lake, workers: usize, engine: EngineOptions) -> Result<Self> {
        Self::start_as(lake, workers, options(lake, engine, Topology::Cluster)).await
    }

    /// Starts a cluster whose coordinator has options of its own.
    ///
    /// # Errors
    /// A socket cannot be opened, or the workers do not register in time.
    pub async fn start_as(lake: &Lake, workers: usize, options: Options) -> Result<Self> {
        let engine = options.engine.clone();
        let coordinator = Coordinator::new(options)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(Arc::clone(&coordinator).serve(listener, shutdown.clone()));
        let mut cluster = Self {
            coordinator,
            address,
            shutdown,
            serving,
            workers: Vec::new(),
            engine,
        };
        for _ in 0..workers {
            cluster.add_worker(lake).await?;
        }
        Ok(cluster)
    }

    /// Adds a worker and waits until it is live.
    ///
    /// # Errors
    /// It does not register in time.
    pub async fn add_worker(&mut self, lake: &Lake) -> Result<()> {
        let before = self.coordinator.membership().live().len();
        let worker = start_worker(self.address, lake, self.engine.clone()).await?;
        self.workers.push(worker);
        self.wait_for_workers(before + 1).await
    }

    /// Waits until so many workers are live.
    ///
    /// # Errors
    /// There are not in time.
    pub async fn wait_for_workers(&self, count: usize) -> Result<()> {
        let live = || self.coordinator.membership().live().len();
        let began = std::time::Instant::now();
        while live() != count {
            ensure!(
                began.elapsed() < PATIENCE,
                "{} workers are live, not {count}",
                live()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The coordinator.
    pub fn coordinator(&self) -> &Arc<Coordinator> {
        &self.coordinator
    }

    /// Where the coordinator listens, as `http://host:port`.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The workers, in the order they were added.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// A Flight SQL client on a connection of its own.
    ///
    /// # Errors
    /// No connection.
    pub async fn client(&self) -> Result<FlightSqlServiceClient<Channel>> {
        let channel = Endpoint::from_shared(self.address())?.connect().await?;
        Ok(FlightSqlServiceClient::new(channel))
    }

    /// Runs a statement as a Flight SQL client does.
    ///
    /// # Errors
    /// The statement's.
    pub async fn query(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let mut client = self.client().await?;
        let info = client.execute(sql.to_owned(), None).await?;
        let mut batches = Vec::new();
        if info.total_records >= 0 {
            // A statement that changed so many rows.
            let count: ArrayRef = Arc::new(Int64Array::from(vec![info.total_records]));
            batches.push(RecordBatch::try_from_iter([("count", count)])?);
        }
        for endpoint in info.endpoint {
            let ticket = endpoint.ticket.context("an endpoint without a ticket")?;
            let stream = client.do_get(ticket).await?;
            batches.extend(stream.try_collect::<Vec<_>>().await?);
        }
        Ok(batches)
    }

    /// Runs a statement; its rows as sorted text.
    ///
    /// # Errors
    /// The statement's.
    pub async fn rows(&self, sql: &str) -> Result<Vec<String>> {
        rows::sorted(&self.query(sql).await?)
    }

    /// Ends the workers, then the coordinator.
    pub async fn stop(self) {
        for worker in self.workers {
            worker.shutdown.cancel();
            let _ = tokio::time::timeout(PATIENCE, worker.task).await;
        }
        self.shutdown.cancel();
        let _ = tokio::time::timeout(PATIENCE, self.serving).await;
    }
}

async fn start_worker(
    coordinator: SocketAddr,
    lake: &Lake,
    engine: EngineOptions,
) -> Result<Worker> {
    let config = inshore_worker::Config {
        coordinator: Some(format!("grpc://{coordinator}").parse()?),
        heartbeat_interval: Duration::from_millis(200),
        drain_timeout: PATIENCE,
        ..inshore_worker::Config::default()
    };
    let listener = config.bind().await?;
    let runtime = session::runtime(&engine, &lake.stores())?;
    let sessions = session::worker_sessions(engine);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let task = tokio::spawn(async move {
        inshore_worker::run(config, listener, sessions, runtime, stop).await?;
        Ok(())
    });
    Ok(Worker { shutdown, task })
}

impl Lake {
    /// Runs a statement on the embedded engine.
    ///
    /// # Errors
    /// The statement's.
    pub async fn query_embedded(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let options = options(self, EngineOptions::default(), Topology::Embedded);
        let session = Coordinator::new(options)?.session();
        let execution = session.execute(sql).await?;
        Ok(execution.stream.try_collect().await?)
    }

    /// Runs a statement on the embedded engine; its rows as sorted text.
    ///
    /// # Errors
    /// The statement's.
    pub async fn rows_embedded(&self, sql: &str) -> Result<Vec<String>> {
        rows::sorted(&self.query_embedded(sql).await?)
    }
}
