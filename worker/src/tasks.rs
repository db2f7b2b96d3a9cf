//! The tasks of a worker.
//!
//! ```text
//!   asked for              plan arrives          plan is set
//!   ---------> Expected ---------------> Starting ----------> Running
//!                 |                         |                    |
//!                 | nobody waits            | plan is bad        | channel ends, cancelled
//!                 v                         v                    v
//!              forgotten                   over, with a reason that is remembered for a while
//! ```
//!
//! Partitions may be asked for before the plan arrives, since both are under way at once, and after
//! the task is over, when a consumer that was cancelled too tells so. The first wait for a bounded
//! time; the second are told why at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use inshore_proto::error::{Code, RetryVerdict, WireError};
use inshore_proto::task::TaskId;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long those who ask for partitions wait for the plan.
pub const PLAN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long it is remembered why a task is over.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Of how many tasks, and of how many cancelled queries, that is remembered.
const MAX_REMEMBERED: u64 = 16 * 1024;

/// Tasks at once, the expected ones included.
const MAX_TASKS: usize = 64 * 1024;

/// The tasks of a worker. Clones share them.
#[derive(Clone)]
pub struct Tasks {
    inner: Arc<Inner>,
}

struct Inner {
    tasks: Mutex<HashMap<TaskId, Task>>,
    /// Why tasks are over.
    over: Cache<TaskId, WireError>,
    cancelled_queries: Cache<Uuid, ()>,
    /// Number of tasks that start or run.
    running: watch::Sender<usize>,
}

struct Task {
    phase: watch::Sender<Phase>,
    cancel: CancellationToken,
    /// How many wait for it to run.
    waiting: usize,
    /// The coordinator's channel ended while the plan was being set.
    channel_ended: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    Expected,
    Starting,
    Running,
    Over(WireError),
}

impl Task {
    fn new(phase: Phase) -> Self {
        Self {
            phase: watch::Sender::new(phase),
            cancel: CancellationToken::new(),
            waiting: 0,
            channel_ended: false,
        }
    }

    fn is_expected(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Expected)
    }
}

impl Default for Tasks {
    fn default() -> Self {
        let remembered = || {
            Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(REMEMBERED)
        };
        Self {
            inner: Arc::new(Inner {
                tasks: Mutex::new(HashMap::new()),
                over: remembered().build(),
                cancelled_queries: Cache::builder()
                    .max_capacity(MAX_REMEMBERED)
                    .time_to_live(REMEMBERED)
                    .build(),
                running: watch::Sender::new(0),
            }),
        }
    }
}

impl Tasks {
    /// Number of tasks that start or run.
    pub fn running(&self) -> usize {
        *self.inner.running.borrow()
    }

    /// The queries that have tasks here.
    pub fn queries(&self) -> Vec<Uuid> {
        let tasks = self.inner.tasks.lock();
        let mut queries: Vec<_> = tasks.keys().map(|id| id.query_id).collect();
        queries.sort_unstable();
        queries.dedup();
        queries
    }

    /// Waits until no task starts or runs.
    pub async fn idle(&self) {
        let mut running = self.inner.running.subscribe();
        // The sender lives as long as this.
        let _ = running.wait_for(|running| *running == 0).await;
    }

    /// A plan arrived. The task starts, and is over when [`Starting`] or the [`ChannelGuard`] made
    /// from it is dropped.
    pub fn begin(&self, id: TaskId) -> Result<Starting, WireError> {
        let mut tasks = self.inner.tasks.lock();
        self.refuse_dead(id)?;
        let task = match tasks.get_mut(&id) {
            Some(task) if task.is_expected() => task,
            Some(_) => {
                return Err(WireError::new(
                    Code::InvalidArgument,
                    RetryVerdict::Never,
                    format!("{id} exists already"),
                ));
            }
            None => {
                bounded(tasks.len())?;
                tasks
                    .entry(id)
                    .or_insert_with(|| Task::new(Phase::Expected))
            }
        };
        task.phase.send_replace(Phase::Starting);
        let cancel = task.cancel.clone();
        self.inner.running.send_modify(|running| *running += 1);
        Ok(Starting {
            inner: Arc::clone(&self.inner),
            id,
            cancel,
            decided: false,
        })
    }

    /// There will be no plan. Whoever asks for the task's partitions is told why.
    pub fn abort(&self, id: TaskId, error: WireError) {
        let mut tasks = self.inner.tasks.lock();
        if tasks.get(&id).is_none_or(Task::is_expected) {
            self.inner.finish(&mut tasks, id, error);
        }
    }

    /// Waits until the task runs. The token is cancelled when it is over.
    pub async fn wait(
        &self,
        id: TaskId,
        timeout: Duration,
    ) -> Result<CancellationToken, WireError> {
        let (mut phase, cancel, waiting) = self.subscribe(id)?;
        let decided = phase.wait_for(|phase| matches!(phase, Phase::Running | Phase::Over(_)));
        let decided = tokio::time::timeout(timeout, decided).await;
        drop(waiting);
        match decided {
            Ok(Ok(phase)) => match &*phase {
                Phase::Over(error) => Err(error.clone()),
                _ => Ok(cancel),
            },
            Ok(Err(_)) => Err(self.reason(id)),
            Err(_) => Err(WireError::new(
                Code::Unavailable,
                RetryVerdict::Retry,
                format!("no plan arrived for {id} within {} s", timeout.as_secs()),
            )),
        }
    }

    /// Why a task is over.
    pub fn reason(&self, id: TaskId) -> WireError {
        self.inner.over.get(&id).unwrap_or_else(|| query_over(id))
    }

