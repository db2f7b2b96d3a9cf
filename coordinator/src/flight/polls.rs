//! `PollFlightInfo`: a statement that changes something runs on between two requests, and its client
//! asks from time to time whether it is done.
//!
//! A query needs none of this: its rows are streamed as they are made, so its result can be fetched
//! as soon as it is planned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::sql::{Any, CommandPreparedStatementQuery, CommandStatementQuery};
use arrow_flight::{FlightDescriptor, FlightInfo, PollInfo};
use dashmap::DashMap;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::{Request, Status};
use uuid::Uuid;

use crate::query::Query;
use crate::session::{Effect, Planned, Session};
use crate::{Error, Result};

use super::service::{Door, Ran, Rpc, info_of, run_to_end, text};
use super::sessions::Key;
use super::statements::{STATEMENTS_MAX, UNFETCHED, bounded};
use super::status::status;
use super::tickets::{self, Name, Purpose};
use super::{put, refused};

/// The type of the command in the descriptor of the next poll.
const POLL_TYPE: &str = "type.inshore.dev/inshore.Poll";

/// How long the first poll waits: short statements are done by then.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// How long each further poll waits.
const NEXT_WAIT: Duration = Duration::from_secs(5);

/// Statements that run on without a request, at once.
const RUNNING_MAX: usize = 100;

/// A statement that is polled. Dropping it ends it.
struct Polled {
    session: Uuid,
    query: Arc<Query>,
    /// What the client asked for at first.
    descriptor: FlightDescriptor,
    /// What it will give.
    schema: SchemaRef,
    outcome: watch::Receiver<Option<Rpc<Ran>>>,
    /// The answer once there is one: more than one poll may ask for it.
    info: Mutex<Option<FlightInfo>>,
    polled: Mutex<Instant>,
    task: AbortHandle,
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Polled {
    fn start(session: Arc<Session>, planned: Planned, descriptor: FlightDescriptor) -> Self {
        let (sender, outcome) = watch::channel(None);
        let query = Arc::clone(&planned.query);
        let schema = match planned.effect() {
            Effect::Changes => Arc::new(Schema::empty()),
            Effect::Query | Effect::Call => Arc::clone(planned.schema()),
        };
        let id = session.id;
        let task = tokio::spawn(async move {
            let outcome = run_to_end(&session, planned).await.map_err(status);
            sender.send_replace(Some(outcome));
        });
        Self {
            session: id,
            query,
            descriptor,
            schema,
            outcome,
            info: Mutex::default(),
            polled: Mutex::new(Instant::now()),
            task: task.abort_handle(),
        }
    }

    fn is_running(&self) -> bool {
        self.outcome.borrow().is_none()
    }

    /// How it ended, if it does so within the time.
    async fn ended(&self, wait: Duration) -> Option<Rpc<Ran>> {
        let mut outcome = self.outcome.clone();
        let ended = tokio::time::timeout(wait, outcome.wait_for(Option::is_some)).await;
        match ended {
            Err(_) => None,
            Ok(Ok(outcome)) => outcome.clone(),
            Ok(Err(_)) => Some(Err(status(Error::Cancelled.of_query(&self.query.id)))),
        }
    }
}

/// The statements that are polled.
#[derive(Default)]
pub(super) struct Polls {
    by_handle: DashMap<String, Arc<Polled>>,
}

impl Polls {
    /// # Errors
    /// [`Error::ResourceExhausted`] when too many run.
    fn check_room(&self) -> Result<()> {
        if self.by_handle.len() >= STATEMENTS_MAX {
            self.by_handle.retain(|_, polled| polled.is_running());
        }
        let running = self.by_handle.iter().filter(|polled| polled.is_running());
        let running = running.count();
        match running < RUNNING_MAX {
            true => bounded(self.by_handle.len(), "statements are polled"),
            false => Err(Error::ResourceExhausted(format!(
                "{RUNNING_MAX} statements run in the background; try again later"
            ))),
        }
    }

    fn keep(&self, polled: Arc<Polled>) -> Name {
        let name = Name {
            handle: Uuid::new_v4().to_string(),
            session: polled.session,
        };
        self.by_handle.insert(name.handle.clone(), polled);
        name
    }

    fn get(&self, name: &Name) -> Result<Arc<Polled>> {
        let polled = self.by_handle.get(&name.handle);
        let polled = polled.ok_or_else(tickets::expired)?;
        *polled.polled.lock() = Instant::now();
        Ok(Arc::clone(&polled))
    }

