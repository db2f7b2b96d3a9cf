//! Which request belongs to which session: by the bearer token that the handshake gave, else by the
//! connection it came on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tonic::metadata::MetadataMap;

use crate::node::Coordinator;
use crate::session::Session;
use crate::{Error, Result};

/// Sessions at once.
const SESSIONS_MAX: usize = 10_000;

/// A session that no request used for this long is forgotten.
const IDLE: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Token(String),
    Connection(SocketAddr),
    /// A transport that has no peer address: every request is on its own.
    Single,
}

impl Key {
    /// The key of a request.
    pub(super) fn of(metadata: &MetadataMap, peer: Option<SocketAddr>) -> Self {
        let token = metadata
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        match (token, peer) {
            (Some(token), _) => Self::Token(token.to_owned()),
            (None, Some(peer)) => Self::Connection(peer),
            (None, None) => Self::Single,
        }
    }
}

struct Entry {
    session: Arc<Session>,
    used: Instant,
}

/// All sessions of the door.
pub(super) struct Sessions {
    node: Arc<Coordinator>,
    by_key: DashMap<Key, Entry>,
}

impl Sessions {
    pub(super) fn new(node: Arc<Coordinator>) -> Self {
        Self {
            node,
            by_key: DashMap::new(),
        }
    }

    /// The session of a request, begun where there is none.
    pub(super) fn get(&self, key: Key) -> Result<Arc<Session>> {
        if key == Key::Single {
            return Ok(self.node.session());
        }
        if let Some(mut entry) = self.by_key.get_mut(&key) {
            entry.used = Instant::now();
            return Ok(Arc::clone(&entry.session));
        }
        if self.by_key.len() >= SESSIONS_MAX {
            return Err(Error::ResourceExhausted(format!(
                "{SESSIONS_MAX} sessions are open; close some"
            )));
        }
        let session = self.node.session();
        let entry = Entry {
            session: Arc::clone(&session),
            used: Instant::now(),
        };
        self.by_key.insert(key, entry);
        Ok(session)
    }

    /// Ends a session. Whether there was one.
    pub(super) fn close(&self, key: &Key) -> bool {
        self.by_key.remove(key).is_some()
    }

    /// Forgets idle sessions.
    pub(super) fn expire(&self) {
        self.by_key.retain(|_, entry| entry.used.elapsed() < IDLE);
    }
}
