//! That a query failed, for all of its streams on this node.
//!
//! When the channel of one of its tasks breaks, no result can come of a query any more. Who waits for
//! the task's partitions does not notice by itself where a new worker has taken the place of the one
//! that was killed, on its address: it waits there for a plan that never comes.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use inshore_proto::error::WireError;
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

/// How long a failure is told to streams that begin after it: those of a query that is being started.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The queries that this node has channels or streams of.
#[derive(Debug, Default)]
pub(super) struct Fates {
    queries: Mutex<HashMap<Uuid, Weak<Fate>>>,
}

/// Whether a query failed.
#[derive(Debug, Default)]
pub(super) struct Fate {
    error: watch::Sender<Option<WireError>>,
}

impl Fates {
    /// The one of a query.
    pub fn of(&self, query_id: Uuid) -> Arc<Fate> {
        let mut queries = self.queries.lock();
        if let Some(fate) = queries.get(&query_id).and_then(Weak::upgrade) {
            return fate;
        }
        // Of the queries that are over nothing is kept.
        queries.retain(|_, fate| fate.strong_count() > 0);
        let fate = Arc::new(Fate::default());
        queries.insert(query_id, Arc::downgrade(&fate));
        fate
    }
}

impl Fate {
    /// The query failed. The first error counts.
    pub fn fail(self: &Arc<Self>, error: &WireError) {
        let is_first = self.error.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| error.clone());
            is_first
        });
        if is_first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let kept = Arc::clone(self);
            runtime.spawn(async move {
                tokio::time::sleep(REMEMBERED).await;
                drop(kept);
            });
        }
    }

    /// Waits until the query failed, which it need not.
    pub async fn failed(&self) -> WireError {
        let mut error = self.error.subscribe();
        loop {
            if let Some(error) = error.borrow_and_update().clone() {
                return error;
            }
            if error.changed().await.is_err() {
                // The sender lives as long as this.
                std::future::pending::<()>().await;
            }
        }
    }
}
