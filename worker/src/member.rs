//! Being a member of a cluster: registering with the coordinator, heartbeats, leaving.
//!
//! This runs on a thread of its own. Queries may keep all of the runtime's threads busy for
//! seconds, and a worker that computes must not be taken for one that is gone.

use std::sync::Arc;
use std::time::Duration;

use inshore_engine::transport::channel::Channels;
use inshore_engine::transport::error::status_cause;
use inshore_proto::error::{Code, WireError};
use inshore_proto::membership::{HeartbeatAnswer, Load, Registered, Registration, Request};
use inshore_proto::version;
use tokio::sync::watch;
use tonic::Status;
use url::Url;

use crate::{Error, Result};

/// For one action of the coordinator.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two attempts to register, at first and at most.
const BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// What the worker currently carries.
pub type LoadProbe = Arc<dyn Fn() -> Load + Send + Sync>;

/// What the worker wants of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Wish {
    /// Tasks.
    Serve,
    /// No new tasks.
    Drain,
    /// To be gone.
    Leave,
}

/// A membership in the making or made.
pub struct Member {
    wish: watch::Sender<Wish>,
    /// Closed when the thread ends; its value counts registrations and confirmed wishes.
    standing: watch::Receiver<Standing>,
}

/// What the coordinator has confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    registered: bool,
    draining: bool,
}

impl Member {
    /// Begins to register with the coordinator at `coordinator`, and goes on until it works.
    pub fn join(
        coordinator: Url,
        registration: Registration,
        heartbeat_interval: Duration,
        load: LoadProbe,
    ) -> Result<Self> {
        let (wish, wishes) = watch::channel(Wish::Serve);
        let (confirm, standing) = watch::channel(Standing::default());
        let member = Loop {
            channels: Arc::new(Channels::default()),
            coordinator,
            registration,
            heartbeat_interval,
            load,
            wishes,
            standing: confirm,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        std::thread::Builder::new()
            .name("inshore-member".to_owned())
            .spawn(move || runtime.block_on(member.run()))
            .map_err(Error::Thread)?;
        Ok(Self { wish, standing })
    }

    /// Waits until the coordinator has accepted the worker.
    pub async fn registered(&self) {
        let mut standing = self.standing.clone();
        let _ = standing.wait_for(|standing| standing.registered).await;
    }

    /// Asks for no new tasks, and waits until the coordinator knows or `timeout` is over.
    pub async fn drain(&self, timeout: Duration) {
        self.wish.send_replace(Wish::Drain);
        let mut standing = self.standing.clone();
        let known = standing.wait_for(|standing| standing.draining);
        let _ = tokio::time::timeout(timeout, known).await;
    }

    /// Leaves the cluster, and waits until the coordinator knows or `timeout` is over.
    pub async fn leave(self, timeout: Duration) {
        self.wish.send_replace(Wish::Leave);
        let mut standing = self.standing.clone();
        // The thread ends, and the other half of the channel with it.
        let gone = standing.wait_for(|_| false);
        let _ = tokio::time::timeout(timeout, gone).await;
    }
}

/// Runs on the member's thread until the worker leaves or its [`Member`] is dropped.
struct Loop {
    channels: Arc<Channels>,
    coordinator: Url,
    registration: Registration,
    heartbeat_interval: Duration,
    load: LoadProbe,
    wishes: watch::Receiver<Wish>,
    standing: watch::Sender<Standing>,
}

/// How an attempt to talk to the coordinator failed.
enum Failure {
    /// Nobody answers.
    Away(String),
    /// The coordinator says no.
    Refused(WireError),
}

impl Loop {
    async fn run(mut self) {
        while self.register().await {
            self.confirm(|standing| standing.registered = true);
            let again = self.beat().await;
            self.confirm(|standing| *standing = Standing::default());
            if !again {
                break;
            }
        }
        let leave = Request::Leave {
            node_id: self.registration.node_id.clone(),
        };
        // A coordinator that is away notices by itself.
        let _ = self.call(&leave).await;
    }