    /// Ends all tasks of a query. Returns how many were starting or running.
    pub fn cancel_query(&self, query_id: Uuid) -> usize {
        self.inner.cancelled_queries.insert(query_id, ());
        self.cancel(|id| id.query_id == query_id, cancelled)
    }

    /// Ends all tasks, for the given reason.
    pub fn cancel_all(&self, reason: impl Fn(TaskId) -> WireError) -> usize {
        self.cancel(|_| true, reason)
    }

    fn cancel(
        &self,
        chosen: impl Fn(&TaskId) -> bool,
        reason: impl Fn(TaskId) -> WireError,
    ) -> usize {
        let mut tasks = self.inner.tasks.lock();
        let ids: Vec<_> = tasks.keys().filter(|id| chosen(id)).copied().collect();
        let mut ended = 0;
        for id in ids {
            ended += usize::from(tasks.get(&id).is_some_and(|task| !task.is_expected()));
            self.inner.finish(&mut tasks, id, reason(id));
        }
        ended
    }

    fn refuse_dead(&self, id: TaskId) -> Result<(), WireError> {
        if self.inner.cancelled_queries.contains_key(&id.query_id) {
            return Err(cancelled(id));
        }
        match self.inner.over.get(&id) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn subscribe(
        &self,
        id: TaskId,
    ) -> Result<(watch::Receiver<Phase>, CancellationToken, Waiting), WireError> {
        let mut tasks = self.inner.tasks.lock();
        self.refuse_dead(id)?;
        if !tasks.contains_key(&id) {
            bounded(tasks.len())?;
        }
        let task = tasks
            .entry(id)
            .or_insert_with(|| Task::new(Phase::Expected));
        task.waiting += 1;
        let waiting = Waiting {
            inner: Arc::clone(&self.inner),
            id,
        };
        Ok((task.phase.subscribe(), task.cancel.clone(), waiting))
    }
}

impl Inner {
    /// The task is over. Needs the lock to be held, since others decide by what they see.
    fn finish(&self, tasks: &mut HashMap<TaskId, Task>, id: TaskId, error: WireError) {
        let counted = match tasks.remove(&id) {
            Some(task) => {
                let counted = !task.is_expected();
                self.over.insert(id, error.clone());
                task.phase.send_replace(Phase::Over(error));
                task.cancel.cancel();
                counted
            }
            None => {
                self.over.insert(id, error);
                false
            }
        };
        if counted {
            self.running
                .send_modify(|running| *running = running.saturating_sub(1));
        }
    }
}

fn bounded(tasks: usize) -> Result<(), WireError> {
    if tasks < MAX_TASKS {
        return Ok(());
    }
    Err(WireError::new(
        Code::ResourceExhausted,
        RetryVerdict::Elsewhere,
        format!("the worker has {tasks} tasks already"),
    ))
}

fn query_over(id: TaskId) -> WireError {
    let message = format!("{id} is over: its coordinator ended it or is gone");
    WireError::new(Code::Cancelled, RetryVerdict::Never, message)
}

fn cancelled(id: TaskId) -> WireError {
    let message = format!("{id} was cancelled");
    WireError::new(Code::Cancelled, RetryVerdict::Never, message)
}

/// Somebody waits for a task to run.
struct Waiting {
    inner: Arc<Inner>,
    id: TaskId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut tasks = self.inner.tasks.lock();
        let Some(task) = tasks.get_mut(&self.id) else {
            return;
        };
        task.waiting = task.waiting.saturating_sub(1);
        if task.waiting == 0 && task.is_expected() {
            tasks.remove(&self.id);
        }
    }
}

/// A task whose plan is being set.
pub struct Starting {
    inner: Arc<Inner>,
    id: TaskId,
    cancel: CancellationToken,
    decided: bool,
}

impl Starting {
    /// Cancelled when the task is over.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// To be dropped when the coordinator's channel ends.
    pub fn channel_guard(&self) -> ChannelGuard {
        ChannelGuard {
            inner: Arc::clone(&self.inner),
            id: self.id,
        }
    }

    /// The plan is set: partitions may be taken.
    pub fn run(mut self) {
        self.decided = true;
        let mut tasks = self.inner.tasks.lock();
        match tasks.get(&self.id) {
            Some(task) if task.channel_ended => {
                self.inner.finish(&mut tasks, self.id, query_over(self.id));
            }
            Some(task) => {
                task.phase.send_replace(Phase::Running);
            }
            // Cancelled meanwhile.
            None => {}
        }
    }

    /// The plan is bad.
    pub fn fail(mut self, error: WireError) {
        self.decided = true;
        let mut tasks = self.inner.tasks.lock();
        if tasks.contains_key(&self.id) {
            self.inner.finish(&mut tasks, self.id, error);
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // The call that was to start it was cancelled.
        if !self.decided {
            let mut tasks = self.inner.tasks.lock();
            if tasks.contains_key(&self.id) {
                self.inner.finish(&mut tasks, self.id, query_over(self.id));
            }
        }
    }
}

/// Held by the coordinator's half of the channel. The task is over when it is dropped.
pub struct ChannelGuard {
    inner: Arc<Inner>,
    id: TaskId,
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        let mut tasks = self.inner.tasks.lock();
        let Some(task) = tasks.get_mut(&self.id) else {
            return;
        };
        let phase = task.phase.borrow().clone();
        match phase {
            // Whoever starts it knows better why it did not work.
            Phase::Starting => task.channel_ended = true,
            _ => self.inner.finish(&mut tasks, self.id, query_over(self.id)),
        }
    }
}
