//! Changing a table: updates of the newest metadata, which the catalog takes if no other writer was
//! quicker (Iceberg specification, "Optimistic Concurrency").
//!
//! ```text
//! metadata as it is -> updates -> commit: swap of a pointer, or a request with requirements
//!    ^                              | another writer was quicker
//!    +--- wait, a few times --------+
//! ```

use std::time::Duration;

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::{MetadataLog, TableMetadata};
use iceberg::table::Table;

use super::backend::Backend;
use super::{Catalogs, files};
use crate::{Error, Result, TableName};

/// Properties of a table that say how often a commit is tried, and their defaults.
const RETRIES: (&str, u32) = ("commit.retry.num-retries", 4);
const MIN_WAIT_MS: (&str, u64) = ("commit.retry.min-wait-ms", 100);
const MAX_WAIT_MS: (&str, u64) = ("commit.retry.max-wait-ms", 60_000);

/// Bounds of what a table may ask for.
const RETRIES_MAX: u32 = 100;
const WAIT_MS_MAX: u64 = 60_000;

/// One attempt takes as long as this many calls: reading and writing metadata, the commit, and a
/// look when its answer is lost.
pub(super) const CALLS_PER_ATTEMPT: u32 = 4;

/// A change of a table.
#[async_trait]
pub trait Change: Send + Sync {
    /// Works out the updates for the table as it is now; called again when another writer was
    /// quicker. None means that nothing has to change.
    ///
    /// # Errors
    /// Why the table cannot be changed so, or what could not be written.
    async fn updates(&self, table: &Table) -> Result<Vec<TableUpdate>>;

    /// The files that the change wrote and that nothing refers to, after it was `committed` or
    /// given up.
    fn unused(&self, _committed: bool) -> Vec<String> {
        vec![]
    }
}

impl Catalogs {
    /// Changes a table; gives it as it is afterwards, or none when there is no such table.
    ///
    /// # Errors
    /// What `change` gives; [`Error::Conflict`] when other writers were quicker every time, or the
    /// updates do not fit the table; [`Error::Refused`] for catalogs that cannot, and for tables whose
    /// metadata holds what would be lost; [`Error::CommitUnknown`] when the answer was lost.
    pub async fn change_table(
        &self,
        name: &TableName,
        change: &dyn Change,
    ) -> Result<Option<Table>> {
        let changed = self.change_until_done(name, change).await;
        let unused = match &changed {
            // What may be committed must stay.
            Err(Error::CommitUnknown { .. }) => return changed,
            Ok(Some(_)) => change.unused(true),
            Ok(None) | Err(_) => change.unused(false),
        };
        for location in unused {
            files::remove(&self.shared.file_io, &location).await;
        }
        changed
    }

    async fn change_until_done(
        &self,
        name: &TableName,
        change: &dyn Change,
    ) -> Result<Option<Table>> {
        if !self.contains(&name.catalog) {
            return Ok(None);
        }
        let backend = self.backend(&name.catalog).await?;
        let mut attempt = 0;
        loop {
            let once = self.try_change(backend, name, change);
            let deadline = self.shared.call_deadline * CALLS_PER_ATTEMPT;
            let Ok(outcome) = tokio::time::timeout(deadline, once).await else {
                return Err(Error::CommitUnknown {
                    table: name.to_string(),
                    why: format!("no answer within {} s", deadline.as_secs_f32()),
                });
            };
            let policy = match outcome? {
                Attempt::Missing => return Ok(None),
                Attempt::Done(table) => return Ok(Some(table)),
                Attempt::Late(policy) => policy,
            };
            policy.next(name, &mut attempt).await?;
        }
    }

    async fn try_change(
        &self,
        backend: &dyn Backend,
        name: &TableName,
        change: &dyn Change,
    ) -> Result<Attempt> {
        let Some(before) = backend.newest(name).await? else {
            return Ok(Attempt::Missing);
        };
        let updates = change.updates(&before).await?;
        if updates.is_empty() {
            return Ok(Attempt::Done(before));
        }
        Ok(match backend.commit(name, &before, updates).await? {
            Some(after) => Attempt::Done(after),
            None => Attempt::Late(Policy::of(before.metadata())),
        })
    }
}

enum Attempt {
    Done(Table),
    Missing,
    /// Another writer was quicker.
    Late(Policy),
}

/// Metadata after updates, and the metadata files that fell out of its log.
pub(super) struct Built {
    pub metadata: TableMetadata,
    pub expired: Vec<MetadataLog>,
}

/// The metadata after `updates`; `from` is where it was before.
pub(super) fn built(
    name: &TableName,
    base: &TableMetadata,
    from: Option<&str>,
    updates: Vec<TableUpdate>,
) -> Result<Built> {
    let refused = |error: iceberg::Error| {
        Error::Conflict(format!(
            "table {name} cannot be changed: {}",
            error.message()
        ))
    };
    let mut builder = base.clone().into_builder(from.map(str::to_owned));
    for update in updates {
        builder = update.apply(builder).map_err(refused)?;
    }
    let built = builder.build().map_err(refused)?;
    Ok(Built {
        metadata: built.metadata,
        expired: built.expired_metadata_logs,
    })
}

/// How often and after which waits a commit is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Policy {
    retries: u32,
    min_wait_ms: u64,
    max_wait_ms: u64,
}

impl Policy {
    pub fn of(metadata: &TableMetadata) -> Self {
        let number = |(key, default): (&str, u64)| {
            let value = metadata.properties().get(key);
            value.and_then(|v| v.parse().ok()).unwrap_or(default)
        };
        let retries = number((RETRIES.0, u64::from(RETRIES.1)));
        let max_wait_ms = number(MAX_WAIT_MS).min(WAIT_MS_MAX);
        Self {
            retries: u32::try_from(retries).map_or(RETRIES_MAX, |n| n.min(RETRIES_MAX)),
            min_wait_ms: number(MIN_WAIT_MS).min(max_wait_ms),
            max_wait_ms,
        }
    }

    /// Waits for the next attempt.
    ///
    /// # Errors
    /// [`Error::Conflict`] when there have been enough.
    pub async fn next(self, name: &TableName, attempt: &mut u32) -> Result<()> {
        if *attempt >= self.retries {
            return Err(Error::Conflict(format!(
                "table {name} was changed by other writers {} times while this change was being \
                 committed; run the statement again",
                *attempt + 1
            )));
        }
        tokio::time::sleep(self.wait(*attempt)).await;
        *attempt += 1;
        Ok(())
    }

    /// Twice as long each time, and a part of it by chance, so that writers do not meet again.
    fn wait(self, attempt: u32) -> Duration {
        let doubled = self.min_wait_ms.saturating_mul(1 << attempt.min(20));
        let full = doubled.min(self.max_wait_ms);
        let chance = uuid::Uuid::new_v4().as_u128() as u64;
        Duration::from_millis(full / 2 + chance % (full / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn waits_grow_up_to_their_bound() {
        let policy = Policy {
            retries: 4,
            min_wait_ms: 100,
            max_wait_ms: 1_000,
        };
        for attempt in 0..64 {
            let wait = policy.wait(attempt).as_millis();
            let full = (100_u128 << attempt.min(20)).min(1_000);
            assert!((full / 2..=full).contains(&wait), "{wait} after {attempt}");
        }
    }
}