    /// Ends the statements that nobody asked after for too long.
    pub(super) fn expire(&self) {
        self.by_handle
            .retain(|_, polled| polled.polled.lock().elapsed() < UNFETCHED);
    }

    /// Ends all statements of a session that was closed.
    pub(super) fn forget(&self, session: Uuid) {
        self.by_handle.retain(|_, polled| polled.session != session);
    }

    /// Ends all.
    pub(super) fn end(&self) {
        self.by_handle.clear();
    }
}

impl Door {
    /// Starts a statement, or tells how one that was started does. Metadata and queries are there
    /// at once.
    pub(super) async fn poll(&self, request: Request<FlightDescriptor>) -> Rpc<PollInfo> {
        let malformed = |error: &dyn std::fmt::Display| {
            Status::invalid_argument(format!("the descriptor holds no command: {error}"))
        };
        let command = Any::decode(&*request.get_ref().cmd).map_err(|e| malformed(&e))?;
        if command.type_url == POLL_TYPE {
            return self.poll_again(&request, &command.value).await;
        }
        let query = command.unpack::<CommandStatementQuery>();
        let prepared = command.unpack::<CommandPreparedStatementQuery>();
        let planned = if let Some(query) = query.map_err(|e| malformed(&e))? {
            refused::transaction(query.transaction_id.as_ref())?;
            let session = self.session(&request).map_err(status)?;
            let planned = session.plan(&query.query).await.map_err(status)?;
            (session, planned)
        } else if let Some(query) = prepared.map_err(|e| malformed(&e))? {
            let handle = text(&query.prepared_statement_handle).map_err(status)?;
            let prepared = self.prepared(&request, handle).map_err(status)?;
            if let Some(bound) = &prepared.bound
                && put::is_run_for_each(&prepared, &bound.values)
            {
                let info = self.info(request).await?;
                return Ok(complete(info.into_inner()));
            }
            let planned = put::planned(&prepared).await.map_err(status)?;
            (prepared.session, planned)
        } else {
            let info = self.info(request).await?;
            return Ok(complete(info.into_inner()));
        };
        let (session, planned) = planned;
        let descriptor = request.into_inner();
        if planned.effect() == Effect::Query || planned.has_run() {
            let info = self.promise(session, planned, descriptor).await;
            return info.map(complete).map_err(status);
        }
        self.polls.check_room().map_err(status)?;
        let polled = Arc::new(Polled::start(session, planned, descriptor));
        let name = self.polls.keep(Arc::clone(&polled));
        self.answer(&polled, &name, FIRST_WAIT).await
    }

    async fn poll_again(&self, request: &Request<FlightDescriptor>, name: &[u8]) -> Rpc<PollInfo> {
        let polled = || {
            let name = self.statements.signer.read_poll(name)?;
            let key = Key::of(request.metadata(), request.remote_addr());
            self.sessions.check(&key, name.session)?;
            Ok((self.polls.get(&name)?, name))
        };
        let (polled, name) = polled().map_err(status)?;
        self.answer(&polled, &name, NEXT_WAIT).await
    }

    async fn answer(&self, polled: &Polled, name: &Name, wait: Duration) -> Rpc<PollInfo> {
        let Some(ended) = polled.ended(wait).await else {
            return self.still_running(polled, name).map_err(status);
        };
        let ran = ended?;
        let mut info = polled.info.lock();
        let info = match &*info {
            Some(info) => info.clone(),
            None => {
                let (session, descriptor) = (polled.session, polled.descriptor.clone());
                let made = self.promise_ran(session, &ran, descriptor, &polled.query.id);
                info.insert(made.map_err(status)?).clone()
            }
        };
        Ok(complete(info))
    }

    fn still_running(&self, polled: &Polled, name: &Name) -> Result<PollInfo> {
        let expires = tickets::in_future(UNFETCHED);
        let command = Any {
            type_url: POLL_TYPE.to_owned(),
            value: self.statements.signer.sign(Purpose::Poll, name, expires),
        };
        let descriptor = polled.descriptor.clone();
        let info = info_of(&polled.schema, None, descriptor, &polled.query.id)?;
        Ok(PollInfo {
            info: Some(info.with_total_records(-1)),
            flight_descriptor: Some(FlightDescriptor::new_cmd(command.encode_to_vec())),
            progress: polled.query.figures().progress(),
            expiration_time: Some(tickets::timestamp(expires)),
        })
    }
}

/// The answer about a result that can be fetched.
fn complete(info: FlightInfo) -> PollInfo {
    PollInfo {
        info: Some(info),
        flight_descriptor: None,
        progress: Some(1.0),
        expiration_time: None,
    }
}
