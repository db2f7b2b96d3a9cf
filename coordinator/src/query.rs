//! The life of a query: registered when it is planned, counted while it runs, finished exactly
//! once, with its totals read off the plan afterwards.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use futures::{Stream, StreamExt};
use inshore_engine::metrics::{self, Measured, QueryTotals, TaskFigures};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use uuid::Uuid;

use crate::result::ResultShape;
use crate::{Error, Result};

/// Finished queries that are remembered.
const FINISHED_KEPT: usize = 1_000;

/// How long the totals of a finished query are waited for.
const METRICS_PATIENCE: Duration = Duration::from_secs(5);

/// As long for one that failed or was cancelled: its plan holds memory, and its tasks need not report.
const BROKEN_METRICS_PATIENCE: Duration = Duration::from_millis(500);

/// Longest statement text that is remembered, in bytes.
const SQL_KEPT_BYTES: usize = 16 * 1024;

/// What a client gets for a statement. Dropping it cancels the query.
pub struct Execution {
    /// The query's id, as in `system.queries`.
    pub query_id: String,
    /// The schema of every batch of the stream.
    pub schema: SchemaRef,
    /// The result.
    pub stream: SendableRecordBatchStream,
}

/// Where a query stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Being planned, or waiting to be fetched.
    Planned,
    /// Running.
    Running,
    /// Ended with all its rows delivered.
    Finished,
    /// Ended with an error.
    Failed,
    /// Given up by the client.
    Cancelled,
}

impl State {
    /// The name in `system.queries`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "PLANNED",
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    fn has_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled)
    }
}

/// How long a statement may take, from its arrival to its last row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimit {
    /// So long.
    pub after: Duration,
    /// The setting that says so.
    pub setting: &'static str,
}

impl TimeLimit {
    fn error(self) -> Error {
        Error::Timeout {
            timeout_s: self.after.as_secs(),
            setting: self.setting,
        }
    }
}

/// One query as it is remembered.
#[derive(Debug)]
pub struct Query {
    /// Unique over coordinators and time.
    pub id: String,
    /// The statement's text, cut at 16 KiB.
    pub sql: String,
    /// The session that it came in.
    pub session: Uuid,
    /// The user of that session, if it said who it is.
    pub user: Option<Arc<str>>,
    /// When it arrived.
    pub submitted: SystemTime,
    /// Somebody wants it to end.
    cancelled: CancellationToken,
    started: Instant,
    rows: AtomicU64,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    state: State,
    elapsed: Option<Duration>,
    totals: QueryTotals,
    measured: bool,
    tasks: Vec<TaskFigures>,
    error: Option<String>,
}

/// A query's figures at one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Where it stands.
    pub state: State,
    /// From arrival to the end, or to now.
    pub elapsed: Duration,
    /// Rows delivered.
    pub rows: u64,
    /// Stages, tasks and bytes.
    pub totals: QueryTotals,
    /// Whether the bytes are known: they are a moment after the query has ended, unless a task
    /// that never ran kept its figures back.
    pub measured: bool,
    /// The error's text, if it failed.
    pub error: Option<String>,
}

impl Figures {
    /// How far it is, from 0 to 1, as far as that is known.
    pub fn progress(&self) -> Option<f64> {
        match self.state {
            State::Planned => Some(0.0),
            State::Finished => Some(1.0),
            State::Running | State::Failed | State::Cancelled => None,
        }
    }
}

impl Query {
    /// The figures now.
    pub fn figures(&self) -> Figures {
        let progress = self.progress.lock();
        Figures {
            state: progress.state,
            elapsed: progress.elapsed.unwrap_or_else(|| self.started.elapsed()),
            rows: self.rows.load(Ordering::Relaxed),
            totals: progress.totals,
            measured: progress.measured,
            error: progress.error.clone(),
        }
    }

