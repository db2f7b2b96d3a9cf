//! What is known about each worker, and what follows from what it says or does not say.
//!
//! ```text
//!            register                    drain
//!   (none) ----------> Active --------------------> Draining
//!     ^  ^               |  silent, unreachable        |  silent, unreachable
//!     |  |               v                             v
//!     |  +-- leave --- Lost <--------------------------+
//!     |                  |
//!     +-- kept a while --+          a heartbeat of a lost worker is answered "register again"
//! ```
//!
//! Nothing here reads a clock: each call is told the time, so that any order of events can be
//! tested. Workers that fell silent are noticed by the next call.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::membership::{Load, Registration};
use inshore_proto::version::{BUILD_VERSION, PROTOCOL_VERSION};
use url::Url;

/// Bounds of a registry.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A worker that is silent for longer is lost.
    pub heartbeat_timeout: Duration,
    /// A lost worker is shown for this long.
    pub lost_shown: Duration,
    /// Workers known at once, the lost included.
    pub max_workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            heartbeat_timeout: Duration::from_secs(5),
            lost_shown: Duration::from_secs(600),
            max_workers: 10_000,
        }
    }
}

/// Whether a worker gets tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It gets tasks.
    Active,
    /// It finishes what it has, and gets nothing new.
    Draining,
    /// It fell silent or could not be reached.
    Lost,
}

impl State {
    /// The state's name, for displays.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Lost => "lost",
        }
    }
}

/// One worker.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// Where other nodes reach it.
    pub url: Url,
    /// Chosen by the worker when its process started.
    pub node_id: String,
    /// Its network location.
    pub site: Option<String>,
    /// Whether it gets tasks.
    pub state: State,
    /// Its build.
    pub build_version: String,
    /// Cores that its tasks may use.
    pub cores: u32,
    /// Bound of what its tasks may reserve, in bytes; 0 for none.
    pub memory_limit_bytes: u64,
    /// What it carried at its last heartbeat.
    pub load: Load,
    /// When it registered.
    pub joined: SystemTime,
}

#[derive(Debug)]
struct Member {
    info: WorkerInfo,
    last_heard: Instant,
}

/// The workers, by URL: a new process under the URL of an old one replaces it.
#[derive(Debug)]
pub struct Registry {
    limits: Limits,
    members: BTreeMap<Url, Member>,
}

impl Registry {
    /// No workers.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            members: BTreeMap::new(),
        }
    }

    /// A worker joins, or joins again. Refused if it speaks another protocol version.
    pub fn register(&mut self, registration: Registration, now: Instant) -> Result<(), WireError> {
        self.expire(now);
        if registration.protocol_version != PROTOCOL_VERSION {
            return Err(other_version(&registration));
        }
        let replaces = self.members.contains_key(&registration.url);
        if !replaces && self.members.len() >= self.limits.max_workers {
            return Err(WireError::new(
                Code::ResourceExhausted,
                RetryVerdict::Retry,
                format!("the cluster has {} workers already", self.members.len()),
            ));
        }
        // A process has one URL; under an earlier one it is gone.
        self.members
            .retain(|_, member| member.info.node_id != registration.node_id);
        let info = WorkerInfo {
            url: registration.url.clone(),
            node_id: registration.node_id,
            site: registration.site,
            state: State::Active,
            build_version: registration.build_version,
            cores: registration.cores,
            memory_limit_bytes: registration.memory_limit_bytes,
            load: Load::default(),
            joined: SystemTime::now(),
        };
        let member = Member {
            info,
            last_heard: now,
        };
        self.members.insert(registration.url, member);
        Ok(())
    }

    /// A worker is alive. False if it has to register again.
    pub fn heartbeat(&mut self, node_id: &str, load: Load, now: Instant) -> bool {
        self.expire(now);
        match self.member(node_id) {
            Some(member) if member.info.state != State::Lost => {
                member.last_heard = now;
                member.info.load = load;
                true
            }
            _ => false,
        }
    }

    /// A worker wants no new tasks. Returns its URL if it is known.
    pub fn drain(&mut self, node_id: &str) -> Option<Url> {
        let member = self.member(node_id)?;
        if member.info.state == State::Active {
            member.info.state = State::Draining;
        }
        Some(member.info.url.clone())
    }

    /// A worker goes. Returns its URL if it was known.
    pub fn leave(&mut self, node_id: &str) -> Option<Url> {
        let url = self.member(node_id)?.info.url.clone();
        self.members.remove(&url);
        Some(url)
    }

    /// Nobody was found at `url`. True if a worker got tasks there until now.
    pub fn unreachable(&mut self, url: &Url) -> bool {
        match self.members.get_mut(url) {
            Some(member) if member.info.state != State::Lost => {
                member.info.state = State::Lost;
                true
            }
            _ => false,
        }
    }

    /// The workers that may get tasks, in the order of their URLs.
    pub fn live(&mut self, now: Instant) -> Vec<WorkerInfo> {
        let mut workers = self.all(now);
        workers.retain(|worker| worker.state == State::Active);
        workers
    }

    /// All workers known, in the order of their URLs.
    pub fn all(&mut self, now: Instant) -> Vec<WorkerInfo> {
        self.expire(now);
        self.members
            .values()
            .map(|member| member.info.clone())
            .collect()
    }

    fn member(&mut self, node_id: &str) -> Option<&mut Member> {
        self.members
            .values_mut()
            .find(|member| member.info.node_id == node_id)
    }

    fn expire(&mut self, now: Instant) {
        let Limits {
            heartbeat_timeout,
            lost_shown,
            ..
        } = self.limits;
        self.members.retain(|url, member| {
            let silence = now.saturating_duration_since(member.last_heard);
            if silence > heartbeat_timeout && member.info.state != State::Lost {
                tracing::warn!(
                    worker = %url,
                    silence_ms = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
                    "worker fell silent; no tasks for it"
                );
                member.info.state = State::Lost;
            }
            member.info.state != State::Lost || silence <= lost_shown
        });
    }
}

fn other_version(registration: &Registration) -> WireError {
    WireError::new(
        Code::VersionMismatch,
        RetryVerdict::Never,
        format!(
            "worker {} speaks protocol version {} (build {}), this coordinator {PROTOCOL_VERSION} \
             (build {BUILD_VERSION}); run one build of Inshore on all nodes of a cluster",
            registration.url, registration.protocol_version, registration.build_version
        ),
    )
}
