//! Which request belongs to which session: by the bearer token that the handshake gave, else by a
//! cookie, else by the connection it came on.
//!
//! What a session was given, such as a ticket, is used by requests of the same session, whatever
//! connection they come on. A request that names no session may use it too: clients open new
//! connections to fetch results, and what it needs for that no other client can guess.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dashmap::DashMap;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::node::Coordinator;
use crate::session::{Client, Session};
use crate::{Error, Result};

/// Sessions at once.
pub(super) const SESSIONS_MAX: usize = 10_000;

/// The name of the cookie, as Flight's own session middleware has it.
pub(super) const COOKIE: &str = "arrow_flight_session_id";

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

/// Who a request comes from.
pub(super) fn client_of(metadata: &MetadataMap, peer: Option<SocketAddr>) -> Client {
    let header = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    let address = peer.map(|peer| peer.to_string());
    let user = header("authorization").and_then(user_of);
    Client::new(user.as_deref(), address, header("user-agent"))
}

/// The user's name in the header of basic authentication.
fn user_of(header: &str) -> Option<String> {
    let encoded = header.strip_prefix("Basic ")?;
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, _password) = text.split_once(':')?;
    (!user.is_empty()).then(|| user.to_owned())
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
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] when too many are open.
    pub(super) fn get(&self, key: Key, client: Client) -> Result<Arc<Session>> {
        if key == Key::Single {
            return Ok(self.node.session_of(client));
        }
        if let Some(session) = self.find(&key) {
            return Ok(session);
        }
        self.check_room()?;
        // Of two first requests at once both get the same.
        let entry = self.by_key.entry(key).or_insert_with(|| Entry {
            session: self.node.session_of(client),
            used: Instant::now(),
        });
        Ok(Arc::clone(&entry.session))
    }

    /// The session of a request, if it has begun. It counts as used.
    pub(super) fn find(&self, key: &Key) -> Option<Arc<Session>> {
        let mut entry = self.by_key.get_mut(key)?;
        entry.used = Instant::now();
        Some(Arc::clone(&entry.session))
    }

    /// Whether a request may use what the session `owner` was given.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when the request names another session.
    pub(super) fn check(&self, key: &Key, owner: Uuid) -> Result<()> {
        let session = self.find(key);
        match key {
            Key::Token(_) | Key::Cookie(_)
                if session.as_ref().is_none_or(|own| own.id != owner) =>
            {
                Err(Error::Forbidden(
                    "the statement belongs to another session, or its session was closed"
                        .to_owned(),
                ))
            }
            _ => Ok(()),
        }
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

    /// Ends a session, by whatever keys it is known. None where there was none.
    pub(super) fn close(&self, key: &Key) -> Option<Arc<Session>> {
        let (_, closed) = self.by_key.remove(key)?;
        self.by_key
            .retain(|_, entry| !Arc::ptr_eq(&entry.session, &closed.session));
        Some(closed.session)
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

    /// Forgets idle sessions. One is in use while a statement of it is.
    pub(super) fn expire(&self) {
        let busy = self.node.queries.busy_sessions();
        let idle = self.node.options.session_idle;
        self.by_key.retain(|_, entry| {
            if busy.contains(&entry.session.id) {
                entry.used = Instant::now();
            }
            entry.used.elapsed() < idle
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_client_tells_its_user_and_its_name() {
        let mut metadata = MetadataMap::new();
        let basic = format!("Basic {}", BASE64_STANDARD.encode("me:secret:s"));
        metadata.insert("authorization", basic.parse().unwrap());
        metadata.insert("user-agent", "driver/1".parse().unwrap());
        let client = client_of(&metadata, None);
        assert_eq!(client.user.as_deref(), Some("me"));
        assert_eq!(client.name.as_deref(), Some("driver/1"));
        assert!(!format!("{client:?}").contains("secret"));
        for header in ["Basic", "Basic !", "Basic bWU=", "Bearer x", "Basic OnB3"] {
            assert_eq!(user_of(header), None, "{header}");
        }
    }
}