    /// Ends when somebody wants the query to end.
    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// What `work` gives, or an error as soon as somebody wants the query to end, or its time is
    /// over.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Timeout`], and those of `work`.
    pub(crate) async fn within<T>(
        &self,
        limit: Option<TimeLimit>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let over = async {
            match limit {
                Some(limit) => {
                    tokio::time::sleep(self.left(limit)).await;
                    limit.error()
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Err(Error::Cancelled),
            error = over => Err(error),
            done = work => done,
        }
    }

    fn left(&self, limit: TimeLimit) -> Duration {
        limit.after.saturating_sub(self.started.elapsed())
    }

    /// The tasks that it was cut into.
    pub(crate) fn has_tasks(&self, tasks: Vec<TaskFigures>) {
        self.progress.lock().tasks = tasks;
    }

    /// The tasks that it was cut into, the coordinator's own first.
    pub fn tasks(&self) -> Vec<TaskFigures> {
        self.progress.lock().tasks.clone()
    }

    fn is_waiting(&self) -> bool {
        self.progress.lock().state == State::Planned
    }

    fn measured(&self, measured: Measured) {
        let mut progress = self.progress.lock();
        progress.totals = measured.totals;
        progress.measured = true;
        for (task, figures) in progress.tasks.iter_mut().zip(measured.tasks) {
            task.measured = figures.measured;
        }
    }

    fn end(&self, state: State, error: Option<String>) {
        let mut progress = self.progress.lock();
        if !progress.state.has_ended() {
            progress.state = state;
            progress.elapsed = Some(self.started.elapsed());
            progress.error = error;
        }
    }
}

/// Running and recent queries of one coordinator.
#[derive(Debug, Default)]
pub struct Queries {
    inner: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    running: HashMap<String, Arc<Query>>,
    ended: VecDeque<Arc<Query>>,
}

impl Queries {
    /// Registers a statement.
    pub fn begin(&self, sql: &str, session: Uuid, user: Option<Arc<str>>) -> Arc<Query> {
        let query = Arc::new(Query {
            id: Uuid::now_v7().to_string(),
            sql: truncated(sql),
            session,
            user,
            cancelled: CancellationToken::new(),
            submitted: SystemTime::now(),
            started: Instant::now(),
            rows: AtomicU64::new(0),
            progress: Mutex::new(Progress {
                state: State::Planned,
                elapsed: None,
                totals: QueryTotals::default(),
                measured: false,
                tasks: vec![],
                error: None,
            }),
        });
        self.inner
            .lock()
            .running
            .insert(query.id.clone(), Arc::clone(&query));
        query
    }

    /// Has a query end. False when it has ended already.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an id that is not remembered.
    pub fn cancel(&self, id: &str) -> Result<bool> {
        let inner = self.inner.lock();
        if let Some(query) = inner.running.get(id).cloned() {
            drop(inner);
            query.cancelled.cancel();
            // Nobody may come for it any more.
            if query.is_waiting() {
                self.end_with(&query, &Error::Cancelled);
            }
            return Ok(true);
        }
        match inner.ended.iter().any(|query| query.id == id) {
            true => Ok(false),
            false => Err(Error::NotFound(format!(
                "there is no query {id}; system.queries has their ids"
            ))),
        }
    }

    /// Ends a query that never ran, or ran without a stream.
    pub fn end(&self, query: &Arc<Query>, state: State, error: Option<String>) {
        query.end(state, error);
        let mut inner = self.inner.lock();
        if inner.running.remove(&query.id).is_some() {
            inner.ended.push_back(Arc::clone(query));
            if inner.ended.len() > FINISHED_KEPT {
                inner.ended.pop_front();
            }
        }
    }

    /// Ends a query that failed, or was cancelled.
    pub(crate) fn end_with(&self, query: &Arc<Query>, error: &Error) {
        let state = match error {
            Error::Cancelled => State::Cancelled,
            _ => State::Failed,
        };
        self.end(query, state, Some(error.to_string()));
    }

    /// All remembered queries, oldest first.
    pub fn all(&self) -> Vec<Arc<Query>> {
        let inner = self.inner.lock();
        let mut all: Vec<_> = inner
            .ended
            .iter()
            .chain(inner.running.values())
            .cloned()
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// The sessions that have queries which have not ended.
    pub fn busy_sessions(&self) -> HashSet<Uuid> {
        let inner = self.inner.lock();
        inner.running.values().map(|query| query.session).collect()
    }

    /// Queries that have not ended.
    pub fn running(&self) -> usize {
        self.inner.lock().running.len()
    }
}

fn truncated(sql: &str) -> String {
    if sql.len() <= SQL_KEPT_BYTES {
        return sql.to_owned();
    }
    let mut end = SQL_KEPT_BYTES;
    while !sql.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &sql[..end])
}

/// A query's result on its way to the client. Ends the query when it is exhausted, fails, or is
/// dropped.
pub struct ResultStream {
    inner: Option<SendableRecordBatchStream>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    shape: ResultShape,
    plan: Option<Arc<dyn ExecutionPlan>>,
    query: Arc<Query>,
    queries: Arc<Queries>,
    deadline: Option<(Pin<Box<tokio::time::Sleep>>, TimeLimit)>,
}

impl ResultStream {
    /// Wraps the stream that `plan` was started into. `limit` counts from the query's arrival.
    pub fn new(
        inner: SendableRecordBatchStream,
        shape: ResultShape,
        plan: Arc<dyn ExecutionPlan>,
        query: Arc<Query>,
        queries: Arc<Queries>,
        limit: Option<TimeLimit>,
    ) -> Self {
        {
            let mut progress = query.progress.lock();
            // It may have been cancelled meanwhile.
            if !progress.state.has_ended() {
                progress.state = State::Running;
            }
            progress.totals = metrics::shape(&plan).unwrap_or_default();
        }
        let deadline = limit.map(|limit| (Box::pin(tokio::time::sleep(query.left(limit))), limit));
        Self {
            inner: Some(inner),
            cancelled: Box::pin(query.cancelled.clone().cancelled_owned()),
            shape,
            plan: Some(plan),
            query,
            queries,
            deadline,
        }
    }

    /// Ends the query. What its workers report afterwards is added by a task that ends by itself
    /// after [`METRICS_PATIENCE`] at the latest.
    fn end(&mut self, state: State, error: Option<String>) {
        self.inner = None;
        let Some(plan) = self.plan.take() else {
            return;
        };
        // What has not given way yet hears of it.
        self.query.cancelled.cancel();
        self.queries.end(&self.query, state, error);
        let query = Arc::clone(&self.query);
        let patience = match state {
            State::Finished => METRICS_PATIENCE,
            _ => BROKEN_METRICS_PATIENCE,
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Ok(Some(measured)) = metrics::measured(plan, patience).await {
                    query.measured(measured);
                }
            });
        }
    }
}

