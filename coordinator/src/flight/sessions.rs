//! Which request belongs to which session: by the bearer token that the handshake gave, else by a
//! cookie, else by the connection it came on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::node::Coordinator;
use crate::session::Session;
use crate::{Error, Result};

/// Sessions at once.
pub(super) const SESSIONS_MAX: usize = 10_000;

/// The name of the cookie, as Flight's own session middleware has it.
pub(super) const COOKIE: &str = "arrow_flight_session_id";

/// A session that no request used for this long is forgotten.
const IDLE: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Token(String),
    /// The cookie that an answer to `SetSessionOptions` gave.
    Cookie(String),
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
        match (token, cookie(metadata), peer) {
            (Some(token), ..) => Self::Token(token.to_owned()),
            (None, Some(cookie), _) => Self::Cookie(cookie),
            (None, None, Some(peer)) => Self::Connection(peer),
            (None, None, None) => Self::Single,
        }
    }
}

/// The session that a cookie of the request names.
fn cookie(metadata: &MetadataMap) -> Option<String> {
    let headers = metadata.get_all("cookie").into_iter();
    let texts = headers.filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';'));
    pairs.find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then(|| value.trim_matches('"').to_owned())
    })
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
        self.check_room()?;
        let session = self.node.session();
        self.insert(key, &session);
        Ok(session)
    }

    /// The session of a request, if it has begun.
    pub(super) fn find(&self, key: &Key) -> Option<Arc<Session>> {
        let entry = self.by_key.get(key)?;
        Some(Arc::clone(&entry.session))
    }

    /// Another key for a session: a cookie, whose value is returned.
    ///
    /// # Errors
    /// As [`Sessions::get`].
    pub(super) fn name(&self, session: &Arc<Session>) -> Result<String> {
        self.check_room()?;
        let cookie = Uuid::new_v4().to_string();
        self.insert(Key::Cookie(cookie.clone()), session);
        Ok(cookie)
    }

    /// Ends a session, by whatever keys it is known. Whether there was one.
    pub(super) fn close(&self, key: &Key) -> bool {
        let Some((_, closed)) = self.by_key.remove(key) else {
            return false;
        };
        self.by_key
            .retain(|_, entry| !Arc::ptr_eq(&entry.session, &closed.session));
        true
    }

    fn check_room(&self) -> Result<()> {
        match self.by_key.len() < SESSIONS_MAX {
            true => Ok(()),
            false => Err(Error::ResourceExhausted(format!(
                "{SESSIONS_MAX} sessions are open; close some"
            ))),
        }
    }

    fn insert(&self, key: Key, session: &Arc<Session>) {
        let entry = Entry {
            session: Arc::clone(session),
            used: Instant::now(),
        };
        self.by_key.insert(key, entry);
    }

    /// Forgets idle sessions.
    pub(super) fn expire(&self) {
        self.by_key.retain(|_, entry| entry.used.elapsed() < IDLE);
    }
}
