//! Statements between two requests: results until they are fetched, prepared ones until they
//! are closed. Handles are random, so that one client cannot name another's; those of results are
//! signed too, see [`super::tickets`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use dashmap::DashMap;
use uuid::Uuid;

use crate::parameters::Parameters;
use crate::session::{Planned, Session};
use crate::{Error, Result};

use super::tickets::{self, Name, Purpose, Signer};

/// Results that wait to be fetched, and prepared statements, at most.
pub(super) const STATEMENTS_MAX: usize = 10_000;

/// Values of parameters of all prepared statements, at most, in bytes.
const BOUND_BYTES_MAX: usize = 256 << 20;

/// A result that nobody fetched within this time is forgotten.
pub(super) const UNFETCHED: Duration = Duration::from_secs(10 * 60);

/// A prepared statement that was not used for this long is forgotten.
pub(super) const PREPARED_IDLE: Duration = Duration::from_secs(60 * 60);

/// A result that a ticket stands for.
pub(super) enum Promised {
    /// Of a query, which runs when it is fetched.
    Planned {
        session: Arc<Session>,
        planned: Box<Planned>,
    },
    /// Of a statement that has run.
    Done {
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    },
}

struct Waiting {
    promised: Promised,
    session: Uuid,
    since: Instant,
}

/// A prepared statement.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) session: Arc<Session>,
    pub(super) sql: Arc<str>,
    pub(super) parameters: Arc<Parameters>,
    /// The values of its parameters, once there are.
    pub(super) bound: Option<Arc<Binding>>,
    used: Instant,
}

/// Values of a prepared statement's parameters, which take room until they are dropped.
pub(super) struct Binding {
    pub(super) values: RecordBatch,
    bytes: usize,
    taken: Arc<AtomicUsize>,
}

impl Drop for Binding {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// All statements of the door.
pub(super) struct Statements {
    pub(super) signer: Signer,
    waiting: DashMap<String, Waiting>,
    /// Tickets of results without rows that were fetched, and when.
    spent: DashMap<String, Instant>,
    prepared: DashMap<String, Prepared>,
    /// Bytes of all values of parameters.
    bound_bytes: Arc<AtomicUsize>,
}

impl Statements {
    pub(super) fn new(signer: Signer) -> Self {
        Self {
            signer,
            waiting: DashMap::new(),
            spent: DashMap::new(),
            prepared: DashMap::new(),
            bound_bytes: Arc::default(),
        }
    }

    /// Keeps a result of a session for the fetch that follows; returns its ticket.
    pub(super) fn keep(&self, session: Uuid, promised: Promised) -> Result<Bytes> {
        self.check_room()?;
        let handle = Uuid::new_v4().to_string();
        let waiting = Waiting {
            promised,
            session,
            since: Instant::now(),
        };
        self.waiting.insert(handle.clone(), waiting);
        let name = Name { handle, session };
        let expires = tickets::in_future(UNFETCHED);
        Ok(self.signer.sign(Purpose::Result, &name, expires))
    }

    /// The ticket of a result without rows. Clients do not always fetch one, so nothing is kept.
    pub(super) fn nothing(&self, session: Uuid) -> Bytes {
        let handle = Uuid::new_v4().to_string();
        let expires = tickets::in_future(UNFETCHED);
        self.signer
            .sign(Purpose::Nothing, &Name { handle, session }, expires)
    }

    /// Hands a result without rows out, once.
    pub(super) fn take_nothing(&self, name: &Name) -> Result<()> {
        if self.spent.len() >= STATEMENTS_MAX {
            // To fetch nothing a second time does no harm.
            self.spent.clear();
        }
        match self.spent.insert(name.handle.clone(), Instant::now()) {
            None => Ok(()),
            Some(_) => Err(tickets::expired()),
        }
    }

    /// Whether one more result can be kept, to be asked before what makes it has an effect.
    ///
    /// # Errors
    /// [`Error::ResourceExhausted`] when it cannot.
    pub(super) fn check_room(&self) -> Result<()> {
        bounded(self.waiting.len(), "results wait to be fetched")
    }

    /// Hands a result out, once.
    pub(super) fn take(&self, name: &Name) -> Result<Promised> {
        match self.waiting.remove(&name.handle) {
            Some((_, waiting)) => Ok(waiting.promised),
            None => Err(tickets::expired()),
        }
    }

    /// Keeps a prepared statement; returns its handle.
    pub(super) fn prepare(
        &self,
        session: Arc<Session>,
        sql: &str,
        parameters: Parameters,
    ) -> Result<String> {
        bounded(self.prepared.len(), "prepared statements are open")?;
        let handle = Uuid::new_v4().to_string();
        self.prepared.insert(
            handle.clone(),
            Prepared {
                session,
                sql: sql.into(),
                parameters: Arc::new(parameters),
                bound: None,
                used: Instant::now(),
            },
        );
        Ok(handle)
    }

    /// Gives a prepared statement the values of its parameters, in place of others.
    pub(super) fn bind(&self, handle: &str, values: Option<RecordBatch>) -> Result<()> {
        let bound = values.map(|values| self.binding(values)).transpose()?;
        match self.prepared.get_mut(handle) {
            Some(mut prepared) => {
                prepared.bound = bound;
                Ok(())
            }
            None => Err(unknown()),
        }
    }

    fn binding(&self, values: RecordBatch) -> Result<Arc<Binding>> {
        let bytes = values.get_array_memory_size();
        let binding = Arc::new(Binding {
            values,
            bytes,
            taken: Arc::clone(&self.bound_bytes),
        });
        let before = self.bound_bytes.fetch_add(bytes, Ordering::Relaxed);
        match before.saturating_add(bytes) <= BOUND_BYTES_MAX {
            true => Ok(binding),
            false => Err(Error::ResourceExhausted(
                "values of parameters take too much memory; close prepared statements".to_owned(),
            )),
        }
    }

    /// A prepared statement.
    pub(super) fn prepared(&self, handle: &str) -> Result<Prepared> {
        let Some(mut prepared) = self.prepared.get_mut(handle) else {
            return Err(unknown());
        };
        prepared.used = Instant::now();
        Ok(prepared.clone())
    }

    /// Closes a prepared statement; one that does not exist is closed already.
    pub(super) fn close(&self, handle: &str) {
        self.prepared.remove(handle);
    }

    /// Forgets all statements of a session that was closed.
    pub(super) fn forget(&self, session: Uuid) {
        self.waiting.retain(|_, waiting| waiting.session != session);
        self.prepared
            .retain(|_, prepared| prepared.session.id != session);
    }

    /// Forgets what has waited too long.
    pub(super) fn expire(&self) {
        self.waiting
            .retain(|_, waiting| waiting.since.elapsed() < UNFETCHED);
        self.spent.retain(|_, since| since.elapsed() < UNFETCHED);
        self.prepared
            .retain(|_, prepared| prepared.used.elapsed() < PREPARED_IDLE);
    }
}

fn unknown() -> Error {
    Error::NotFound(
        "there is no such prepared statement; it was closed, or not used for an hour".to_owned(),
    )
}

pub(super) fn bounded(count: usize, what: &str) -> Result<()> {
    match count < STATEMENTS_MAX {
        true => Ok(()),
        false => Err(Error::ResourceExhausted(format!("{STATEMENTS_MAX} {what}"))),
    }
}