impl ResultStream {
    /// Ends the query with an error, which then names it.
    fn fail(&mut self, state: State, error: Error) -> DataFusionError {
        self.end(state, Some(error.to_string()));
        DataFusionError::External(Box::new(error.of_query(&self.query.id)))
    }
}

impl Stream for ResultStream {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some((sleep, limit)) = &mut this.deadline
            && this.inner.is_some()
            && sleep.as_mut().poll(cx).is_ready()
        {
            let error = limit.error();
            return Poll::Ready(Some(Err(this.fail(State::Failed, error))));
        }
        if this.inner.is_some() && this.cancelled.as_mut().poll(cx).is_ready() {
            let error = this.fail(State::Cancelled, Error::Cancelled);
            return Poll::Ready(Some(Err(error)));
        }
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let next = std::task::ready!(inner.poll_next_unpin(cx));
        let shaped = next.map(|batch| batch.and_then(|batch| this.shape.apply(batch)));
        Poll::Ready(match shaped {
            Some(Ok(batch)) => {
                let rows = batch.num_rows() as u64;
                this.query.rows.fetch_add(rows, Ordering::Relaxed);
                Some(Ok(batch))
            }
            Some(Err(error)) => Some(Err(this.fail(State::Failed, Error::Execution(error)))),
            None => {
                this.end(State::Finished, None);
                None
            }
        })
    }
}

impl Drop for ResultStream {
    fn drop(&mut self) {
        self.end(State::Cancelled, None);
    }
}