    fn confirm(&self, change: impl FnOnce(&mut Standing)) {
        self.standing.send_modify(change);
    }

    /// Registers, however long it takes. False if the worker leaves before.
    async fn register(&mut self) -> bool {
        let request = Request::Register(self.registration.clone());
        let mut backoff = BACKOFF;
        let mut told = false;
        loop {
            if self.leaving() {
                return false;
            }
            match self
                .call(&request)
                .await
                .and_then(|body| Registered::decode(&body).map_err(Failure::Refused))
            {
                Ok(registered) => {
                    self.heartbeat_interval = self
                        .heartbeat_interval
                        .min(registered.heartbeat_timeout / 4);
                    tracing::info!(coordinator = %self.coordinator, "registered");
                    return true;
                }
                Err(failure) if !told => {
                    failure.tell(&self.coordinator);
                    told = true;
                }
                Err(_) => {}
            }
            self.pause(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Sends heartbeats. True if the worker has to register again, false if it leaves.
    async fn beat(&mut self) -> bool {
        let mut told = Wish::Serve;
        let mut away = false;
        loop {
            if self.leaving() {
                return false;
            }
            let wish = *self.wishes.borrow_and_update();
            if wish == Wish::Drain && told != Wish::Drain {
                let node_id = self.registration.node_id.clone();
                if self.call(&Request::Drain { node_id }).await.is_ok() {
                    told = Wish::Drain;
                    self.confirm(|standing| standing.draining = true);
                }
            }
            let heartbeat = Request::Heartbeat {
                node_id: self.registration.node_id.clone(),
                load: (self.load)(),
            };
            let answer = self.call(&heartbeat).await;
            match answer.and_then(|body| HeartbeatAnswer::decode(&body).map_err(Failure::Refused)) {
                Ok(HeartbeatAnswer { known: true }) => away = false,
                Ok(HeartbeatAnswer { known: false }) => return true,
                // Said once; the coordinator may take its time to come back.
                Err(failure) if !away => {
                    failure.tell(&self.coordinator);
                    away = true;
                }
                Err(_) => {}
            }
            self.pause(self.heartbeat_interval).await;
        }
    }

    /// Waits, but not when there is a new wish.
    async fn pause(&mut self, duration: Duration) {
        // An error says that the `Member` is gone, which `leaving` notices.
        let _ = tokio::time::timeout(duration, self.wishes.changed()).await;
    }

    fn leaving(&self) -> bool {
        self.wishes.has_changed().is_err() || *self.wishes.borrow() == Wish::Leave
    }

    async fn call(&self, request: &Request) -> Result<bytes::Bytes, Failure> {
        let mut action = tonic::Request::new(request.to_action());
        version::stamp(action.metadata_mut());
        let mut client = self
            .channels
            .client(&self.coordinator)
            .map_err(Failure::Refused)?;
        let answer = async {
            let mut results = client.do_action(action).await?.into_inner();
            let first = results.message().await?;
            Ok(first.map(|result| result.body).unwrap_or_default())
        };
        match tokio::time::timeout(CALL_TIMEOUT, answer).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(status)) => Err(failure(&status)),
            Err(_) => Err(Failure::Away(format!(
                "no answer within {} s",
                CALL_TIMEOUT.as_secs()
            ))),
        }
    }
}

fn failure(status: &Status) -> Failure {
    match WireError::from_status(status) {
        Some(error) => Failure::Refused(error),
        None => Failure::Away(status_cause(status)),
    }
}

impl Failure {
    fn tell(&self, coordinator: &Url) {
        match self {
            Self::Away(why) => {
                tracing::warn!(%coordinator, why, "the coordinator does not answer; trying on");
            }
            Self::Refused(error) if error.code == Code::VersionMismatch => {
                tracing::error!(%coordinator, %error, "the coordinator refuses this worker");
            }
            Self::Refused(error) => {
                tracing::warn!(%coordinator, %error, "the coordinator refuses; trying on");
            }
        }
    }
}
