//! Which workers are live.
//!
//! Workers register themselves, send heartbeats with their load, say when they drain, and leave.
//! [`registry`] decides what follows from that, without a clock or a network of its own;
//! [`Membership`] gives it both, and lets queries wait for a first worker.

pub mod registry;

use std::time::{Duration, Instant};

use arrow_flight::Action;
use datafusion::error::DataFusionError;
use datafusion_distributed::WorkerResolver;
use inshore_proto::error::WireError;
use inshore_proto::membership::{HeartbeatAnswer, Registered, Request};
use inshore_proto::names;
use inshore_proto::version::BUILD_VERSION;
use parking_lot::Mutex;
use tokio::sync::watch;
use url::Url;

use registry::{Limits, Registry};
pub use registry::{State, WorkerInfo};

/// The members of a cluster.
#[derive(Debug)]
pub struct Membership {
    registry: Mutex<Registry>,
    /// Goes up whenever a worker joins.
    joined: watch::Sender<u64>,
    heartbeat_timeout: Duration,
}

impl Membership {
    /// No members yet. A worker that is silent for longer than `heartbeat_timeout` is out.
    pub fn new(heartbeat_timeout: Duration) -> Self {
        Self {
            registry: Mutex::new(Registry::new(Limits {
                heartbeat_timeout,
                ..Limits::default()
            })),
            joined: watch::Sender::new(0),
            heartbeat_timeout,
        }
    }

    /// The workers that may get tasks now, in the order of their URLs.
    pub fn live(&self) -> Vec<WorkerInfo> {
        self.registry.lock().live(Instant::now())
    }

    /// All workers known, those that drain or were lost included, in the order of their URLs.
    pub fn all(&self) -> Vec<WorkerInfo> {
        self.registry.lock().all(Instant::now())
    }

    /// Waits until a worker is live; false if none is after `timeout`.
    pub async fn wait_for_worker(&self, timeout: Duration) -> bool {
        let mut joined = self.joined.subscribe();
        let found = async {
            while self.live().is_empty() {
                // The sender lives as long as this.
                if joined.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(timeout, found).await.is_ok()
    }

    /// A call to the worker at `url` found nobody there. It is out until it registers again, which
    /// its next heartbeat makes it do if it is alive after all.
    pub fn report_unreachable(&self, url: &Url) {
        if self.registry.lock().unreachable(url) {
            tracing::warn!(worker = %url, "worker cannot be reached; no tasks for it");
        }
    }

    /// Answers the actions of workers; `None` for any other action.
    pub fn handle_action(
        &self,
        action: &Action,
    ) -> Option<Result<Vec<arrow_flight::Result>, WireError>> {
        let request = Request::from_action(action)?;
        Some(request.and_then(|request| self.handle(request, Instant::now())))
    }

    /// The types of the actions that [`Self::handle_action`] answers, with descriptions.
    pub fn action_types() -> [(&'static str, &'static str); 4] {
        [
            (names::REGISTER, "a worker joins the cluster"),
            (
                names::HEARTBEAT,
                "a worker is alive, and says what it carries",
            ),
            (names::DRAIN, "a worker wants no new tasks"),
            (names::LEAVE, "a worker leaves the cluster"),
        ]
    }

    fn handle(
        &self,
        request: Request,
        now: Instant,
    ) -> Result<Vec<arrow_flight::Result>, WireError> {
        let mut registry = self.registry.lock();
        let body = match request {
            Request::Register(registration) => {
                let (url, site) = (registration.url.clone(), registration.site.clone());
                registry.register(registration, now)?;
                tracing::info!(worker = %url, site, "worker joined");
                self.joined.send_modify(|count| *count += 1);
                let answer = Registered {
                    build_version: BUILD_VERSION.to_owned(),
                    heartbeat_timeout: self.heartbeat_timeout,
                };
                answer.encode()
            }
            Request::Heartbeat { node_id, load } => {
                let known = registry.heartbeat(&node_id, load, now);
                HeartbeatAnswer { known }.encode()
            }
            Request::Drain { node_id } => {
                if let Some(url) = registry.drain(&node_id) {
                    tracing::info!(worker = %url, "worker drains");
                }
                bytes::Bytes::new()
            }
            Request::Leave { node_id } => {
                if let Some(url) = registry.leave(&node_id) {
                    tracing::info!(worker = %url, "worker left");
                }
                bytes::Bytes::new()
            }
        };
        Ok(vec![arrow_flight::Result { body }])
    }
}

impl WorkerResolver for Membership {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.live().into_iter().map(|worker| worker.url).collect())
    }
}
