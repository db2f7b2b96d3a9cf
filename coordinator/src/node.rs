//! One coordinator: what its sessions share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use datafusion::catalog::TableProvider;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionConfig;
use inshore_engine::distribute::QueryWorkers;
use inshore_engine::transport::FlightChannelResolver;
use inshore_engine::{EngineOptions, session as engine_session};
use inshore_lake::catalog::Catalogs;
use inshore_lake::deletes::DeleteCache;
use inshore_lake::files::FileAccess;
use inshore_lake::plan::ManifestCache;
use inshore_lake::store::Stores;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::flight;
use crate::membership::Membership;
use crate::query::Queries;
use crate::session::{Client, Session};
use crate::{Error, Result, system};

/// Where tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// In this process: the embedded engine.
    Embedded,
    /// On workers that register.
    Cluster,
}

/// What a coordinator is made of.
pub struct Options {
    /// The catalogs, the default one first.
    pub catalogs: Arc<Catalogs>,
    /// Where files may be read.
    pub stores: Arc<Stores>,
    /// The folder of relative paths when statements may read and write all of this machine's files:
    /// those of the engine in the user's own process, and no others.
    pub working_directory: Option<PathBuf>,
    /// Settings of the engine.
    pub engine: EngineOptions,
    /// Where tasks run.
    pub topology: Topology,
    /// The schema of unqualified table names.
    pub default_schema: Option<String>,
    /// How long a query waits for a first worker.
    pub worker_wait: Duration,
    /// A worker that is silent for longer is out.
    pub heartbeat_timeout: Duration,
    /// How long a statement may take, from its arrival to its last row.
    pub statement_timeout: Option<Duration>,
    /// A client's session that is not used for so long is closed.
    pub session_idle: Duration,
}

/// One coordinator.
pub struct Coordinator {
    pub(crate) options: Options,
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) files: Arc<FileAccess>,
    pub(crate) manifests: Arc<ManifestCache>,
    deletes: Arc<DeleteCache>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) queries: Arc<Queries>,
    /// Those that are open, and some that are no more.
    sessions: Mutex<Vec<Weak<Session>>>,
    channels: FlightChannelResolver,
    /// Where the next query's smaller stages begin.
    next_offset: AtomicUsize,
}

impl Coordinator {
    /// Sets a coordinator up. Opens no port.
    pub fn new(options: Options) -> Result<Arc<Self>> {
        let runtime = engine_session::runtime(&options.engine, &options.stores)
            .map_err(inshore_engine::Error::from)?;
        let folder = options.working_directory.clone();
        let files = FileAccess::new(Arc::clone(&options.stores), folder)?;
        files.register(&runtime);
        let membership = Arc::new(Membership::new(options.heartbeat_timeout));
        let members = Arc::clone(&membership);
        let channels = FlightChannelResolver::new(move |worker| members.report_unreachable(worker));
        Ok(Arc::new(Self {
            runtime,
            files: Arc::new(files),
            manifests: Arc::new(ManifestCache::new(options.engine.manifest_cache_bytes)),
            deletes: Arc::new(DeleteCache::new(options.engine.delete_cache_bytes)),
            membership,
            queries: Arc::new(Queries::default()),
            sessions: Mutex::default(),
            channels,
            next_offset: AtomicUsize::new(0),
            options,
        }))
    }

    /// A new session with the configured defaults.
    pub fn session(self: &Arc<Self>) -> Arc<Session> {
        self.session_of(Client::default())
    }

    /// As [`Coordinator::session`], of a client.
    pub fn session_of(self: &Arc<Self>, client: Client) -> Arc<Session> {
        let session = Arc::new(Session::new(Arc::clone(self), client));
        let mut sessions = self.sessions.lock();
        if sessions.len() == sessions.capacity() {
            sessions.retain(|session| session.strong_count() > 0);
        }
        sessions.push(Arc::downgrade(&session));
        session
    }

    /// The members of the cluster.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// Running and recent queries.
    pub fn queries(&self) -> &Arc<Queries> {
        &self.queries
    }

    /// Memory that the operators of all queries have reserved in this process now, in bytes.
    pub fn memory_reserved_bytes(&self) -> usize {
        self.runtime.memory_pool.reserved()
    }

    /// Serves Flight SQL clients and workers until `shutdown`, then lets running requests end for
    /// a bounded time.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<()> {
        flight::serve(self, listener, shutdown).await
    }

    /// The session settings a new session begins with.
    pub(crate) fn base_config(&self) -> SessionConfig {
        let schema = self.options.default_schema.clone();
        let mut config = engine_session::base_config(&self.options.engine, &self.deletes)
            .with_default_catalog_and_schema(
                self.options.catalogs.default_name().unwrap_or("inshore"),
                schema.unwrap_or_else(|| "default".to_owned()),
            );
        if self.options.topology == Topology::Cluster {
            engine_session::prefer_broadcasts(&mut config);
        }
        let parser = &mut config.options_mut().sql_parser;
        // Positions in error messages.
        parser.collect_spans = true;
        // `0.06 + 0.01` is a decimal, as in Trino, Spark and DuckDB: exact.
        parser.parse_float_as_decimal = true;
        config
    }

    /// A state that plans and runs in this process.
    pub(crate) fn local_state(&self, config: SessionConfig) -> SessionState {
        engine_session::embedded_state(config, Arc::clone(&self.runtime))
    }

    /// A state that plans for the workers that are live now. Waits for one if there is none.
    pub(crate) async fn cluster_state(&self, mut config: SessionConfig) -> Result<SessionState> {
        let wait = self.options.worker_wait;
        if !self.membership.wait_for_worker(wait).await {
            return Err(Error::Engine(inshore_engine::Error::NoWorkers {
                waited_s: wait.as_secs(),
            }));
        }
        let live = self.membership.live();
        // Partitions per task follow the smallest worker, so that no task asks for more cores than
        // its machine has.
        if self.options.engine.target_partitions == 0
            && let Some(cores) = live.iter().map(|worker| worker.cores).min()
        {
            config.options_mut().execution.target_partitions = (cores as usize).max(2);
        }
        let urls = live.into_iter().map(|worker| worker.url).collect();
        let offset = self.next_offset.fetch_add(1, Ordering::Relaxed);
        let workers = QueryWorkers::new(urls, offset);
        let state = engine_session::coordinator_state(
            config,
            Arc::clone(&self.runtime),
            workers,
            self.channels.clone(),
        )
        .map_err(inshore_engine::Error::from)?;
        Ok(state)
    }

    /// The address that a listener got, for messages.
    pub(crate) fn address_of(listener: &TcpListener) -> Result<SocketAddr> {
        listener.local_addr().map_err(|error| Error::Serve {
            address: "the listener".to_owned(),
            why: error.to_string(),
        })
    }

    /// A table of the `system` schema as of now; none of an unknown name.
    pub(crate) fn system_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(Some(match name {
            "sessions" => {
                let sessions = self.sessions.lock();
                let sessions: Vec<_> = sessions.iter().filter_map(Weak::upgrade).collect();
                system::sessions(&sessions)?
            }
            "queries" => system::queries(&self.queries.all())?,
            "tasks" => system::tasks(&self.queries.all())?,
            "workers" => system::workers(&self.membership.all())?,
            _ => return Ok(None),
        }))
    }
}
